"""The spaces that a policy works in: the unions of its mixture, and what each dataset has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.models.vla import Geometry
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.windows.chunk_statistics import represented_union
from robot_foundry.windows.timing import Steps


@dataclass(frozen=True)
class DatasetSpaces:
    """One dataset of the mixture: its own dims (targets are absolute), rate, and cameras by role."""

    name: str
    embodiment: str
    fps: float | None
    state: ActionSpace
    action: ActionSpace
    cameras: tuple[str, ...]


@dataclass(frozen=True)
class PolicySpaces:
    """The unions that a model works in, and each dataset's own spaces in the order of the batches' index."""

    state: ActionSpace
    action: ActionSpace  # represented
    datasets: tuple[DatasetSpaces, ...]

    @property
    def embodiments(self) -> tuple[str, ...]:
        """What `Batch.embodiment_B` numbers."""
        return tuple(sorted({dataset.embodiment for dataset in self.datasets}))

    @property
    def alike(self) -> bool:
        """Whether all datasets are of one robot, seen alike: they differ in nothing but their names."""
        first = replace(self.datasets[0], name="")
        return all(replace(dataset, name="") == first for dataset in self.datasets)

    def dataset(self, name: str | None) -> int:
        """Index of a dataset by name; the name may be left out where there is only one."""
        names = [dataset.name for dataset in self.datasets]
        if name is None and len(names) == 1:
            return 0
        if name in names:
            return names.index(name)
        listed = ", ".join(names)
        if name is None:
            raise FoundryError(
                f"the policy was trained on {len(names)} datasets: say which one", hint=f"one of {listed}"
            )
        raise FoundryError(
            f"the policy was not trained on '{name}'{nearest(name, names)} (datasets: {listed})"
        )

    def to_json(self) -> dict[str, Any]:
        datasets = [
            {**{k: getattr(d, k) for k in ("name", "embodiment", "fps")}, "cameras": list(d.cameras),
             "state": d.state.to_json(), "action": d.action.to_json()}
            for d in self.datasets
        ]  # fmt: skip
        return {"state": self.state.to_json(), "action": self.action.to_json(), "datasets": datasets}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PolicySpaces:
        space = ActionSpace.from_json
        datasets = tuple(
            DatasetSpaces(
                d["name"],
                d["embodiment"],
                d["fps"],
                space(d["state"]),
                space(d["action"]),
                tuple(d["cameras"]),
            )
            for d in value["datasets"]
        )
        return cls(space(value["state"]), space(value["action"]), datasets)


def mixture_spaces(opened: OpenMixture, config: VLATaskConfig) -> PolicySpaces:
    """The spaces of a mixture under the window of a configuration."""
    window = config.data.window
    unions = unions_of(opened)
    unions.check_stream(window.stream)
    datasets = tuple(
        DatasetSpaces(
            name,
            schema.embodiment,
            schema.fps,
            schema.state_space(),
            schema.space(window.stream),
            tuple(camera.role for camera in schema.cameras),
        )
        for name, schema in unions.schemas.items()
    )
    roles = sorted({role for dataset in datasets for role in dataset.cameras})
    for role in window.cameras:
        if role not in roles:
            raise FoundryError(
                f"no dataset of the mixture has a camera '{role}'{nearest(role, roles)}",
                hint=f"data.window.cameras may name {', '.join(roles)}"
                if roles
                else "the datasets have no cameras",
            )
    action = represented_union(unions.schemas, window.stream, window.representation)
    return PolicySpaces(unions.state, action, datasets)


def geometry(config: VLATaskConfig, spaces: PolicySpaces) -> Geometry:
    """The sizes of a model that the data decides: the most steps of any dataset."""
    window = config.data.window
    assert window.image is not None
    steps = dataset_steps(config, spaces)
    history, horizon = max(item.history for item in steps), max(item.horizon for item in steps)
    robots = len(spaces.embodiments)
    return Geometry(len(spaces.state), len(spaces.action), history, horizon, window.image, robots)


def dataset_steps(config: VLATaskConfig, spaces: PolicySpaces) -> list[Steps]:
    """How many steps a window has at each dataset's own rate, and how long one is."""
    return [config.data.window.timing.steps(dataset.fps, dataset.name) for dataset in spaces.datasets]
