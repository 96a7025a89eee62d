"""Formats in which demonstrations are written."""
