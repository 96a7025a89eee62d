"""The worlds that are built in, by name. A world is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_foundry.runtime.errors import UsageError, nearest

if TYPE_CHECKING:
    from robot_foundry.evaluation.scenes import Scenes
    from robot_foundry.evaluation.world import Demonstrator, WorldFactory

WORLDS = {
    "libero": "robot_foundry.evaluation.worlds.libero.world:LiberoWorlds",
    "tabletop": "robot_foundry.evaluation.worlds.tabletop.world:TabletopWorlds",
    "metaworld": "robot_foundry.evaluation.worlds.metaworld.world:MetaWorlds",
    "pusht": "robot_foundry.evaluation.worlds.pusht.world:PushtWorlds",
}
IN_FILES = "robot_foundry.evaluation.worlds.gymnasium_file:read_world"
DEMONSTRATORS = {
    "tabletop": "robot_foundry.evaluation.worlds.tabletop.demonstrations:TabletopDemonstrator",
    "metaworld": "robot_foundry.evaluation.worlds.metaworld.demonstrations:MetaWorldDemonstrator",
    "pusht": "robot_foundry.evaluation.worlds.pusht.demonstrations:PushtDemonstrator",
}
SCENES = {
    "tabletop": "robot_foundry.evaluation.worlds.tabletop.scenes:TabletopScenes",
    "metaworld": "robot_foundry.evaluation.worlds.metaworld.scenes:MetaWorldScenes",
}


def get_world(name: str) -> WorldFactory:
    """The factory of the worlds called `name`, or that a .yaml file describes.

    UsageError with the nearest name where there is none.
    """
    if name.endswith((".yaml", ".yml")):
        described: WorldFactory = _imported(IN_FILES)(Path(name))
        return described
    factory: WorldFactory = _load(
        name, WORLDS, "no world is called", " and your own by a .yaml file (docs/worlds.md)"
    )()
    return factory


def get_demonstrator(
    name: str, task: str, variant: str, *, cameras: tuple[str, ...] | None, size: int
) -> Demonstrator:
    """The scripted expert of a world, watched through `cameras`: roles, None for all that there are."""
    demonstrator: Demonstrator = _load(name, DEMONSTRATORS, "there is no scripted expert for the world")(
        task, variant, cameras, size
    )
    return demonstrator


def get_scenes(name: str, variant: str, *, size: int, tasks: tuple[str, ...] = ()) -> Scenes:
    """The scenes of a world, in pictures of `size` pixels a side; of `tasks`, of all there are without."""
    scenes: Scenes = _load(name, SCENES, "there are no pictures of scenes of the world")(variant, size, tasks)
    return scenes


def _load(name: str, places: dict[str, str], absent: str, also: str = "") -> Any:
    if name not in places:
        there = f"there are {', '.join(places)}{also}"
        raise UsageError(f"{absent} {name!r}{nearest(name, places)}", hint=there)
    return _imported(places[name])


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
