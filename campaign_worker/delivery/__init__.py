"""One recipient's mail: guard, claim, render, send, settle. Decisions and their ports."""
