"""Terms that the tables of the oracle share: where the numbers of RLDS lie, and what they usually mean."""

from __future__ import annotations

from foundry_testing.oxe.expressions import (
    Expr,
    about_base,
    at,
    moved,
    opening,
    rpy,
)

OBS, ACT = "observation/", "action/"
WORLD, TURN = at(ACT + "world_vector"), at(ACT + "rotation_delta")
ACTION, STATE = "action", OBS + "state"
CLOSEDNESS = at(ACT + "gripper_closedness_action")
CLOSES = {"closed": 1.0, "opened": -1.0}
IS_CLOSED = {"closed": 1.0, "opened": 0.0}
IS_OPEN = {"closed": 0.0, "opened": 1.0}


def deltas(position: Expr, rotation: Expr, *, gripper: Expr) -> dict[str, Expr]:
    """A command of RT-1: displacements of the tool, about the axes of the base."""
    return {
        "ee_position": moved(position, WORLD),
        "ee_rotation": about_base(rotation, rpy(TURN)),
        "gripper_opening": gripper,
    }


def place(path: str, start: int = 0) -> Expr:
    """The three numbers of a position."""
    return at(path, start, start + 3)


def passed(start: int) -> Expr:
    """A command of the hand, 1 open, as it is."""
    return opening(at(ACTION, start, start + 1), **IS_OPEN)
