"""Which arrays are the state and the action, by the names that Diffusion Policy, DP3 and UMI give them.

None says units or frames, so their columns are dims of their own names, to which a spec gives a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robot_foundry.ingest.sources.robot.named_columns import (
    COMMAND,
    MOST_NAMED,
    ROBOT,
    VALUE,
    own_quantity,
)

STATE, ACTION = "state", "action"
# What a robot's own state is called where no array has the name of the state.
_OF_ROBOT = re.compile(r"robot.*|agent_pos|(.*_)?(eef|ee|joint|gripper|qpos)(_.*)?")
# Of UMI: where the demonstration begins and ends, the same in all of its rows.
_CONSTANT = re.compile(r".*demo_(start|end)_pose")


def named_columns(widths: Mapping[str, int]) -> dict[str, Any]:
    """Names of the columns of `state` and of each stream of `actions`, by the width of each array."""
    fitting = [name for name in sorted(widths) if 0 < widths[name] <= MOST_NAMED]
    of_state = [STATE] if STATE in fitting else [n for n in fitting if n != ACTION and _is_of_robot(n)]
    return {
        "state": [_named(name, widths[name]) for name in of_state],
        "actions": {COMMAND: [_named(ACTION, widths[ACTION])]} if ACTION in fitting else {},
    }


def _is_of_robot(name: str) -> bool:
    return _OF_ROBOT.fullmatch(name) is not None and _CONSTANT.fullmatch(name) is None


def _named(name: str, width: int) -> list[Any]:
    """Quantity, key, first column, names of the columns from it on."""
    quantity = VALUE if name in (STATE, ACTION) else own_quantity(name)
    return [f"{ROBOT}.{quantity}", name, 0, [str(column) for column in range(width)]]
