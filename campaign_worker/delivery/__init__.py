"""One recipient's mail: guard, claim, render, send, settle. Pure decisions and the ports they need."""
