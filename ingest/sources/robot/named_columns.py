"""How readers tell of columns of which only the names are known; a mapping makes dims of these names."""

from __future__ import annotations

import re

from robot_foundry.ingest.robot.spec.quantities import OWN, quantity_kind

# Where they are in what is known of a file, by state and stream: quantity, key, first column, names; and as a
# fifth what they mean, where the source tells it: quantity, its form, names of one's own, units.
NAMED = "named_columns"
# The part and quantity of what nothing else names, and the stream of actions.
ROBOT, VALUE, COMMAND = "robot", "value", "command"
# An array of more numbers a row (a map of pressures, an embedding) is no list of joints.
MOST_NAMED = 256
LONGEST = 40
_NOT_PLAIN = re.compile(r"[^a-z0-9]+")


def plain(name: str) -> str:
    """A name in lower-case letters, digits and '_': kLeftElbow → k_left_elbow, pan.pos → pan_pos."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return _NOT_PLAIN.sub("_", spaced.lower()).strip("_")


def own_quantity(name: str) -> str:
    """A name beyond the scheme of quantities, so that it claims nothing of the scheme."""
    short = plain(name)[:LONGEST].strip("_")
    return short if quantity_kind(f"{ROBOT}.{short}") == OWN else f"{VALUE}_{short}".rstrip("_")
