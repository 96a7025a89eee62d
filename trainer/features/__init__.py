"""What a frozen part of a model makes of a sample, kept so that it is made once."""
