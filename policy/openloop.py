"""Open loop: chunks of a policy beside what was demonstrated, on rows that training did not see.

The control is to hold still: the state at the anchor, kept for the whole chunk.
Shapes: B rows, T steps, d dims of a dataset, N all steps that count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture, make_mixture
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.normalization.rotation import rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key
from robot_foundry.runtime.progress import Progress
from robot_foundry.windows.mixtures import window_rows

ROWS = 32
FloatArray = NDArray[np.float64]
Errors = dict[str, FloatArray]


def openloop(
    policy: Policy, store: Store, *, split: str = "val", samples: int = 512, seed: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """Mean errors of the policy and of holding still, by dataset; `chunk_errors` says which.

    `gripper` is the share of steps on the right side of half open. Where no episode is held out, the end of
    every episode is measured, and `note` says that training saw it.
    """
    opened, note = _mixture(policy, store, split)
    window = policy.config.data.window
    by_dataset: dict[str, dict[str, list[Errors]]] = defaultdict(lambda: {"policy": [], "hold_still": []})
    batches = -(-samples // ROWS)
    loader = load(opened, window, seed=seed, global_batch=ROWS, split=split, threads=0)
    with loader, Progress(batches * ROWS, "samples", "open loop", quiet=quiet) as progress:
        for b in range(batches):
            batch = loader.batch(b)
            for dataset, source, errors in _errors(policy, batch, seed):
                by_dataset[dataset][source].append(errors)
            progress.advance(ROWS)
    return {
        "split": split,
        "samples": batches * ROWS,
        "mixture_id": opened.mixture.id,
        "note": note,
        "datasets": {
            name: {kind: _means(parts) for kind, parts in by.items()} for name, by in by_dataset.items()
        },
    }


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


def _errors(policy: Policy, batch: Batch, seed: int) -> Iterator[tuple[str, str, Errors]]:
    seeds = [key("openloop", seed, int(k)) for k in batch.k_B]
    predicted = policy.decode(batch, policy.predict(batch, seeds))
    shown = policy.decode(batch, batch.action_BTA.astype(np.float64))
    for row, number in enumerate(batch.dataset_B):
        dataset = policy.spaces.datasets[number]
        counted_T = batch.step_mask_BT[row]
        target_Nd = shown[row][counted_T]
        state_D = batch.state_BHD[row, -1].astype(np.float64)
        state_d = dataset.state.gather(state_D, policy.spaces.state, embodiment=dataset.embodiment)
        still_Nd = np.broadcast_to(_held(state_d, dataset.state, dataset.action), target_Nd.shape)
        yield dataset.name, "policy", chunk_errors(predicted[row][counted_T], target_Nd, dataset.action)
        yield dataset.name, "hold_still", chunk_errors(still_Nd, target_Nd, dataset.action)


def _held(state_d: FloatArray, state: ActionSpace, action: ActionSpace) -> FloatArray:
    """The target that keeps the robot where it is; NaN for what the state does not tell."""
    return np.array([state_d[state.index(name)] if name in state else np.nan for name in action.names])


def chunk_errors(value_Nd: FloatArray, target_Nd: FloatArray, space: ActionSpace) -> Errors:
    """Errors of N steps: distances in mm, angles in degrees, gripper on the right side, joints in rad, m."""
    errors: dict[str, list[FloatArray]] = defaultdict(list)
    for part in dict.fromkeys(dim.part for dim in space):
        position = [i for i, dim in enumerate(space) if (dim.part, dim.quantity) == (part, "ee_position")]
        if position:
            moved = value_Nd[:, position] - target_Nd[:, position]
            errors["position_mm"].append(1000 * np.linalg.norm(moved, axis=-1))
        rot6d = [i for i, dim in enumerate(space) if (dim.part, dim.quantity) == (part, "ee_rot6d")]
        if len(rot6d) == 6 and np.isfinite(value_Nd[:, rot6d]).all():
            errors["rotation_deg"].append(_angle_deg(value_Nd[:, rot6d], target_Nd[:, rot6d]))
    for i, dim in enumerate(space):
        if dim.kind == "gripper":
            right = (value_Nd[:, i] > 0.5) == (target_Nd[:, i] > 0.5)
            errors["gripper"].append(np.where(np.isfinite(value_Nd[:, i]), right.astype(np.float64), np.nan))
        elif dim.quantity == "joint_position":
            errors[f"joint_{dim.unit}"].append(np.abs(value_Nd[:, i] - target_Nd[:, i]))
    return {name: np.concatenate(parts) for name, parts in errors.items()}


def _angle_deg(rot6d_N6: FloatArray, target_N6: FloatArray) -> FloatArray:
    """Angle of the rotation between two, from its trace."""
    between = rot6d_to_matrix(rot6d_N6).swapaxes(-1, -2) @ rot6d_to_matrix(target_N6)
    cosine = (np.trace(between, axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _means(parts: list[Errors]) -> Mapping[str, float | None]:
    names = dict.fromkeys(name for part in parts for name in part)
    means: dict[str, float | None] = {}
    for name in names:
        values = np.concatenate([part[name] for part in parts if name in part])
        values = values[np.isfinite(values)]
        means[name] = float(values.mean()) if values.size else None
    return means
