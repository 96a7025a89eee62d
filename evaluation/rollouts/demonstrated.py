"""What is known of the demonstrations that a policy was trained on, where the store that holds them is there.

Sizes are height and width in pixels, by the role of the camera.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.rollouts.spec import RolloutSpec
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.recipes.yaml_text import read_yaml

Size = tuple[int, int]


def data_store(folder: Path | None, given: str | None = None) -> Store | None:
    """The store that is `given`, else that of the data of a checkpoint, where it still holds some."""
    if given is not None or folder is None:
        return None if given is None else Store(given)
    where = checkpoint.read_json(folder, "lineage.json").get("store")
    store = None if where is None else Store(where)
    try:
        return store if store is not None and store.storage.list("refs") else None
    except (OSError, FoundryError):
        return None


def tell_unlike_pictures(spec: RolloutSpec, store: Store | None) -> None:
    """A FoundryWarning where the world shows a camera at another size than it had in the demonstrations that
    the policy was trained on. Nothing where that size is not known."""
    if store is None or spec.actor.run is None or spec.blank:
        return
    had = _sizes(spec, Path(spec.actor.run), store)
    if all((spec.size, spec.size) in sizes for sizes in had.values()):
        return
    for role, size in _shown(spec, tuple(had)).items():
        if size not in had[role]:
            (height, width), *others = sorted(had[role])
            like = f"; --size {height} shows it so" if height == width and not others else ""
            told = f"the camera '{role}' is shown at {_named(size)} pixels, and in the demonstrations it had "
            told += f"{' or '.join(map(_named, sorted(had[role])))}{like}"
            warnings.warn(told, FoundryWarning, stacklevel=2)
            return


def _sizes(spec: RolloutSpec, folder: Path, store: Store) -> dict[str, set[Size]]:
    """Those of the cameras that the policy looks at, over all its datasets of the world's robot, or of the
    one that is asked for. Pictures that ingest made larger or smaller tell none."""
    try:
        mixture = Mixture.from_json(checkpoint.read_json(folder, "lineage.json")["mixture"])
        config = read_yaml((folder / "config.yaml").read_text("utf-8"), "config.yaml")
        roles = config["data"]["window"]["cameras"]
        manifests = list(_manifests(mixture, spec, store))
    except (OSError, ValueError, KeyError, TypeError, FoundryError):
        return {}
    if any(_content(manifest).get("resize") is not None for manifest in manifests):
        return {}
    found: dict[str, set[Size]] = {}
    for manifest in manifests:
        for camera in schema_of(manifest).cameras:
            if camera.role in roles:
                found.setdefault(camera.role, set()).add((camera.height, camera.width))
    return found


def _manifests(mixture: Mixture, spec: RolloutSpec, store: Store) -> Iterator[Manifest]:
    versions, asked_for = OpenVersions(store), spec.actor.dataset
    robot = spec.factory.describe(spec.task, spec.variant).embodiment
    for component in mixture.components:
        manifest = versions.open_part(component).manifest
        of_robot = schema_of(manifest).embodiment == robot
        if of_robot if asked_for is None else component.name == asked_for:
            yield manifest


def _content(manifest: Manifest) -> Mapping[str, Any]:
    content = manifest.provenance.get("spec", {}).get("content", {})
    return content if isinstance(content, Mapping) else {}


def _shown(spec: RolloutSpec, roles: tuple[str, ...]) -> dict[str, Size]:
    """As the world shows its first scene: cameras of a fixed size keep theirs."""
    world = open_world(spec.factory, spec.task, spec.variant, cameras=roles, size=spec.size)
    try:
        world.reset(scene_seed("rollout", spec.seed, 0))
        images = world.observe().images
    finally:
        world.close()
    return {role: (image_HWC.shape[0], image_HWC.shape[1]) for role, image_HWC in images.items()}


def _named(size: Size) -> str:
    return f"{size[0]} × {size[1]}"
