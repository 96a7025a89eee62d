"""The quantities that a mapping may name, and their kinds; in which forms, `ingest.robot.forms` says.

A quantity is `<part>.<name>`, such as `right.ee_position`, of the naming scheme (normalization/space.py).
Rotations are written `ee_rotation` here and stored as `ee_rot6d`, the first two columns of the matrix.
"""

from __future__ import annotations

import re

from robot_foundry.normalization import space
from robot_foundry.normalization.space import PARTS

POSITION, ROTATION, GRIPPER, JOINT = "position", "rotation", "gripper", "joint"
NUMBERS = "numbers"  # one, or one for each of its components: velocities, forces, the pose of a base
OWN = "own"  # a name beyond the scheme: the field gives names to its components
QUANTITIES = {"ee_position": POSITION, "ee_rotation": ROTATION, "gripper_opening": GRIPPER} | {
    name: JOINT if quantity.components is None else NUMBERS
    for name, quantity in space.QUANTITIES.items()
    if name not in ("ee_position", "ee_rot6d", "gripper_opening")
}
_PART = re.compile(r"[a-z][a-z0-9_]*")
COMPONENT = re.compile(r"[a-z0-9_]{1,60}")


def num_components(quantity: str) -> int:
    """How many numbers a quantity of the kind `numbers` has."""
    return len(space.QUANTITIES[quantity.partition(".")[2]].components or ("itself",))


def units_of(quantity: str) -> tuple[str, ...]:
    """The units that a joint's numbers may have: first that of one that turns, then of one that slides."""
    named = space.QUANTITIES[quantity.partition(".")[2]]
    return tuple(unit for unit in (named.unit, named.linear_unit) if unit is not None)


def quantity_kind(quantity: str) -> str | None:
    """position, rotation, gripper, joint, numbers, or own for a name beyond the scheme; None if it is none.

    Parts may have names of one's own, as a second pose of an arm needs one.
    """
    part, _, name = quantity.partition(".")
    if not _PART.fullmatch(part):
        return None
    is_free = _PART.fullmatch(name) is not None and name not in space.QUANTITIES
    return QUANTITIES.get(name, OWN if is_free else None)


def misspelt_part(quantity: str) -> str | None:
    """The known part that the part's name misses by one letter: then it is no name of one's own."""
    part = quantity.partition(".")[0]
    if part in PARTS or not part.replace("_", "").isalpha():
        return None
    return next((part_name for part_name in PARTS if _one_letter_apart(part, part_name)), None)


def _one_letter_apart(a: str, b: str) -> bool:
    """Whether one letter is missing, added or another, or two neighbours have changed places."""
    short, long = sorted((a, b), key=len)
    if len(long) != len(short):
        return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    unlike = [i for i in range(len(a)) if a[i] != b[i]]
    swapped = len(unlike) == 2 and unlike[1] - unlike[0] == 1 and sorted(a) == sorted(b)
    return len(unlike) == 1 or swapped


def all_quantities() -> list[str]:
    return [f"{part}.{name}" for part in PARTS for name in QUANTITIES]


def canonical_name(quantity: str) -> str:
    """The name of the quantity in the tables."""
    return quantity.removesuffix("ee_rotation") + "ee_rot6d" if quantity.endswith("ee_rotation") else quantity
