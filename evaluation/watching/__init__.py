"""Evaluation of a run's checkpoints while it trains, in a process of its own."""
