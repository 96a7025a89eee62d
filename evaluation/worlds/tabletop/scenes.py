"""Pictures of tables that nobody works at, and what can truly be said of each.

Said as the camera sees it, which looks towards the robot: columns count from its left and rows from far to
near, 3 cm each, so that "12 7" is the place 12 bins to the right and 7 towards the viewer. Some pairs of
colour and shape stand on held-out tables alone: whoever names or finds them has never seen them together.
Shape suffixes: HWC picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from robot_foundry.evaluation.scenes import HELD_OUT, Described, Question
from robot_foundry.evaluation.worlds.tabletop.objects import COLOURS, SHAPES, Scene, Solid, place
from robot_foundry.evaluation.worlds.tabletop.physics import Physics
from robot_foundry.evaluation.worlds.tabletop.render import Renderer
from robot_foundry.evaluation.worlds.tabletop.variants import get_variant
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.keyed import generator

HALF = 0.21  # of the square that items stand in, metres
BINS = 14
GAP = 0.04
APART = 0.03  # what is left of something is at least this far left of it
MOST_ITEMS = 5
FEWEST_HELD_OUT = 3
# Each colour is held out in one shape, and no shape in more than two colours.
NEVER_TRAINED = (
    ("red", "cone"),
    ("green", "ball"),
    ("blue", "cube"),
    ("yellow", "can"),
    ("purple", "cone"),
    ("cyan", "ball"),
)
CAMERA = "primary"
LISTS = 0.5  # of the pictures to learn from are asked for a list of all items
LISTS_BY_COLOUR = 0.7  # of these lists; of equal shares, places were learnt less well in equal time
SHARES = {"position": 0.4, "colour": 0.27, "relation": 0.3, "count": 0.03}  # of what is asked of an item
CELLS = 5  # a side of the grid of a dense caption


def bins(solid: Solid) -> tuple[int, int]:
    """Column and row of the bin of 3 cm that its middle stands in, each 0 … BINS - 1."""
    column, row = (min(BINS - 1, int((metres + HALF) / (2 * HALF) * BINS)) for metres in (solid.y, solid.x))
    return column, row


def name(solid: Solid) -> str:
    return f"{solid.colour} {solid.shape}"


def _place(solid: Solid) -> str:
    column, row = bins(solid)
    return f"{column} {row}"


class TabletopScenes:
    """Tables with one to five solids of unlike colours; held-out ones have three at least.

    `size` is the side of the pictures in pixels. Of the solids of a held-out table one is of a pair in
    NEVER_TRAINED, and it is what all questions there are about.
    """

    def __init__(self, variant: str, size: int, tasks: tuple[str, ...] = ()) -> None:
        if tasks:
            raise UsageError("the tabletop's scenes are of no task", hint="leave --tasks out")
        self._variant, self._size = get_variant(variant), size

    def describe(self, split: str, seed: int, index: int) -> Described:
        """The scene `index` of a split: equal arguments give the same one."""
        rng = generator("tabletop", "scenes", split, seed, index)
        held_out = split == HELD_OUT
        solids = _draw(rng, held_out=held_out)
        questions = _all_questions(solids) if held_out else _conversation(rng, solids)
        facts = {
            "items": len(solids),
            "grid_caption": _grid(solids),
            "world": "tabletop",
            "variant": self._variant.name,
        }
        return Described(self._picture(rng, solids), _caption(solids), tuple(questions), facts)

    def _picture(self, rng: np.random.Generator, solids: tuple[Solid, ...]) -> np.ndarray:
        cameras, look = self._variant.drawn(rng)
        physics = Physics(Scene(solids), [])
        image_HWC = Renderer(cameras, look, physics, self._size, self._size).image(CAMERA, physics)
        noise_HWC = rng.standard_normal(image_HWC.shape, dtype=np.float32) * self._variant.image_noise
        return np.clip(image_HWC + noise_HWC, 0.0, 255.0).astype(np.uint8)


def _draw(rng: np.random.Generator, *, held_out: bool) -> tuple[Solid, ...]:
    count = int(rng.integers(FEWEST_HELD_OUT if held_out else 1, MOST_ITEMS + 1))
    first = NEVER_TRAINED[int(rng.integers(len(NEVER_TRAINED)))]
    colours = [COLOURS[int(i)] for i in rng.permutation(len(COLOURS))]
    if held_out:
        colours.remove(first[0])
        colours.insert(0, first[0])
    points = place(rng, [0.03] * count, half=HALF, gap=GAP)
    solids = []
    for i, (x, y) in enumerate(points):
        shapes = [s for s in SHAPES if (colours[i], s) not in NEVER_TRAINED]
        shape = first[1] if held_out and i == 0 else str(rng.choice(shapes))
        size, yaw = float(rng.uniform(0.027, 0.032)), float(rng.uniform(-math.pi, math.pi))
        solids.append(Solid(shape, colours[i], size, x, y, yaw))
    return tuple(solids)


# -- what is said of them ----------------------------------------------------------------------------------


def _caption(solids: tuple[Solid, ...]) -> str:
    """One sentence that names all items from left to right."""
    *names, last = [f"a {name(solid)}" for solid in sorted(solids, key=lambda solid: solid.y)]
    return f"{', '.join(names)} and {last} on a table" if names else f"{last} on a table"


def _grid(solids: tuple[Solid, ...]) -> str:
    """CELLS x CELLS words, row by row from far to near: the colour of what stands in a cell, or none."""
    cells = ["none"] * CELLS**2
    for solid in solids:
        column, row = (at * CELLS // BINS for at in bins(solid))
        cells[row * CELLS + column] = solid.colour
    return " ".join(cells)


def _conversation(rng: np.random.Generator, solids: tuple[Solid, ...]) -> list[Question]:
    """What a picture to learn from is asked: for a list of all items, or about each of them, in any order.

    So hardly an answer is given away by one before, and all must be looked up in the picture. In a list a
    place stands right behind its colour, or the colour behind its place. A model learns that far earlier than
    to find what a question names some words before, and then the questions soon (docs/vlm.md has figures).
    """
    in_order = [solids[int(i)] for i in rng.permutation(len(solids))]
    if rng.random() < LISTS:
        return [_list(in_order, by_colour=rng.random() < LISTS_BY_COLOUR)]
    return [_about(rng, solid, solids) for solid in in_order]


def _list(solids: list[Solid], *, by_colour: bool) -> Question:
    """Of all items the colours with their places, or the places with their colours."""
    named = [(solid.colour, _place(solid)) for solid in solids]
    if by_colour:
        return Question(
            "list", "Where is each colour?", ", ".join(f"{colour} {place}" for colour, place in named)
        )
    return Question(
        "list", "What colour is at each place?", ", ".join(f"{place} {colour}" for colour, place in named)
    )


def _about(rng: np.random.Generator, solid: Solid, solids: tuple[Solid, ...]) -> Question:
    """A question that begins with this item."""
    asked = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    relations = [question for other in solids if other is not solid for question in _relations(solid, other)]
    if asked == "relation" and relations:
        return relations[int(rng.integers(len(relations)))]
    if asked == "count":
        return _count(solids)
    return _colour(solid) if asked == "colour" else _position(solid)


def _all_questions(solids: tuple[Solid, ...]) -> list[Question]:
    """Of each kind what can be asked about the first solid, and its relation to the second."""
    first, second, *_ = solids
    return [_position(first), _colour(first), *_relations(first, second), _count(solids)]


def _count(solids: tuple[Solid, ...]) -> Question:
    return Question("count", "How many items are on the table?", str(len(solids)))


def _position(solid: Solid) -> Question:
    return Question("position", f"Where is the {name(solid)}?", _place(solid))


def _colour(solid: Solid) -> Question:
    return Question("colour", f"What colour is the item at {_place(solid)}?", solid.colour)


def _relations(a: Solid, b: Solid) -> Iterator[Question]:
    if abs(a.y - b.y) >= APART:
        yield Question(
            "side", f"Is the {name(a)} left or right of the {name(b)}?", "left" if a.y < b.y else "right"
        )
    if abs(a.x - b.x) >= APART:
        yield Question(
            "depth",
            f"Is the {name(a)} in front of or behind the {name(b)}?",
            "front" if a.x > b.x else "behind",
        )
