"""From a configuration and a store to what a run works on: spaces, normalisers, model, inputs of batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.store import Store
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.report import report
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.runtime.keyed import key
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Geometry, VLAConfig
from robot_foundry.trainer.tasks.vla.config import Config
from robot_foundry.trainer.tasks.vla.inputs import Inputs, Scales, build_draws, build_inputs
from robot_foundry.windows.chunk_statistics import chunk_statistics, frame_multiples, represented_union
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
class Spaces:
    """The unions that a model works in, and each dataset's own spaces in the order of the batches' index."""

    state: ActionSpace
    action: ActionSpace  # represented
    datasets: tuple[DatasetSpaces, ...]

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
    def from_json(cls, value: Mapping[str, Any]) -> Spaces:
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


def mixture_spaces(store: Store, mixture: Mixture, config: Config) -> Spaces:
    """The spaces of a mixture under the window of a configuration."""
    window = config.data.window
    unions = unions_of(store, mixture)
    unions.check_stream(window.stream)
    datasets = tuple(
        DatasetSpaces(
            component.name,
            schema.embodiment,
            schema.fps,
            schema.state_space(),
            schema.space(window.stream),
            tuple(camera.role for camera in schema.cameras),
        )
        for component in mixture.components
        for schema in (unions.schemas[component.name],)
    )
    known = sorted({role for dataset in datasets for role in dataset.cameras})
    for role in window.cameras:
        if role not in known:
            raise FoundryError(
                f"no dataset of the mixture has a camera '{role}'{nearest(role, known)}",
                hint=f"data.window.cameras may name {', '.join(known)}"
                if known
                else "the datasets have no cameras",
            )
    action = represented_union(unions.schemas, window.stream, window.representation)
    return Spaces(unions.state, action, datasets)


def fit_scales(
    store: Store, mixture: Mixture, config: Config, spaces: Spaces, *, quiet: bool = True
) -> Scales:
    """Normalisers from the training split: one pair, or with `per_dataset` one for each dataset."""
    window, data = config.data.window, config.data
    if data.normalization == "merged":
        groups: list[tuple[Mixture, str | None]] = [(mixture, None)]
    else:
        groups = [
            (replace(mixture, components=(replace(component, weight="1"),)), dataset.embodiment)
            for component, dataset in zip(mixture.components, spaces.datasets, strict=True)
        ]
    states: list[Normalizer] = []
    actions: list[Normalizer] = []
    for group, embodiment in groups:
        found = chunk_statistics(
            store, group, stream=window.stream, representation=window.representation, horizon=window.horizon,
            stride=window.stride, control_hz=window.control_hz, masked=window.masked,
            per_offset=data.normalization_scope == "per_offset", weighting=data.normalization_weights,
            quiet=quiet,
        )  # fmt: skip
        state = found.state.into(spaces.state, embodiment=embodiment)
        action, *offsets = (
            part.into(spaces.action, embodiment=embodiment) for part in (found.action, *found.offsets)
        )
        state_D, action_D = _counts_of_a_frame(config, spaces, group)
        if offsets:  # the group's own chunks may be shorter than the longest of the mixture
            missing = geometry(config, spaces).horizon - len(offsets)
            offsets += [Statistics.empty(spaces.action)] * missing
        fit = partial(Normalizer.fit, percentiles=data.percentiles, clip=data.clip)
        states.append(fit(state, values_per_frame=state_D))
        chunk_D = [geometry(config, spaces).horizon * number for number in action_D]
        actions.append(fit(action, offsets=offsets, values_per_frame=chunk_D, values_per_step=action_D))
    return Scales(tuple(states), tuple(actions))


def _counts_of_a_frame(config: Config, spaces: Spaces, group: Mixture) -> tuple[list[int], list[int]]:
    """For each dim of state and action: how often the statistics count a frame of a dataset that has it, the
    most of any; with weights the frames of a small dataset count more than once."""
    steps = max(own.horizon for own in dataset_steps(config, spaces))
    is_weighted = config.data.normalization_weights == "mixture"
    times = frame_multiples(group, steps) if is_weighted else [1] * len(group.components)
    own = {component.name: number for component, number in zip(group.components, times, strict=True)}
    counts = [1] * len(spaces.state), [1] * len(spaces.action)
    for dataset in spaces.datasets:
        for counts_D, union, space in zip(
            counts, (spaces.state, spaces.action), (dataset.state, dataset.action), strict=True
        ):
            for at in space.indices_in(union, dataset.embodiment):
                counts_D[at] = max(counts_D[at], own.get(dataset.name, 1))
    return counts


def scales_report(scales: Scales, spaces: Spaces) -> list[dict[str, Any]]:
    """Rows of `normalization.report`, each with what it is `of` (state, action) and for which `dataset`."""
    rows = []
    for of in ("state", "action"):
        normalizers: tuple[Normalizer, ...] = getattr(scales, of)
        for index, normalizer in enumerate(normalizers):
            own = spaces.datasets[index] if len(normalizers) > 1 else None
            union: ActionSpace = getattr(spaces, of)
            names = union.names if own is None else [
                union.names[i] for i in getattr(own, of).indices_in(union, own.embodiment)
            ]  # fmt: skip
            head = {"of": of, "dataset": "all" if own is None else own.name}
            rows += [{**head, **row} for row in report(normalizer) if row["dim"] in names]
    return rows


def scales_to_json(scales: Scales) -> dict[str, Any]:
    return {name: [json.loads(n.to_json()) for n in getattr(scales, name)] for name in ("state", "action")}


def scales_from_json(value: Mapping[str, Any]) -> Scales:
    def read(name: str) -> tuple[Normalizer, ...]:
        return tuple(Normalizer.from_json(json.dumps(item)) for item in value[name])

    return Scales(read("state"), read("action"))


def geometry(config: Config, spaces: Spaces) -> Geometry:
    window = config.data.window
    assert window.image is not None
    steps = dataset_steps(config, spaces)
    history, horizon = max(own.history for own in steps), max(own.horizon for own in steps)
    return Geometry(len(spaces.state), len(spaces.action), history, horizon, window.image)


def dataset_steps(config: Config, spaces: Spaces) -> list[Steps]:
    """How many steps a window has at each dataset's own rate, and how long one is."""
    return [config.data.window.timing.steps(own.fps, own.name) for own in spaces.datasets]


def build_model(config: VLAConfig, geometry: Geometry, seed: int) -> VLA:
    """A model on the CPU whose initial weights depend on the arguments alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("init", seed) >> 1)
        return VLA(config, geometry)


def count_parameters(config: VLAConfig, geometry: Geometry) -> dict[str, int]:
    """Parameters of each part, without allocating them."""
    with torch.device("meta"):
        model = VLA(config, geometry)
    parts = {
        "vision": model.backbone.vision,
        "projector": model.backbone.projector,
        "decoder": model.backbone.decoder,
        "taps": torch.nn.ModuleList([model.tap_norms, model.tap_projections]),
        "head": model.head,
        "total": model,
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def input_maker(
    config: Config, spaces: Spaces, scales: Scales, device: torch.device
) -> Callable[[Batch], Inputs]:
    """The function from a batch to training inputs on the device, noise and times keyed by (seed, k)."""
    tokenizer = ByteTokenizer(config.model.text_length)
    sizes = geometry(config, spaces)

    def prepare(batch: Batch) -> Inputs:
        inputs = build_inputs(
            batch, scales=scales, tokenizer=tokenizer, roles=config.data.window.cameras, targets=True
        )
        draws = build_draws(
            batch.k_B,
            config.seed,
            draws=config.model.draws,
            density=config.model.density,
            state_noise=config.model.state_noise,
            state_shape=(sizes.history, sizes.state_dims),
            action_shape=(sizes.horizon, sizes.action_dims),
        )
        return replace(inputs, draws=draws).to(device)

    return prepare


def mixture_rows(mixture: Mixture) -> list[dict[str, Any]]:
    """The mixture as a table: what, which version, its exact weight and size."""
    return [asdict(component) | {"selection": dict(component.selection)} for component in mixture.components]
