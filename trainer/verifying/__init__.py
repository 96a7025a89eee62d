"""Recomputing what a run logged, from one of its checkpoints."""
