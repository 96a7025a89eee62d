"""Trained policies: from an observation in robot units to a chunk of targets in robot units."""
