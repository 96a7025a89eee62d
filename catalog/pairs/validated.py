"""Damage and doubts of a version of pairs."""
