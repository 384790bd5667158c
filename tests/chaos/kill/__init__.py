"""Chaos with real processes and real servers; see __main__ for its options."""
