"""Normalisers of a policy: what fits them, what applies them, what is said of them.

Shapes: B batch, H history, T chunk steps, D state dims, A action dims.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.normalizer_report import report
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces, dataset_steps, geometry
from robot_foundry.windows.chunk_statistics import chunk_statistics, frame_multiples

Array = NDArray[Any]


@dataclass(frozen=True)
class Scales:
    """Normalisers of state and action: one pair for all datasets, or one pair for each, by dataset index."""

    state: tuple[Normalizer, ...]
    action: tuple[Normalizer, ...]

    def normalize_state(self, state_BHD: Array, mask_BHD: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.normalize for n in self.state], state_BHD, mask_BHD, dataset_B)

    def normalize_action(self, action_BTA: Array, mask_BTA: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.normalize for n in self.action], action_BTA, mask_BTA, dataset_B)

    def denormalize_action(self, action_BTA: Array, mask_BTA: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.denormalize for n in self.action], action_BTA, mask_BTA, dataset_B)


def _by_dataset(
    functions: Sequence[Callable[[Array, Array], Array]], value: Array, mask: Array, dataset_B: Array
) -> Array:
    if len(functions) == 1:
        return functions[0](value, mask)
    out = np.zeros_like(value)
    for dataset in np.unique(dataset_B):
        rows = dataset_B == dataset
        out[rows] = functions[dataset](value[rows], mask[rows])
    return out


def fit_scales(
    opened: OpenMixture, config: VLATaskConfig, spaces: PolicySpaces, *, quiet: bool = True
) -> Scales:
    """Normalisers from the training split: one pair, or with `per_dataset` one for each dataset."""
    window, data = config.data.window, config.data
    if data.normalization == "merged":
        groups: list[tuple[OpenMixture, str | None]] = [(opened, None)]
    else:
        embodiments = [dataset.embodiment for dataset in spaces.datasets]
        groups = list(zip(opened.alone(), embodiments, strict=True))
    states: list[Normalizer] = []
    actions: list[Normalizer] = []
    for group, embodiment in groups:
        chunks = chunk_statistics(
            group, stream=window.stream, representation=window.representation, horizon=window.horizon,
            stride=window.stride, control_hz=window.control_hz, masked=window.masked,
            per_offset=data.normalization_scope == "per_offset", weighting=data.normalization_weights,
            quiet=quiet,
        )  # fmt: skip
        state = chunks.state.into(spaces.state, embodiment=embodiment)
        action, *offsets = (
            part.into(spaces.action, embodiment=embodiment) for part in (chunks.action, *chunks.offsets)
        )
        state_D, action_D = _counts_of_a_frame(config, spaces, group.mixture)
        if offsets:  # the group's own chunks may be shorter than the longest of the mixture
            missing = geometry(config, spaces).horizon - len(offsets)
            offsets += [Statistics.empty(spaces.action)] * missing
        fit = partial(Normalizer.fit, percentiles=data.percentiles, clip=data.clip)
        states.append(fit(state, values_per_frame=state_D))
        chunk_D = [geometry(config, spaces).horizon * number for number in action_D]
        actions.append(fit(action, offsets=offsets, values_per_frame=chunk_D, values_per_step=action_D))
    return Scales(tuple(states), tuple(actions))


def _counts_of_a_frame(
    config: VLATaskConfig, spaces: PolicySpaces, group: Mixture
) -> tuple[list[int], list[int]]:
    """For each dim of state and action: how often the statistics count a frame of a dataset that has it, the
    most of any; with weights the frames of a small dataset count more than once."""
    steps = max(item.horizon for item in dataset_steps(config, spaces))
    is_weighted = config.data.normalization_weights == "mixture"
    times = frame_multiples(group, steps) if is_weighted else [1] * len(group.components)
    times_of = {component.name: number for component, number in zip(group.components, times, strict=True)}
    counts = [1] * len(spaces.state), [1] * len(spaces.action)
    for dataset in spaces.datasets:
        for counts_D, union, space in zip(
            counts, (spaces.state, spaces.action), (dataset.state, dataset.action), strict=True
        ):
            for at in space.indices_in(union, dataset.embodiment):
                counts_D[at] = max(counts_D[at], times_of.get(dataset.name, 1))
    return counts


def scales_report(scales: Scales, spaces: PolicySpaces) -> list[dict[str, Any]]:
    """Rows of the normalisers' report, each with what it is `of` (state, action) and for which `dataset`."""
    rows = []
    for of in ("state", "action"):
        normalizers: tuple[Normalizer, ...] = getattr(scales, of)
        for index, normalizer in enumerate(normalizers):
            dataset = spaces.datasets[index] if len(normalizers) > 1 else None
            union: ActionSpace = getattr(spaces, of)
            names = union.names if dataset is None else [
                union.names[i] for i in getattr(dataset, of).indices_in(union, dataset.embodiment)
            ]  # fmt: skip
            head = {"of": of, "dataset": "all" if dataset is None else dataset.name}
            rows += [{**head, **row} for row in report(normalizer) if row["dim"] in names]
    return rows


def scales_to_json(scales: Scales) -> dict[str, Any]:
    return {name: [json.loads(n.to_json()) for n in getattr(scales, name)] for name in ("state", "action")}


def scales_from_json(value: Mapping[str, Any]) -> Scales:
    def read(name: str) -> tuple[Normalizer, ...]:
        return tuple(Normalizer.from_json(json.dumps(item)) for item in value[name])

    return Scales(read("state"), read("action"))
