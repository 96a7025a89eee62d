"""Backbones that `transformers` makes, in the place of ours."""
