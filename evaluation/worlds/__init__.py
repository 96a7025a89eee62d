"""Worlds a policy can be rolled out in, by name."""
