"""What the errors of many chunks come to: means with intervals, and by how far ahead a step lies.

Legend: n chunks, T steps of a chunk, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.evaluation.intervals import bootstrap_mean
from robot_foundry.evaluation.openloop.errors import MEASURES, Errors, FloatArray

OFFSETS_SHOWN = 5
POLICY, STILL, REPEAT = "policy", "hold_still", "repeat_last"
CONTROLS = {STILL: "hold still", REPEAT: "repeat last"}
# How much better the policy is than a control, by the control.
GAINS = {STILL: "gain", REPEAT: "gain_repeat_last"}


@dataclass(frozen=True)
class Told:
    """The errors of one answer to a chunk: by part of the robot, and by named dim, each [T]."""

    parts: Errors
    dims: Mapping[str, FloatArray]


@dataclass(frozen=True)
class Chunk:
    """The errors of one chunk, of the episode with that number: the policy's, and those of the controls."""

    episode: int
    policy: Told
    controls: Mapping[str, Told]


def dataset_report(
    chunks: Sequence[Chunk], *, seed: int, units: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The figures of one dataset, as JSON; None where nothing was measured.

        policy, hold_still, repeat_last  the mean of each measure over all steps that count and all parts
        policy_95            its interval
        gain, gain_repeat_last  how much better the policy is than a robot that holds still, or that repeats
                             its last command, on the steps where both are known: {mean, interval_95}
        parts                by part: `steps` that count at each offset, and the means of all by offset
        dims                 by named dim: its `unit` (from `units`), and the mean distances by offset

    Intervals are percentiles of 2,000 bootstraps over episodes: chunks of one episode go together.
    """
    _, episode_n = np.unique([chunk.episode for chunk in chunks], return_inverse=True)
    told = {POLICY: [chunk.policy for chunk in chunks]}
    told |= {name: [chunk.controls[name] for chunk in chunks] for name in chunks[0].controls}
    parts = {source: _stacked([one.parts for one in of]) for source, of in told.items()}
    report: dict[str, Any] = {"chunks": len(chunks), "episodes": int(episode_n.max()) + 1}
    report |= {POLICY: {}, f"{POLICY}_95": {}} | {
        key: {} for name in chunks[0].controls for key in (name, GAINS[name])
    }
    for measure in dict.fromkeys(name for of_part in parts[POLICY].values() for name in of_part):
        beside = {source: _beside(errors, measure) for source, errors in parts.items()}
        own = _interval(beside[POLICY], episode_n, seed)
        report[POLICY][measure] = None if own is None else own["mean"]
        report[f"{POLICY}_95"][measure] = None if own is None else own["interval_95"]
        sign = 1 if MEASURES[measure].more_is_better else -1
        for name in chunks[0].controls:
            report[name][measure] = _mean(beside[name])
            gain = _interval(sign * (beside[POLICY] - beside[name]), episode_n, seed)
            report[GAINS[name]][measure] = gain
    report["parts"] = {
        part: _by_offset({source: errors[part] for source, errors in parts.items()}) for part in parts[POLICY]
    }
    report["dims"] = _by_dim(told, units or {})
    return report


def rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of a table: each part of each dataset at a few offsets, and over all of them."""
    measures = [
        name for name in MEASURES if any(name in found[POLICY] for found in report["datasets"].values())
    ]
    headers = ["dataset", "part", "step", "seconds"]
    for name in measures:
        headers += [MEASURES[name].header, *(CONTROLS[source] for source in controls_of(report))]
    sources, body = [POLICY, *controls_of(report)], []
    for dataset, found in report["datasets"].items():
        for part, of_part in found["parts"].items():
            for offset in shown(len(of_part["steps"])):
                seconds = None if found["step_s"] is None else offset * found["step_s"]
                body.append([dataset, part, offset, seconds, *_cells(of_part, measures, sources, offset)])
        body.append([dataset, "all", "all", None, *_cells(found, measures, sources, None)])
    return headers, body


def shown(horizon: int) -> list[int]:
    """The steps ahead that a table has."""
    return sorted({round(at) for at in np.linspace(0, horizon - 1, OFFSETS_SHOWN)})


def controls_of(report: Mapping[str, Any]) -> list[str]:
    """The controls that any dataset of a report was measured beside."""
    return [name for name in CONTROLS if any(name in found for found in report["datasets"].values())]


def _cells(
    of_part: Mapping[str, Any], measures: Sequence[str], sources: Sequence[str], offset: int | None
) -> list[float | None]:
    cells: list[float | None] = []
    for name in measures:
        for source in sources:
            value = of_part.get(source, {}).get(name)
            cells.append(value if offset is None or value is None else value[offset])
    return cells


def _stacked(errors: Sequence[Errors]) -> dict[str, dict[str, FloatArray]]:
    """By part and measure the errors of all chunks [n, T]."""
    return {
        part: {name: np.stack([of[part][name] for of in errors]) for name in of_part}
        for part, of_part in errors[0].items()
    }


def _beside(errors: Mapping[str, Mapping[str, FloatArray]], name: str) -> FloatArray:
    """The steps of all parts that have the measure, beside each other [n, parts × T]."""
    return np.concatenate([of_part[name] for of_part in errors.values() if name in of_part], axis=1)


def _by_offset(errors: Mapping[str, Mapping[str, FloatArray]]) -> dict[str, Any]:
    """Of one part, from the errors [n, T] of each source by measure."""
    counted_T = np.max([np.isfinite(error_nT).sum(axis=0) for error_nT in errors[POLICY].values()], axis=0)
    means = {
        source: {name: _means(error_nT) for name, error_nT in of_source.items()}
        for source, of_source in errors.items()
    }
    return {"steps": counted_T.tolist(), **means}


def _by_dim(told: Mapping[str, Sequence[Told]], units: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"unit": units.get(name)}
        | {source: _means(np.stack([one.dims[name] for one in of])) for source, of in told.items()}
        for name in told[POLICY][0].dims
    }


def _means(error_nT: FloatArray) -> list[float | None]:
    return [_mean(error_n) for error_n in error_nT.T]


def _mean(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _interval(values_nT: FloatArray, episode_n: NDArray[np.intp], seed: int) -> dict[str, Any] | None:
    """The mean of what is known, and its interval over episodes; None where nothing is.

    One episode says nothing of others: then the interval is None.
    """
    known_nT = np.isfinite(values_nT)
    if not known_nT.any():
        return None
    num_episodes = int(episode_n.max()) + 1
    sum_E, count_E = np.zeros(num_episodes), np.zeros(num_episodes)
    np.add.at(sum_E, episode_n, np.where(known_nT, values_nT, 0).sum(axis=1))
    np.add.at(count_E, episode_n, known_nT.sum(axis=1))
    mean, low, high = bootstrap_mean(sum_E, count_E, seed=seed)
    return {"mean": mean, "interval_95": [low, high] if (count_E > 0).sum() > 1 else None}
