"""Members of a window in the layout of VLA Foundry (TRI-ML/vla_foundry), which trains on such tars.

    <number>.<role>_t<offset>.jpg          offset -1, 0, … in steps from the anchor
    <number>.lowdim.npz                    fields [L, d], past_mask [L], future_mask [L]; masks of dims
    <number>.metadata.json                 episode_id, anchor_timestep, anchor_relative_idx, …
    <number>.language_instructions.json    {"original": all texts of the frame}

A field is a quantity of a part, `state.right.ee_position`, as one sequence of L = P + 1 + F steps: P before
the anchor, which is at P and counts as future, F after it. States up to the anchor and actions from it on are
the loader's, to the bit. Rotations are the first two columns of R, as everywhere here, and not the rows that
the tools of VLA Foundry write; the names of fields are others, too, so that nobody mixes the two by accident.

Legend: S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.export.windows.rows import WindowRow
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.arrays import write_npz

STATE, ACTION = "state", "action"


@dataclass(frozen=True)
class Field:
    """The dims `at` of the union state or action, one after the other."""

    name: str
    of: str
    at: tuple[int, ...]


def fields_of(state: ActionSpace, action: ActionSpace) -> list[Field]:
    """The fields of these spaces: states, then actions."""
    fields: dict[tuple[str, str], list[int]] = {}
    for of, space in ((STATE, state), (ACTION, action)):
        for i, dim in enumerate(space):
            stem = dim.name if dim.component is None else dim.name.removesuffix(f".{dim.component}")
            fields.setdefault((of, f"{of}.{stem}"), []).append(i)
    return [Field(name, of, tuple(at)) for (of, name), at in fields.items()]


@dataclass(frozen=True)
class Sequences:
    """A window as sequences of L steps: states, actions, and which steps of the past and future are real."""

    state_LS: NDArray[np.float32]
    action_LA: NDArray[np.float32]
    past_L: NDArray[np.bool_]
    future_L: NDArray[np.bool_]


def sequences_of(row: WindowRow) -> Sequences:
    """The window between what lies before and after it."""
    around = row.around
    assert around is not None
    past, future = len(around.past_P), len(around.state_FS)
    return Sequences(
        np.concatenate([row.state_HS, around.state_FS]),
        np.concatenate([around.action_PA, row.action_TA]),
        np.concatenate([around.past_P, np.zeros(1 + future, np.bool_)]),
        np.concatenate([np.zeros(past, np.bool_), row.step_mask_T]),
    )


def members(row: WindowRow, fields: list[Field]) -> dict[str, bytes]:
    """By what follows the number and a dot."""
    history = len(row.state_HS)
    named = {
        f"{role}_t{i - history + 1}.jpg": picture.data
        for role, pictures in row.pictures.items()
        for i, picture in enumerate(pictures)
        if picture is not None
    }
    whole = sequences_of(row)
    values = {STATE: whole.state_LS, ACTION: whole.action_LA}
    lowdim: dict[str, NDArray[Any]] = {field.name: values[field.of][:, field.at] for field in fields}
    lowdim |= {"past_mask": whole.past_L, "future_mask": whole.future_L}
    lowdim |= {"state_dim_mask": row.state_mask_S, "action_dim_mask": row.action_dim_mask_A}
    return named | {
        "lowdim.npz": write_npz(lowdim),
        "metadata.json": canonical_json(_metadata(row, len(whole.past_L))),
        "language_instructions.json": canonical_json({"original": row.instructions}),
    }


def _metadata(row: WindowRow, length: int) -> dict[str, Any]:
    around = row.around
    assert around is not None
    past = len(around.past_P)
    first = row.frame - round(past * around.step)
    last = row.frame + round((length - 1 - past) * around.step)
    before = sum(row.frame - step * around.step < 0 for step in range(1, past + 1))
    after = sum(row.frame + step * around.step > row.num_frames - 1 for step in range(1, length - past))
    sizes = {
        role: next((p for p in pictures if p is not None), None) for role, pictures in row.pictures.items()
    }
    return {
        "episode_id": row.episode,
        "sample_id": f"{row.component}_{row.episode}_t{row.frame:06d}",
        "anchor_timestep": row.frame,
        "anchor_relative_idx": past,
        "image_timesteps": row.frame_H.tolist(),
        "lowdim_start_timestep": first,
        "lowdim_end_timestep": last,
        "past_padding": before,
        "future_padding": after,
        "camera_names": [role for role, picture in sizes.items() if picture is not None],
        "original_episode_length": row.num_frames,
        "original_image_sizes": {
            role: [picture.width, picture.height] for role, picture in sizes.items() if picture is not None
        },
        "is_padded": before + after > 0,
        "dataset": row.component,
        "version": row.version,
        "embodiment": row.embodiment,
        "instruction": row.instruction,
        "dt": row.dt,
        "weight": row.weight,
        "k": row.k,
    }


def preprocessing_config(spec: Mapping[str, Any], history: int, horizon: int, quality: int) -> dict[str, Any]:
    """What VLA Foundry reads of how tars were made; `spec` is the window as JSON."""
    return {
        "type": "robot_foundry",
        "camera_names": list(spec["cameras"]),
        "image_indices": list(range(1 - history, 1)),
        "past_lowdim_steps": history - 1,
        "future_lowdim_steps": horizon - 1,
        "padding_strategy": "copy",
        "jpeg_quality": quality,
        "resize_images_size": None if spec["image"] is None else list(reversed(spec["image"])),
        "rotation_6d": "first two columns of the rotation matrix",
        "window": dict(spec),
    }


def data_params(
    spec: Mapping[str, Any], history: int, horizon: int, fields: list[Field], *, is_any_missing: bool
) -> dict[str, Any]:
    """Of its `data` section, all but where manifests and statistics lie, and how they are weighted."""
    return {
        "type": "robotics",
        "camera_names": list(spec["cameras"]),
        "image_indices": list(range(1 - history, 1)),
        "language_instruction_types": ["original"],
        "proprioception_fields": list(_names(fields, STATE)),
        "action_fields": list(_names(fields, ACTION)),
        "lowdim_past_timesteps": history - 1,
        "lowdim_future_timesteps": horizon - 1,
        "pad_missing_images": is_any_missing,
        "normalization": {"method": "percentile_1_99", "centered_norm": True, "epsilon": 0.01},
    }


def _names(fields: list[Field], of: str) -> Iterator[str]:
    return (field.name for field in fields if field.of == of)
