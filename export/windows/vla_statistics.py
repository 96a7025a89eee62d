"""stats.json of VLA Foundry: the distribution of each field over the windows of an export, steps that count.

It has no statistics of dims that no window has; they are 0 there.

Legend: n windows, L steps, C dims of a field, S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from robot_foundry.export.windows.rows import WindowRow
from robot_foundry.export.windows.vla_foundry import ACTION, STATE, Field, sequences_of
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics

_LEAF = 4096
PERCENTILES = (1, 2, 5, 95, 98, 99)
_COMPRESSION, _BUFFER = 100, 1000  # those of VLA Foundry


def statistics_json(
    rows: Iterable[WindowRow], state: ActionSpace, action: ActionSpace, fields: Sequence[Field]
) -> dict[str, Any]:
    """By field, as VLA Foundry reads them."""
    leaves: dict[str, list[list[Statistics]]] = {STATE: [], ACTION: []}
    spaces = {STATE: state, ACTION: action}
    for values in _leaves(rows):
        for of, (values_nLD, mask_nLD) in values.items():
            parts = [Statistics.of(values_nLD, mask_nLD, spaces[of])]
            for t in range(values_nLD.shape[1]):
                parts.append(Statistics.of(values_nLD[:, t], mask_nLD[:, t], spaces[of]))
            leaves[of].append(parts)
    merged = {
        of: [Statistics.merge_all(column) for column in zip(*parts, strict=True)]
        for of, parts in leaves.items()
    }
    return {field.name: _field(field, merged[field.of]) for field in fields}


def _leaves(rows: Iterable[WindowRow]) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Values and which of them count, of some thousand windows at a time."""
    left = iter(rows)
    while block := list(islice(left, _LEAF)):
        whole = [sequences_of(row) for row in block]
        counted_nL1 = np.stack([one.past_L | one.future_L for one in whole])[..., None]
        state_n1S = np.stack([row.state_mask_S for row in block])[:, None]
        action_n1A = np.stack([row.action_dim_mask_A for row in block])[:, None]
        yield {
            STATE: (np.stack([one.state_LS for one in whole]), counted_nL1 & state_n1S),
            ACTION: (np.stack([one.action_LA for one in whole]), counted_nL1 & action_n1A),
        }


def _field(field: Field, parts: Sequence[Statistics]) -> dict[str, Any]:
    """`parts` are those of all steps together, then of each."""
    pooled_C, *steps = [[part.digests[i] for i in field.at] for part in parts]
    counts = [max(digest.count for digest in step_C) for step_C in steps]
    told: dict[str, Any] = {}
    for name, value in _MEASURES.items():
        told[name] = [value(digest) for digest in pooled_C]
        told[f"{name}_per_timestep"] = [[value(digest) for digest in step_C] for step_C in steps]
    for q in PERCENTILES:
        told[f"percentile_{q}"] = [_known(digest.percentile(q)) for digest in pooled_C]
        told[f"percentile_{q}_per_timestep"] = [[_known(d.percentile(q)) for d in step_C] for step_C in steps]
    return told | {
        "count": counts,
        "percentile_sample_count": counts,
        "tdigest_state": _state({(i,): digest for i, digest in enumerate(pooled_C)}, (len(pooled_C),)),
        "tdigest_state_per_timestep": _state(
            {(t, i): digest for t, step_C in enumerate(steps) for i, digest in enumerate(step_C)},
            (len(steps), len(pooled_C)),
        ),
    }


def _known(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _std(digest: Digest) -> float:
    """Of a sample, as VLA Foundry has it."""
    return float(np.sqrt(digest.m2 / (digest.count - 1))) if digest.count > 1 else 0.0


_MEASURES = {
    "mean": lambda digest: _known(digest.mean),
    "std": _std,
    "min": lambda digest: _known(digest.min),
    "max": lambda digest: _known(digest.max),
}


def _state(digests: dict[tuple[int, ...], Digest], shape: tuple[int, ...]) -> dict[str, Any]:
    """Centroids as it merges them with those of other exports."""
    filled = {index: digest for index, digest in digests.items() if digest.count}
    counts = np.zeros(shape, np.int64)
    for index, digest in digests.items():
        counts[index] = digest.count
    return {
        "shape": list(shape),
        "counts": counts.tolist(),
        "max_buffer": _BUFFER,
        "compression": _COMPRESSION,
        "buffers": {"indices": [], "data": []},
        "digests": {
            "indices": [list(index) for index in filled],
            "means": [digest.values.tolist() for digest in filled.values()],
            "weights": [digest.weights.tolist() for digest in filled.values()],
        },
    }
