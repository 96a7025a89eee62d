"""Corrupt samples are substituted, named and limited; files that cannot be read stop the run.

Legend: B rows, T horizon, A action dims.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foundry_testing.batch_loaders import contents, open_loader
from foundry_testing.loader_fixtures import write_version

from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.reader import ShardReader
from robot_foundry.windows.window import WindowSpec


def damage(store, loader, dataset, member_end):
    """Flip one byte in the middle of the first image member whose name ends so; the member's frame row."""
    source = next(s for s in loader._reader.drafts.sources if s.component.name == dataset)
    reader = source.shard(0).reader
    names = reader.index["name"].to_pylist()
    row = next(i for i, name in enumerate(names) if name.endswith(member_end))
    offset = reader.index["offset"][row].as_py() + reader.index["size"][row].as_py() // 2
    path = store.storage.local_path(reader.tar_path)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
    return names[row]


@pytest.fixture
def sim_store(tmp_path):
    store = Store(tmp_path)
    write_version(store, "sim", [[12, 9], [17]], cameras={"primary": (24, 32)})
    return store


@pytest.mark.parametrize("threads", [0, 3])
def test_a_flipped_byte_is_substituted_and_changes_no_other_row(sim_store, threads):
    window = WindowSpec(horizon=4)
    options = {"ref": "sim", "window": window, "threads": threads, "global_batch": 38}
    with open_loader(sim_store, **options) as loader:
        clean = contents([next(loader) for _ in range(4)])
        assert loader.substitutions == ()
        member = damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with open_loader(sim_store, **options) as loader:
        batches = [next(loader) for _ in range(4)]
        substitutions = loader.substitutions
        dataset, _, sample = loader._order.at(np.arange(4 * 38))
    found = contents(batches)
    changed = {k for k in clean if clean[k] != found[k]}
    # Frame 5 of the first episode is seen from the anchors 5 and 6.
    assert {int(sample[k]) for k in changed} == {5, 6}
    assert changed == {item.k for item in substitutions} and len(changed) == 8
    for item in substitutions:
        assert (item.dataset, item.sample) == ("sim", sample[item.k])
        assert item.substitute not in (5, 6)
        assert member in item.reason and "checksum" in item.reason
    # A substitute is that sample as it is elsewhere; its own instruction choice is keyed by k.
    images = {int(sample[k]): row for batch in batches for k, row in rows_of(batch)}
    for item in substitutions:
        row = next(row for batch in batches for k, row in rows_of(batch) if k == item.k)
        assert np.array_equal(row.images["primary"], images[item.substitute].images["primary"])
        assert np.array_equal(row.action_BTA, images[item.substitute].action_BTA)


def rows_of(batch):
    return [(int(batch.k_B[i]), batch.rows(slice(i, i + 1))) for i in range(len(batch))]


def test_substitution_depends_on_neither_threads_nor_company(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    found = []
    for threads, world in ((0, 1), (4, 2)):
        batches, substitutions = [], set()
        for rank in range(world):
            with open_loader(
                sim_store,
                ref="sim",
                window=WindowSpec(),
                global_batch=38,
                threads=threads,
                rank=rank,
                world=world,
            ) as loader:
                batches += [next(loader) for _ in range(2)]
                substitutions |= set(loader.substitutions)
        found.append((contents(batches), substitutions))
    assert found[0] == found[1]
    assert len(found[0][1]) == 4


def test_too_much_corruption_ends_the_run(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with (
        open_loader(
            sim_store, ref="sim", window=WindowSpec(), global_batch=38, max_substitutions=3
        ) as loader,
        pytest.raises(FoundryError, match="4 samples were corrupt, above the limit of 3") as refused,
    ):
        for _ in range(2):
            next(loader)
    assert refused.value.hint == deep_validation(sim_store)


def test_a_dataset_with_nothing_but_corruption_is_named_with_the_command_that_lists_it(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec()) as loader:
        for path in Path(sim_store.url).rglob("*.tar"):
            data = path.read_bytes()
            path.write_bytes(data.replace(bytes.fromhex("ffd8ff"), bytes(3)))  # how a JPEG begins
        with pytest.raises(FoundryError, match="'sim' is corrupt in 16 samples") as refused:
            next(loader)
    assert refused.value.hint == deep_validation(sim_store)


def deep_validation(store):
    """The command that finds changed bytes of images: the version by its id, and all bytes read."""
    version = resolve(store, "sim")
    assert resolve(store, f"sim@{version.version_id[:12]}") == version
    return f"foundry-data validate sim@{version.version_id[:12]} --deep"


def test_a_read_that_fails_once_is_repeated(sim_store, monkeypatch):
    read, failed = ShardReader.read, set()

    def read_badly_once(self, row):
        data = read(self, row)
        if row not in failed:
            failed.add(row)
            return data[: len(data) // 2]
        return data

    with open_loader(sim_store, ref="sim", window=WindowSpec()) as loader:
        expected = contents([loader.batch(0)])
        monkeypatch.setattr(ShardReader, "read", read_badly_once)
        assert contents([loader.batch(0)]) == expected
        assert failed and loader.substitutions == ()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_file_that_cannot_be_read_stops_the_run(sim_store, threads):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), threads=threads) as loader:
        for path in Path(sim_store.url.removeprefix("file://")).rglob("*.tar"):
            path.unlink()
        with pytest.raises((FoundryError, OSError), match="tar"):
            next(loader)


def test_a_share_of_the_samples_may_be_corrupt_and_it_is_counted_over_a_restart(sim_store):
    """Two anchors of 38 see the damaged frame, 2 in each batch: 5.3 % of the samples."""
    options = {"ref": "sim", "window": WindowSpec(), "global_batch": 38, "max_substitutions": 3}
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with open_loader(sim_store, **options, max_substituted=0.06) as loader:
        for _ in range(10):
            next(loader)
        state = loader.state_dict()
        assert state["substituted"] == len(loader.substitutions) == 20
    with open_loader(sim_store, **options, max_substituted=0.05) as loader:
        loader.load_state_dict(state)
        with pytest.raises(FoundryError, match="22 samples were corrupt, above the limit of 20 among 418"):
            next(loader)


def test_a_substitution_names_the_shard_and_the_member(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        member = damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        next(loader)
        assert {item.member for item in loader.substitutions} == {member}
        (shard,) = {item.shard for item in loader.substitutions}
        assert sim_store.storage.exists(shard) and shard.endswith(".tar")
        assert all(shard in item.reason for item in loader.substitutions)
