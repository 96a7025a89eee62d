"""Flags: frames that are skipped, masked or weighed, in loaders, statistics, mixtures and selections.

Legend: B rows, T horizon.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.window_loaders import flagged_version, open_loader
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.robot.tables import Flag, flag_named
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.windows.chunk_statistics import chunk_statistics
from robot_foundry.windows.window import WindowSpec


def test_flags_skip_mask_and_weigh(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written = flagged_version(store)
    plain_flags = np.concatenate([episode.flags for episode in written.episodes])
    with open_loader(store, "sim", horizon=3, cameras=()) as loader:
        plain = loader.batch(0)
        assert loader.mixture.components[0].num_samples == len(plain_flags)
    uses = {"noop": "skip", "terminal": "mask", "intervention": 2.0}
    with open_loader(store, "sim", horizon=3, cameras=(), flags=uses) as loader:
        component = loader.mixture.components[0]
        batches = [loader.batch(b) for b in range(2)]
        samples = np.concatenate([loader._order.at(batch.k_B)[2] for batch in batches])
    assert component.selection["skip"] == ["noop"]
    kept = np.flatnonzero((plain_flags & Flag.NOOP) == 0)
    assert component.num_samples == len(kept) < len(plain_flags)
    rows = kept[samples]
    weights = np.concatenate([batch.weight_B for batch in batches])
    assert np.array_equal(weights, np.where(plain_flags[rows] & Flag.INTERVENTION, 2, 1).astype(np.float32))
    masks = np.concatenate([batch.step_mask_BT for batch in batches])
    ends = np.cumsum([len(episode.flags) for episode in written.episodes])
    last = ends[np.searchsorted(ends, rows, side="right")] - 1
    for step in range(3):  # the last row is terminal
        assert np.array_equal(masks[:, step], rows + step < last)
    assert sum(batch.counts["action"] for batch in batches) == masks.sum() * 10
    assert (plain.weight_B == 1).all()


def test_a_dataset_without_a_target_that_counts_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flagged_version(store)
    flagged_version(store, "idle", flags=[Flag.NOOP] * 12)
    both = make_mixture(store, {"sim": 1, "idle": 1})
    assert chunk_statistics(both).action.digests[0].count
    with pytest.raises(FoundryError, match="no target of 'idle' counts: .* or flagged noop"):
        chunk_statistics(both, masked=["noop"])
    with pytest.raises(FoundryError, match="no frame of idle@v1 is left: all that are selected are noop"):
        make_mixture(store, {"sim": 1, "idle": 1}, skip=["noop"])
    with pytest.raises(FoundryError, match="no action stream 'state' in idle, sim,.*streams of all: next_"):
        chunk_statistics(both, stream="state")


def test_what_is_skipped_stays_skipped_in_mixtures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flagged_version(store)
    whole = make_mixture(store, {"sim": 1}, split="all").mixture
    skipped = make_mixture(store, {"sim": 1}, split="all", skip=["noop"]).mixture
    assert "skip" not in whole.components[0].selection and whole.id != skipped.id
    with load(whole, WindowSpec(flags={"noop": "skip"}, cameras=()), seed=0, global_batch=1, store=store,
              split="all", threads=0) as loader:  # fmt: skip
        assert loader.mixture == skipped
    with load(
        skipped, WindowSpec(cameras=()), seed=0, global_batch=1, store=store, split="all", threads=0
    ) as loader:
        assert loader.mixture == skipped
    everything = [str(flag.name).lower() for flag in Flag]
    flagged_version(store, "idle", np.full(9, Flag.NOOP, np.uint32))
    with pytest.raises(FoundryError, match="no frame of idle@v1 .*is left"):
        make_mixture(store, {"idle": 1}, split="all", skip=everything)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["train", "val", "all"]),
    st.sampled_from(["episode", "time"]),
    st.sets(st.sampled_from(["noop", "intervention", "terminal"])),
)
def test_a_selection_is_what_it_would_be_less_the_flagged(
    some: tuple[Store, Any], split: str, by: str, skip: set[str]
) -> None:
    store, written = some
    spec = {"split": split, "split_by": by, "val_fraction": "2/5", "gap": 1}
    version = written.version
    whole = OpenVersion(store, version).select(spec)
    kept = OpenVersion(store, version).select({**spec, "skip": sorted(skip)})
    flags: dict[int, list[np.ndarray]] = {}
    for episode in written.episodes:
        flags.setdefault(int(episode.key[2]), []).append(episode.flags)
    shards = {shard: np.concatenate(parts) for shard, parts in flags.items()}
    bits = int(flag_named(*skip))
    rows = [(shard, row) for shard, start, stop in whole.ranges() for row in range(start, stop)]
    expected = [(shard, row) for shard, row in rows if not shards[shard][row] & bits]
    found = [(shard, row) for shard, start, stop in kept.ranges() for row in range(start, stop)]
    assert found == expected and kept.num_samples == len(expected)
    starts = {shard: np.cumsum([0, *map(len, parts)]) for shard, parts in flags.items()}
    episodes = {(s, int(np.searchsorted(starts[s], row, side="right"))) for s, row in expected}
    assert kept.num_groups == len(episodes)
    assert (kept.id == whole.id) == (len(expected) == len(rows))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Any]:
    """Many episodes with flags, some of a single frame."""
    store = Store(tmp_path_factory.mktemp("flags"))
    return store, flagged_version(store, lengths=[[14, 1, 9, 11], [17, 30], [10, 12, 9, 13]])
