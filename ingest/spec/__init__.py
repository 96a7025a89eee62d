"""Specs: how a source is read, and how tables follow from it."""
