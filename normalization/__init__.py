"""Rotations, poses, named spaces, action representations, statistics and normalisation (NumPy only)."""
