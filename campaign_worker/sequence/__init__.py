"""Follow-ups: when the next step is due and whether it may still go out."""
