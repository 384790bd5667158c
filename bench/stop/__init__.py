"""How fast a stop is when nothing goes wrong."""
