"""Sizes of models: named ones, what they must be, and what they cost."""
