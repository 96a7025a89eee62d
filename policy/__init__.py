"""Trained policies: from an observation in robot units to a chunk of targets in robot units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robot_foundry.policy.actions import Actions, Underway

if TYPE_CHECKING:
    from robot_foundry.policy.policy import Policy

__all__ = ["Actions", "Policy", "Underway"]


def __getattr__(name: str) -> Any:
    # What asks a policy and moves the robot may have no torch: only the policy itself needs it.
    if name == "Policy":
        from robot_foundry.policy.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
