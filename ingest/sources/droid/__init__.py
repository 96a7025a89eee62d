"""DROID's raw recordings."""
