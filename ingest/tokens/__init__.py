"""How a version of text becomes one of tokens."""
