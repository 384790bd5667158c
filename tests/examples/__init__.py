"""The apps of examples/ as they run; see __main__ for the long form."""
