"""Open loop: chunks of a policy beside what was demonstrated, on rows that training did not see.

Both are compared as absolute targets, in the frame and the units of the dataset. The control is to hold
still: the state at the anchor, kept for the whole chunk.
Shapes: B rows, T steps, d dims of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture, make_mixture
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.openloop.errors import Errors, FloatArray, chunk_errors, unmeasured
from robot_foundry.evaluation.openloop.report import Chunk, dataset_report
from robot_foundry.loader.load import load
from robot_foundry.loader.order import Order
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.loader.robot.drafts import Drafts
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key
from robot_foundry.runtime.progress import Progress
from robot_foundry.windows.mixtures import window_rows

ROWS = 32


def openloop(
    policy: Policy, store: Store, *, split: str = "val", samples: int = 512, seed: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """Errors of the policy and of holding still by dataset (see `report.dataset_report`).

    `seed` decides the rows and the policy's noise. Where no episode is held out, the end of every episode is
    measured, and `note` says that training saw it.
    """
    opened, note = _mixture(policy, store, split)
    window = policy.config.data.window
    batches = -(-samples // ROWS)
    chunks: dict[int, list[Chunk]] = {}
    loader = load(opened, window, seed=seed, global_batch=ROWS, split=split, threads=0)
    with loader, Progress(samples, "samples", "open loop", quiet=quiet) as progress:
        episodes = _Episodes(opened, Drafts(opened, window, seed=seed), Order(opened, seed=seed))
        for b in range(batches):
            batch = loader.batch(b)
            episode_B = episodes.of(batch.k_B)
            wanted = min(ROWS, samples - b * ROWS)
            for row, chunk in enumerate(islice(_chunks(policy, batch, episode_B, seed), wanted)):
                chunks.setdefault(int(batch.dataset_B[row]), []).append(chunk)
            progress.advance(wanted)
    return {
        "split": split,
        "samples": samples,
        "seed": seed,
        "mixture_id": opened.mixture.id,
        "data": {part.name: {"version": part.component.version} for part in opened.parts},
        "substituted": len(loader.substitutions),
        "note": note,
        "datasets": {
            policy.spaces.datasets[number].name: _report(policy, number, chunks[number], seed)
            for number in sorted(chunks)
        },
    }


def _report(policy: Policy, number: int, chunks: list[Chunk], seed: int) -> dict[str, Any]:
    dataset = policy.spaces.datasets[number]
    step_s = float(policy.steps(number).dt(dataset.fps or np.nan)) or None
    return dataset_report(chunks, seed=seed) | {"step_s": step_s, "unmeasured": unmeasured(dataset.action)}


def _mixture(policy: Policy, store: Store, split: str) -> tuple[OpenMixture, str | None]:
    versions = OpenVersions(store)
    trained = Mixture.from_json(policy.lineage["mixture"])
    try:
        return as_mixture(versions, trained, split=split), None
    except FoundryError as error:
        if split != "val":
            raise
        weights = {f"{c.dataset}@{c.version_id}": c.weight for c in trained.components}
        gap = window_rows(OpenMixture.of(versions, trained), policy.config.data.window.timing)
        ends = make_mixture(versions, weights, split="val", split_by="time", gap=gap)
        return ends, f"{error}; measured on the last tenth of every episode, which training saw"


@dataclass(frozen=True)
class _Episodes:
    """Which episode of its dataset the sample at each position of an order is of."""

    opened: OpenMixture
    drafts: Drafts
    order: Order = field(repr=False)

    def of(self, k_B: NDArray[np.int64]) -> NDArray[np.int64]:
        dataset_B, _, sample_B = self.order.at(k_B)
        episode_B = np.empty(len(k_B), np.int64)
        for number in np.unique(dataset_B).tolist():
            here = dataset_B == number
            episode_B[here] = self.drafts.sources[number].anchors(sample_B[here]).episode_n
        return episode_B


def _chunks(policy: Policy, batch: Batch, episode_B: NDArray[np.int64], seed: int) -> Iterator[Chunk]:
    seeds = [key("openloop", seed, int(k)) for k in batch.k_B]
    predicted = policy.decode(batch, policy.predict(batch, seeds))
    shown = policy.decode(batch, batch.action_BTA.astype(np.float64))
    for row, number in enumerate(batch.dataset_B):
        dataset = policy.spaces.datasets[number]
        counted_T = batch.step_mask_BT[row]
        state_D = batch.state_BHD[row, -1].astype(np.float64)
        state_d = dataset.state.gather(state_D, policy.spaces.state, embodiment=dataset.embodiment)
        still_Td = np.broadcast_to(_held(state_d, dataset.state, dataset.action), shown[row].shape)
        yield Chunk(
            int(episode_B[row]),
            _counted(chunk_errors(predicted[row], shown[row], dataset.action), counted_T),
            _counted(chunk_errors(still_Td, shown[row], dataset.action), counted_T),
        )


def _counted(errors: Errors, counted_T: NDArray[np.bool_]) -> Errors:
    """The same with NaN at steps that do not count, such as those past the episode's end."""
    return {
        part: {name: np.where(counted_T, error_T, np.nan) for name, error_T in of_part.items()}
        for part, of_part in errors.items()
    }


def _held(state_d: FloatArray, state: ActionSpace, action: ActionSpace) -> FloatArray:
    """The target that keeps the robot where it is; NaN for what the state does not tell."""
    return np.array([state_d[state.index(name)] if name in state else np.nan for name in action.names])
