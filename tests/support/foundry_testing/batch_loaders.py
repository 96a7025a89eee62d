"""Loaders of two unlike datasets, and all that their batches hold.

Legend: B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from foundry_testing.loader_fixtures import Written, write_version
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.windows.window import WindowSpec

WINDOW = WindowSpec(cameras=("primary", "wrist_right"), image=(24, 32), horizon=5)
WEIGHTS = {"sim": 0.6, "real": 0.4}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Written]]:
    """Two datasets of unlike robots, rates and cameras, with every flaw that the loader must mask."""
    store = Store(tmp_path_factory.mktemp("store"))
    cameras = {"primary": (24, 32), "wrist_right": (20, 20)}
    sim = write_version(store, "sim", [[12, 9], [17]], cameras=cameras)
    real = write_version(
        store, "real", [[11, 2], [1, 13]], cameras={"primary": (30, 40)}, embodiment="ur5", joints=6, fps=10
    )
    return store, {"sim": sim, "real": real}


def open_loader(store: Store, **options: Any) -> Loader[Any]:
    defaults: dict[str, Any] = {"seed": 5, "global_batch": 16, "store": store, "split": "all", "threads": 0}
    return load(options.pop("ref", WEIGHTS), options.pop("window", WINDOW), **(defaults | options))


def contents(batches: Sequence[Batch]) -> dict[int, tuple]:
    """Every field of every row as bytes, by position k."""
    rows = {}
    for batch in batches:
        for i in range(len(batch)):
            row = batch.rows(slice(i, i + 1))
            arrays = [v for v in vars(row).values() if isinstance(v, np.ndarray)]
            pictures = [row.images[role] for role in sorted(row.images)]
            masks = [row.image_mask[role] for role in sorted(row.image_mask)]
            fields = [(a.dtype.str, a.shape, a.tobytes()) for a in arrays + pictures + masks]
            rows[int(row.k_B[0])] = (row.step, row.modality, row.instruction, row.counts["action"], *fields)
    return rows
