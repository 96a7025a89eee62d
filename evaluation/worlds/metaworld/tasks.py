"""The fifty tasks by their names without the version, and what each is in words.

`reach` is Meta-World's reach-v3. A task is one sentence, made of the words of its name: all its episodes are
asked for alike, and no two tasks are.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robot_foundry.runtime.errors import UsageError, nearest

INSTRUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "assembly": "assemble the ring on the peg",
        "basketball": "put the basketball into the basket",
        "bin-picking": "pick the cube from the bin into the other bin",
        "box-close": "close the box with its lid",
        "button-press": "press the button",
        "button-press-topdown": "press the button from the top down",
        "button-press-topdown-wall": "press the button behind the wall from the top down",
        "button-press-wall": "press the button behind the wall",
        "coffee-button": "press the button of the coffee machine",
        "coffee-pull": "pull the mug from the coffee machine",
        "coffee-push": "push the mug under the coffee machine",
        "dial-turn": "turn the dial",
        "disassemble": "disassemble the ring from the peg",
        "door-close": "close the door",
        "door-lock": "lock the door",
        "door-open": "open the door",
        "door-unlock": "unlock the door",
        "drawer-close": "close the drawer",
        "drawer-open": "open the drawer",
        "faucet-close": "close the faucet",
        "faucet-open": "open the faucet",
        "hammer": "hammer the nail",
        "hand-insert": "insert the hand into the hole",
        "handle-press": "press the handle down",
        "handle-press-side": "press the handle down from the side",
        "handle-pull": "pull the handle up",
        "handle-pull-side": "pull the handle up from the side",
        "lever-pull": "pull the lever up",
        "peg-insert-side": "insert the peg from the side",
        "peg-unplug-side": "unplug the peg from the side",
        "pick-out-of-hole": "pick the puck out of the hole",
        "pick-place": "pick the puck and place it at the goal",
        "pick-place-wall": "pick the puck and place it at the goal behind the wall",
        "plate-slide": "slide the plate into the goal",
        "plate-slide-back": "slide the plate back out of the goal",
        "plate-slide-back-side": "slide the plate back out of the goal from the side",
        "plate-slide-side": "slide the plate into the goal from the side",
        "push": "push the puck to the goal",
        "push-back": "push the puck back to the goal",
        "push-wall": "push the puck to the goal behind the wall",
        "reach": "reach the goal",
        "reach-wall": "reach the goal behind the wall",
        "shelf-place": "place the cube on the shelf",
        "soccer": "push the soccer ball into the goal",
        "stick-pull": "pull the box with the stick",
        "stick-push": "push the box with the stick",
        "sweep": "sweep the cube off the table",
        "sweep-into": "sweep the cube into the hole",
        "window-close": "close the window",
        "window-open": "open the window",
    }
)


# What a task is about, by one word; the things of all its variations are alike.
THINGS: Mapping[str, str] = MappingProxyType(
    {
        "assembly": "ring",
        "basketball": "ball",
        "bin-picking": "cube",
        "box-close": "lid",
        "button-press": "button",
        "button-press-topdown": "button",
        "button-press-topdown-wall": "button",
        "button-press-wall": "button",
        "coffee-button": "button",
        "coffee-pull": "mug",
        "coffee-push": "mug",
        "disassemble": "ring",
        "door-close": "handle",
        "door-open": "handle",
        "drawer-close": "handle",
        "drawer-open": "handle",
        "faucet-close": "handle",
        "faucet-open": "handle",
        "hammer": "hammer",
        "handle-press": "handle",
        "handle-press-side": "handle",
        "lever-pull": "lever",
        "peg-insert-side": "peg",
        "peg-unplug-side": "peg",
        "pick-out-of-hole": "puck",
        "pick-place": "puck",
        "pick-place-wall": "puck",
        "plate-slide": "plate",
        "plate-slide-back": "plate",
        "plate-slide-side": "plate",
        "push": "puck",
        "push-back": "puck",
        "push-wall": "puck",
        "reach": "puck",
        "reach-wall": "puck",
        "shelf-place": "cube",
        "soccer": "ball",
        "stick-pull": "stick",
        "stick-push": "stick",
        "sweep": "cube",
        "sweep-into": "cube",
        "window-close": "handle",
        "window-open": "handle",
    }
)
# Whose goal is a mark that is shown by itself. The other tasks have none, or hide it in something.
MARKED = (
    "coffee-pull",
    "pick-out-of-hole",
    "pick-place",
    "pick-place-wall",
    "plate-slide-back",
    "push",
    "push-back",
    "push-wall",
    "reach",
    "reach-wall",
    "shelf-place",
)


def check_task(task: str) -> str:
    """The task itself; UsageError with the nearest name where there is none."""
    if task not in INSTRUCTIONS:
        raise UsageError(
            f"Meta-World has no task '{task}'{nearest(task, INSTRUCTIONS)}",
            hint=f"tasks: {', '.join(INSTRUCTIONS)}",
        )
    return task
