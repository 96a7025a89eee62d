"""Checkpoints: what is written, proven, kept and gone on from."""
