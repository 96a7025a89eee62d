"""Recipes: YAML and overrides to a configuration."""
