"""Weights of other people in, and ours out, by the names of their formats."""
