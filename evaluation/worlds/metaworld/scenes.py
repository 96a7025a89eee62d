"""Pictures of Meta-World's tasks with the hand anywhere, and what can truly be said of where things are.

Said as the picture shows it: columns count from its left and rows from its top, 0 … BINS - 1, so "7 12" is
the place 7 bins to the right and 12 down. Ways are said as the robot has it, in steps of WAY_STEP m: right
and left along x, forward and back along y, up and down along z, from the point between the fingertips.
Shape suffixes: 3 position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.scenes import HELD_OUT, Described, Question
from robot_foundry.evaluation.worlds.metaworld.eye import Eye
from robot_foundry.evaluation.worlds.metaworld.sawyer import Sawyer
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS, MARKED, THINGS, check_task
from robot_foundry.evaluation.worlds.metaworld.views import View, get_look
from robot_foundry.evaluation.worlds.metaworld.world import check_cameras
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.keyed import generator, key

BINS = 16
WAY_STEP = 0.03
NEAR, FAR = 0.10, 0.20  # m between the hand and a thing
LOW_3, HIGH_3 = (-0.35, 0.45, 0.08), (0.35, 0.9, 0.35)  # of the hand
TIP_BELOW = 0.045  # m that the fingertips are beneath the hand
MOST_DRAWS = 50
# Pictures in a row of one task: another one may have to be compiled first.
RUN_OF_PICTURES = 20
APART = 1.0 / BINS  # what is left of something in the picture is at least this far left of it
LISTS = 0.4  # of the pictures to learn from are asked for a list of all things
SHARES = {"position": 0.4, "way": 0.3, "side": 0.1, "height": 0.1, "distance": 0.1}
CAMERA = "primary"
HAND = "hand"
TABLE_TASKS = tuple(THINGS)


@dataclass(frozen=True)
class Thing:
    """Something in the picture: where it is in the room (m), and in the picture from the left and the top."""

    name: str
    point_3: np.ndarray
    across: float
    down: float

    @property
    def bin(self) -> str:
        return f"{int(self.across * BINS)} {int(self.down * BINS)}"


class MetaWorldScenes:
    """Tasks at their start, the hand anywhere in sight. Held-out scenes are of the same tasks, others."""

    def __init__(self, variant: str, size: int, tasks: tuple[str, ...] = ()) -> None:
        look = get_look(variant)
        check_cameras(look, (CAMERA,), size)
        self._view, self._variant, self._size = look.views[CAMERA], variant, size
        self._shadows = look.shadows
        self._tasks = tuple(check_scene(check_task(task)) for task in tasks) or TABLE_TASKS
        self._eyes: dict[str, Eye] = {}

    def describe(self, split: str, seed: int, index: int) -> Described:
        """The scene `index` of a split: equal arguments give the same one."""
        task = self._tasks[key("metaworld", "task", split, seed, index // RUN_OF_PICTURES) % len(self._tasks)]
        rng = generator("metaworld", "scenes", split, seed, index)
        sawyer = Sawyer(task, self._shadows)
        hand, things = None, list[Thing]()
        while hand is None and not things:  # one in two thousand has nothing in sight
            scene_seed = int(rng.integers(2**63))
            sawyer.begin(scene_seed, self._start(sawyer, scene_seed, rng))
            hand, things = _seen(sawyer, self._view)
        questions = _all_questions(hand, things) if split == HELD_OUT else _conversation(rng, hand, things)
        facts = {
            "items": len(things) + (hand is not None),
            "task": task,
            "instruction": INSTRUCTIONS[task],
            "world": "metaworld",
            "variant": self._variant,
        }
        picture_HWC = sawyer.image(self._view, self._size)
        return Described(picture_HWC, _caption(hand, things), tuple(questions), facts)

    def _start(self, sawyer: Sawyer, seed: int, rng: np.random.Generator) -> np.ndarray:
        """A point for the hand whose fingertips can be seen."""
        if sawyer.task not in self._eyes:
            sawyer.begin(seed)
            self._eyes[sawyer.task] = sawyer.eye(self._view)
        eye = self._eyes[sawyer.task]
        start_3 = rng.uniform(LOW_3, HIGH_3)
        for _ in range(MOST_DRAWS):
            if eye.place(start_3 - (0.0, 0.0, TIP_BELOW)) is not None:
                break
            start_3 = rng.uniform(LOW_3, HIGH_3)
        return start_3


def check_scene(task: str) -> str:
    """The task itself; UsageError where what it is about cannot be pointed at."""
    if task not in THINGS:
        raise UsageError(
            f"of the task '{task}' there are no scenes: the simulation does not say where its thing is",
            hint=f"tasks with scenes: {', '.join(THINGS)}",
        )
    return task


def _seen(sawyer: Sawyer, view: View) -> tuple[Thing | None, list[Thing]]:
    """The hand, and the other things, of those that are in the picture."""
    eye = sawyer.eye(view)
    points = {HAND: sawyer.tip_3, THINGS[sawyer.task]: sawyer.thing_3}
    if sawyer.task in MARKED:
        points["goal"] = sawyer.goal_3
    things = {}
    for name, point_3 in points.items():
        if (place := eye.place(point_3)) is not None:
            things[name] = Thing(name, point_3, *place)
    hand = things.pop(HAND, None)
    return hand, list(things.values())


# -- what is said of them ----------------------------------------------------------------------------------


def _caption(hand: Thing | None, things: list[Thing]) -> str:
    """One sentence that names all things from left to right."""
    everything = [*things, *([] if hand is None else [hand])]
    *names, last = [f"a {thing.name}" for thing in sorted(everything, key=lambda thing: thing.across)]
    return f"{', '.join(names)} and {last} on a table" if names else f"{last} on a table"


def _conversation(rng: np.random.Generator, hand: Thing | None, things: list[Thing]) -> list[Question]:
    """What a picture to learn from is asked: for a list of all things, or about each, in any order."""
    everything = [*things, *([] if hand is None else [hand])]
    in_order = [everything[int(i)] for i in rng.permutation(len(everything))]
    if rng.random() < LISTS:
        return [_list(in_order, by_place=rng.random() < 0.3)]
    return [_about(rng, thing, hand) for thing in in_order]


def _list(things: list[Thing], *, by_place: bool) -> Question:
    if by_place:
        places = ", ".join(f"{thing.bin} {thing.name}" for thing in things)
        return Question("list", "What is at each place?", places)
    return Question(
        "list", "Where is each thing?", ", ".join(f"{thing.name} {thing.bin}" for thing in things)
    )


def _about(rng: np.random.Generator, thing: Thing, hand: Thing | None) -> Question:
    asked = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    found = [question for question in _questions(thing, hand) if question.kind == asked]
    return found[0] if found else _position(thing)


def _all_questions(hand: Thing | None, things: list[Thing]) -> list[Question]:
    """Where the hand is, and all about the last thing: the goal where it is marked."""
    asked = [] if hand is None else [_position(hand)]
    return asked + [question for thing in things[-1:] for question in _questions(thing, hand)]


def _questions(thing: Thing, hand: Thing | None) -> Iterator[Question]:
    yield _position(thing)
    if hand is None or hand is thing:
        return
    yield Question("way", f"Which way is the {thing.name} from the hand?", _way(thing.point_3 - hand.point_3))
    distance = float(np.linalg.norm(thing.point_3 - hand.point_3))
    how_far = "near" if distance < NEAR else "far" if distance > FAR else "between"
    yield Question("distance", f"Is the hand near the {thing.name} or far from it?", how_far)
    if abs(across := hand.across - thing.across) >= APART:
        side = "left" if across < 0.0 else "right"
        yield Question("side", f"Is the hand left or right of the {thing.name}?", side)
    if abs(down := hand.down - thing.down) >= APART:
        height = "above" if down < 0.0 else "below"
        yield Question("height", f"Is the hand above or below the {thing.name}?", height)


def _position(thing: Thing) -> Question:
    return Question("position", f"Where is the {thing.name}?", thing.bin)


def _way(way_3: np.ndarray) -> str:
    """Steps along each axis of the room, the words fixed by their signs: right 2 forward 3 down 0."""
    words = (("right", "left"), ("forward", "back"), ("up", "down"))
    steps = np.rint(way_3 / WAY_STEP).astype(int)
    return " ".join(f"{pair[int(step < 0)]} {abs(step)}" for pair, step in zip(words, steps, strict=True))
