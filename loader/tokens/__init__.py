"""Packed rows of tokens."""
