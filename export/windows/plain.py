"""Members of a window for any WebDataset loader.

    <number>.<role>.<i>.jpg|png    the images of a camera, i = 0 the oldest; none where there is no image
    <number>.lowdim.npz            state [H, S], state_mask [S], action [T, A], action_dim_mask [A],
                                   step_mask [T]
    <number>.json                  instruction, episode, frame, …

The number has nine digits. What the dims are called stands once, in windows.json.
"""

from __future__ import annotations

from robot_foundry.export.windows.rows import WindowRow
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.arrays import write_npz


def members(row: WindowRow) -> dict[str, bytes]:
    """By what follows the number and a dot."""
    named = {
        f"{role}.{i}.{picture.encoding}": picture.data
        for role, pictures in row.pictures.items()
        for i, picture in enumerate(pictures)
        if picture is not None
    }
    lowdim = write_npz(
        {
            "state": row.state_HS,
            "state_mask": row.state_mask_S,
            "action": row.action_TA,
            "action_dim_mask": row.action_dim_mask_A,
            "step_mask": row.step_mask_T,
        }
    )
    about = {
        "dataset": row.component,
        "version": row.version,
        "embodiment": row.embodiment,
        "episode": row.episode,
        "frame": row.frame,
        "num_frames": row.num_frames,
        "instruction": row.instruction,
        "instructions": row.instructions,
        "dt": row.dt,
        "weight": row.weight,
        "k": row.k,
        "image_mask": {role: [p is not None for p in pictures] for role, pictures in row.pictures.items()},
    }
    return named | {"lowdim.npz": lowdim, "json": canonical_json(about)}
