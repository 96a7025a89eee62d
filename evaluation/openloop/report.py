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
POLICY, STILL = "policy", "hold_still"


@dataclass(frozen=True)
class Chunk:
    """The errors of one chunk, of the episode with that number: the policy's, and those of holding still."""

    episode: int
    policy: Errors
    hold_still: Errors


def dataset_report(chunks: Sequence[Chunk], *, seed: int) -> dict[str, Any]:
    """The figures of one dataset, as JSON; None where nothing was measured.

        policy, hold_still   the mean of each measure over all steps that count and all parts of the robot
        policy_95            its interval
        gain                 how much better the policy is than a robot that holds still, {mean, interval_95}
        parts                by part: `steps` that count at each offset, and the means of both by offset

    Intervals are percentiles of 2,000 bootstraps over episodes: chunks of one episode go together.
    """
    _, episode_n = np.unique([chunk.episode for chunk in chunks], return_inverse=True)
    of_policy = _stacked([chunk.policy for chunk in chunks])
    of_still = _stacked([chunk.hold_still for chunk in chunks])
    report: dict[str, Any] = {"chunks": len(chunks), "episodes": int(episode_n.max()) + 1}
    report |= {POLICY: {}, STILL: {}, f"{POLICY}_95": {}, "gain": {}}
    for name in dict.fromkeys(name for of_part in of_policy.values() for name in of_part):
        policy_nT, still_nT = (_beside(errors, name) for errors in (of_policy, of_still))
        sign = 1 if MEASURES[name].more_is_better else -1
        gain = _interval(sign * (policy_nT - still_nT), episode_n, seed)
        own = _interval(policy_nT, episode_n, seed)
        report[POLICY][name] = None if own is None else own["mean"]
        report[f"{POLICY}_95"][name] = None if own is None else own["interval_95"]
        report[STILL][name] = _mean(still_nT)
        report["gain"][name] = gain
    report["parts"] = {part: _by_offset(of_policy[part], of_still[part]) for part in of_policy}
    return report


def rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of a table: each part of each dataset at a few offsets, and over all of them."""
    measures = [
        name for name in MEASURES if any(name in found[POLICY] for found in report["datasets"].values())
    ]
    headers = ["dataset", "part", "step", "seconds"]
    for name in measures:
        headers += [MEASURES[name].header, "hold still"]
    body = []
    for dataset, found in report["datasets"].items():
        for part, of_part in found["parts"].items():
            for offset in _shown(len(of_part["steps"])):
                seconds = None if found["step_s"] is None else offset * found["step_s"]
                body.append([dataset, part, offset, seconds, *_cells(of_part, measures, offset)])
        body.append([dataset, "all", "all", None, *_cells(found, measures, None)])
    return headers, body


def _shown(horizon: int) -> list[int]:
    return sorted({round(at) for at in np.linspace(0, horizon - 1, OFFSETS_SHOWN)})


def _cells(of_part: Mapping[str, Any], measures: Sequence[str], offset: int | None) -> list[float | None]:
    cells: list[float | None] = []
    for name in measures:
        for source in (POLICY, STILL):
            value = of_part[source].get(name)
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


def _by_offset(policy: Mapping[str, FloatArray], still: Mapping[str, FloatArray]) -> dict[str, Any]:
    counted_T = np.max([np.isfinite(error_nT).sum(axis=0) for error_nT in policy.values()], axis=0)
    means = {
        source: {name: [_mean(error_n) for error_n in error_nT.T] for name, error_nT in errors.items()}
        for source, errors in ((POLICY, policy), (STILL, still))
    }
    return {"steps": counted_T.tolist(), **means}


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
