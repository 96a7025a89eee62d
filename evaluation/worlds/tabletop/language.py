"""Instructions: every task is given in words only, in one of many phrasings."""

from __future__ import annotations

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.goals import Goal
from robot_foundry.evaluation.worlds.tabletop.objects import Scene

SHAPE_WORDS = {
    "cube": ("cube", "block", "box"),
    "can": ("can", "cylinder", "tin"),
    "ball": ("ball", "sphere"),
    "cone": ("cone",),
    "zone": ("zone", "square", "area"),
    "plate": ("plate", "dish", "disc"),
}
ARM_WORDS = ("right", "left")

PHRASES = {
    "reach": (
        "touch the {target}",
        "reach the {target}",
        "go to the {target}",
        "move to the {target}",
        "point at the {target}",
        "put your fingertip on the {target}",
        "tap the {target}",
        "bring the gripper to the {target}",
        "could you touch the {target}",
        "please reach for the {target}",
    ),
    "push": (
        "push the {target} into the {place}",
        "push the {target} to the {place}",
        "slide the {target} onto the {place}",
        "shove the {target} into the {place}",
        "move the {target} into the {place} without lifting it",
        "please push the {target} over to the {place}",
        "nudge the {target} until it is in the {place}",
        "into the {place} push the {target}",
    ),
    "pick_place": (
        "put the {target} on the {place}",
        "place the {target} on the {place}",
        "pick up the {target} and put it on the {place}",
        "lift the {target} onto the {place}",
        "set the {target} down on the {place}",
        "move the {target} to the {place}",
        "please put the {target} on the {place}",
        "the {target} belongs on the {place}",
    ),
    "stack": (
        "stack the {target} on the {place}",
        "put the {target} on top of the {place}",
        "place the {target} on the {place}",
        "build a tower with the {target} on the {place}",
        "pick up the {target} and stack it on the {place}",
        "set the {target} on top of the {place}",
        "please stack the {target} onto the {place}",
        "the {target} goes on top of the {place}",
    ),
    "handover": (
        "hand the {target} from the {giver} arm to the {taker} arm",
        "pass the {target} to your {taker} hand",
        "give the {target} to the {taker} gripper",
        "pick up the {target} with the {giver} arm and pass it to the {taker} arm",
        "take the {target} in the {giver} hand and hand it over to the {taker} hand",
        "transfer the {target} from {giver} to {taker}",
        "please hand the {target} over to the {taker} arm",
        "let the {taker} arm take the {target} from the {giver} arm",
    ),
}


def instruction(scene: Scene, goal: Goal, rng: np.random.Generator) -> str:
    """One phrasing of the goal; the words for shapes vary, the colours name each thing uniquely."""

    def name(colour: str, shape: str) -> str:
        return f"{colour} {rng.choice(SHAPE_WORDS[shape])}"

    target = scene.solids[goal.target]
    words = {"target": name(target.colour, target.shape)}
    if goal.kind in ("push", "pick_place"):
        mark = scene.marks[goal.place]
        words["place"] = name(mark.colour, mark.shape)
    elif goal.kind == "stack":
        base = scene.solids[goal.place]
        words["place"] = name(base.colour, base.shape)
    elif goal.kind == "handover":
        words |= {"giver": ARM_WORDS[goal.giver], "taker": ARM_WORDS[goal.taker]}
    return str(rng.choice(PHRASES[goal.kind])).format(**words)
