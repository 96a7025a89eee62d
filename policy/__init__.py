"""Trained policies: from an observation in robot units to a chunk of targets in robot units."""

from robot_foundry.policy.policy import Actions, Policy

__all__ = ["Actions", "Policy"]
