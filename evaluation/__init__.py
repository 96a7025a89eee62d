"""Closed-loop evaluation: worlds, scripted experts, collection, rollouts and their intervals."""
