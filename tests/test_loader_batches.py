"""Batches are the same whatever the world, the threads, an interruption or the name of the mixture.

Legend: B rows, H history, T horizon, D state dims, A action dims.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from foundry_testing import batch_loaders
from foundry_testing.batch_loaders import WEIGHTS, contents, open_loader
from foundry_testing.loader_fixtures import write_version

import robot_foundry
from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.robot.source import OpenShards
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.windows.window import WindowSpec

# Fixtures.
written, data = batch_loaders.written, batch_loaders.data


def test_global_batches_are_the_same_for_every_world_thread_count_and_accumulation(data):
    lanes_of_four = make_mixture(data.store, WEIGHTS, split="all", lanes=4, span=2)
    for ref, thread_counts in ((WEIGHTS, (0, 1, 4)), (lanes_of_four, (0, 4))):
        with data.open(ref=ref) as loader:
            expected = contents([loader.batch(b) for b in range(4)])
        assert sorted(expected) == list(range(64))
        for world in (1, 2, 4):
            for threads in thread_counts:
                found = []
                for rank in range(world):
                    with data.open(ref=ref, rank=rank, world=world, threads=threads) as loader:
                        batches = [next(loader) for _ in range(4)]
                        assert {len(batch) for batch in batches} == {16 // world}
                        found += batches
                for parts in (1, 2):
                    size = 16 // world // parts
                    micro = [b.rows(slice(p * size, (p + 1) * size)) for b in found for p in range(parts)]
                    assert contents(micro) == expected
                    assert sum(m.counts[data.loss] for m in micro) == sum(b.counts[data.loss] for b in found)


def test_a_resumed_loader_goes_on_with_the_next_batch(data):
    with data.open(threads=2) as first, data.open(threads=1) as second:
        seen = [next(first) for _ in range(5)]
        state = first.state_dict()
        assert state["b"] == 5  # whatever was read ahead
        second.load_state_dict(state)
        assert contents([next(second) for _ in range(3)]) == contents([next(first) for _ in range(3)])
        second.load_state_dict(state | {"b": 2})
        assert contents([next(second)]) == contents([seen[2]])


def test_the_state_of_another_order_is_refused_in_one_sentence(data):
    with data.open() as loader:
        state = loader.state_dict()
        assert {"b", "seed", "mixture_id", "order_version"} <= set(state)
        with pytest.raises(FoundryError, match="lacks global_batch"):
            loader.load_state_dict({k: v for k, v in state.items() if k != "global_batch"})
        for name, value in (("seed", 6), ("mixture_id", "0" * 32), ("order_version", 2), ("global_batch", 8)):
            with pytest.raises(FoundryError, match=f"another order of samples: it has {name} {value}"):
                loader.load_state_dict(state | {name: value})
        with pytest.raises(FoundryError, match="lacks b, seed"):
            loader.load_state_dict({"mixture_id": "x", "order_version": 1})


def test_a_mixture_is_the_same_however_it_is_named(data):
    committed = commit_mixture(make_mixture(data.store, WEIGHTS, split="all"), "both")
    named = [
        "sim=3,real=2",
        "sim@v1=0.6,real=0.4",
        "both",
        str(committed),
        make_mixture(data.store, WEIGHTS, split="all"),
    ]
    with data.open() as loader:
        expected, identity = contents([next(loader)]), loader.mixture.id
    for ref in named:
        with data.open(ref=ref) as loader:
            assert (loader.mixture.id, contents([next(loader)])) == (identity, expected)


def test_robot_foundry_load_has_useful_defaults(written):
    store, _ = written
    with robot_foundry.load("sim", seed=0, global_batch=32, store=store) as loader:
        batch = next(loader)
    assert batch.images["primary"].shape == (32, 2, 24, 32, 3)
    assert batch.action_BTA.shape == (32, 16, 10)
    assert loader.mixture.components[0].selection["split"] == "train"


def test_what_is_done_to_a_batch_stays_in_it(data):
    with data.open() as loader:
        batch = loader.batch(0)
        expected = contents([batch])
        values = [getattr(batch, item.name) for item in fields(batch)]
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        for array in (*arrays, *getattr(batch, "images", {}).values()):
            array[...] = 1
        assert contents([loader.batch(0)]) == expected


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("threads", [0, 2])
def test_few_descriptors_serve_many_shards(tmp_path, monkeypatch, threads):
    store = Store(tmp_path)
    write_version(store, "sim", [[6]] * 12, cameras={"primary": (16, 16)})
    options = {"ref": "sim", "window": WindowSpec(), "global_batch": 72, "threads": threads}
    with open_loader(store, **options) as loader:
        expected = contents([loader.batch(0)])
        assert open_tars(tmp_path) == 12
    assert open_tars(tmp_path) == 0
    monkeypatch.setattr("robot_foundry.loader.robot.drafts.OpenShards", partial(OpenShards, limit=2))
    with open_loader(store, **options) as loader:
        assert contents([loader.batch(0)]) == expected
        assert open_tars(tmp_path) <= 2


def open_tars(folder: Path) -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.is_relative_to(folder) and link.suffix == ".tar" for link in links)


def test_several_instructions_take_turns_by_position(written):
    store, _ = written
    with open_loader(store, ref="sim", global_batch=64) as loader:
        texts = [text for b in range(4) for text in loader.batch(b).instruction]
    starts = sum(text.startswith("start") for text in texts)
    assert 0 < starts < len(texts) and {text.split()[0] for text in texts} == {"lift", "start"}


def test_a_batch_that_the_ranks_cannot_share_is_refused(data):
    with pytest.raises(FoundryError, match=r"global_batch 16 cannot be shared equally by 3 ranks; rank 3"):
        data.open(world=3, rank=3)
