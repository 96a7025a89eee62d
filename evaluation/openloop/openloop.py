"""Open loop: chunks of a policy beside what was demonstrated, on rows that training did not see.

Both are compared as absolute targets, in the frame and the units of the dataset. The controls see nothing:

    hold_still   the state at the anchor, kept for the whole chunk
    repeat_last  the target of the row before the anchor, kept likewise: the last one that is known there. At
                 the first row of an episode there is none. Where targets are the states that follow, it is
                 the state at the anchor, which is hold_still, and it is left out.

Shapes: B rows, m of them of one dataset, T steps, d dims of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture, make_mixture
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.openloop.anchors import Anchors, Place
from robot_foundry.evaluation.openloop.errors import FloatArray, chunk_errors, dim_errors, unmeasured
from robot_foundry.evaluation.openloop.report import REPEAT, STILL, Chunk, Told, dataset_report
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
# Streams whose targets are the states that follow.
OF_STATES = ("next_state",)
SAME_AS_STILL = (
    "the target before the anchor is the state at the anchor, so repeating it is holding still (stream '{}')"
)


def openloop(
    policy: Policy, store: Store, *, split: str = "val", samples: int = 512, seed: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """Errors of the policy and of the controls by dataset (see `report.dataset_report`).

    `seed` decides the rows and the policy's noise. Where no episode is held out, the end of every episode is
    measured, and `note` says that training saw it.
    """
    opened, note = _mixture(policy, store, split)
    window = policy.config.data.window.as_seen
    batches = -(-samples // ROWS)
    chunks: dict[int, list[Chunk]] = {}
    loader = load(opened, window, seed=seed, global_batch=ROWS, split=split, threads=0)
    with loader, Progress(samples, "samples", "open loop", quiet=quiet) as progress:
        anchors = Anchors(Drafts(opened, window, seed=seed), Order(opened, seed=seed))
        for b in range(batches):
            batch = loader.batch(b)
            places = anchors.at(batch.k_B)
            wanted = min(ROWS, samples - b * ROWS)
            for row, chunk in enumerate(islice(_chunks(policy, batch, places, seed), wanted)):
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
    stream = policy.config.data.window.stream
    units = {dim.name: dim.unit for dim in dataset.action}
    found = dataset_report(chunks, seed=seed, units=units)
    found |= {"step_s": step_s, "unmeasured": unmeasured(dataset.action)}
    return found | {"left_out": {REPEAT: SAME_AS_STILL.format(stream)} if stream in OF_STATES else {}}


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


def _chunks(policy: Policy, batch: Batch, places: Sequence[Place], seed: int) -> Iterator[Chunk]:
    seeds = [key("openloop", seed, int(k)) for k in batch.k_B]
    predicted = policy.decode(batch, policy.predict(batch, seeds))
    shown = policy.decode(batch, batch.action_BTA.astype(np.float64))
    repeats = policy.config.data.window.stream not in OF_STATES
    for row, (number, place) in enumerate(zip(batch.dataset_B, places, strict=True)):
        dataset = policy.spaces.datasets[number]
        target_Td, counted_T = shown[row], batch.step_mask_BT[row]
        state_D = batch.state_BHD[row, -1].astype(np.float64)
        state_d = dataset.state.gather(state_D, policy.spaces.state, embodiment=dataset.embodiment)
        kept = {STILL: _held(state_d, dataset.state, dataset.action)}
        if repeats:
            kept[REPEAT] = _held(place.last_d, place.space, dataset.action)
        answers = {name: np.broadcast_to(value_d, target_Td.shape) for name, value_d in kept.items()}
        yield Chunk(
            place.episode,
            _told(predicted[row], target_Td, counted_T, dataset.action),
            {
                name: _told(value_Td, target_Td, counted_T, dataset.action)
                for name, value_Td in answers.items()
            },
        )


def _told(
    value_Td: FloatArray, target_Td: FloatArray, counted_T: NDArray[np.bool_], space: ActionSpace
) -> Told:
    """The errors of an answer, NaN at steps that do not count, such as those past the episode's end."""
    parts = chunk_errors(value_Td, target_Td, space)
    return Told(
        {part: _counted(of_part, counted_T) for part, of_part in parts.items()},
        _counted(dim_errors(value_Td, target_Td, space), counted_T),
    )


def _counted(errors: Mapping[str, FloatArray], counted_T: NDArray[np.bool_]) -> dict[str, FloatArray]:
    return {name: np.where(counted_T, error_T, np.nan) for name, error_T in errors.items()}


def _held(value_d: FloatArray | None, space: ActionSpace, action: ActionSpace) -> FloatArray:
    """The target over `action` that values over `space` name; NaN for what they do not tell."""
    if value_d is None:
        return np.full(len(action), np.nan)
    return np.array([value_d[space.index(name)] if name in space else np.nan for name in action.names])
