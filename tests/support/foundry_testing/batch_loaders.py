"""Loaders of two unlike datasets of a kind, and all that their batches hold.

Legend: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from foundry_testing.loader_fixtures import Written, write_version
from foundry_testing.pairs import some_pairs, write_pairs
from foundry_testing.tokens import write_tokens
from robot_foundry.catalog.store import Store
from robot_foundry.loader.kind import SampleSettings
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.keyed import generator
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


@dataclass(frozen=True)
class Data:
    """A store with datasets `sim` and `real` of one kind, and how samples of it are asked for.

    `loss` is the name of what batches count.
    """

    store: Store
    window: SampleSettings
    loss: str

    def open(self, **options: Any) -> Loader[Any]:
        """By default of both, in equal order for equal options."""
        return open_loader(self.store, **({"window": self.window} | options))


@pytest.fixture(scope="module", params=["robot", "tokens", "pairs"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Two datasets of each kind: what holds for one holds for all."""
    if request.param == "robot":
        store, _ = request.getfixturevalue("written")
        return Data(store, WINDOW, "action")
    store = Store(tmp_path_factory.mktemp("store"))
    if request.param == "pairs":
        for seed, (name, count) in enumerate({"sim": 90, "real": 40}.items()):
            write_pairs(store, name, some_pairs(count, seed), per_shard=32)
        return Data(store, PairSpec(PairRows(60, image=(16, 16)), image_tokens=4), "answer")
    for name, shards in {"sim": [[12, 90], [0, 170]], "real": [[11, 2], [1, 130, 5]]}.items():
        write_tokens(store, name, [texts(name, lengths) for lengths in shards], block_tokens=64)
    return Data(store, RowSpec(length=8), "text")


def texts(name: str, lengths: Sequence[int]) -> list[str]:
    """Texts of so many bytes, each another."""
    draws = (generator("text", name, i).integers(32, 127, n) for i, n in enumerate(lengths))
    return [bytes(byte_N.astype(np.uint8)).decode() for byte_N in draws]


def contents(batches: Sequence[Any]) -> dict[int, tuple]:
    """Every field of every row as bytes, by position k."""
    rows = {}
    for batch in batches:
        for i in range(len(batch)):
            row = batch.rows(slice(i, i + 1))
            values = (getattr(row, item.name) for item in fields(row))
            rows[int(row.k_B[0])] = (*map(plain, values), plain(row.counts))
    return rows


def plain(value: Any) -> Any:
    """As what can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value
