"""What an earlier run left is reused where it is whole; what is not is written again; a remap refuses it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foundry_testing import reach_stores
from foundry_testing.reach_stores import flip, folder_of, found, tar_of
from make_robomimic import make

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.remapping import remap, spec_of
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

# Fixtures.
made, store = reach_stores.made, reach_stores.store

WIDER = ["mapping.state.right.gripper_opening.open=0.1"]


def lose(tar: Path) -> None:
    tar.unlink()


def cut(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:-512])


def spoil_index(tar: Path) -> None:
    index = tar.with_suffix(".index.arrow")
    flip(index, index.stat().st_size // 2)  # in the names of members


def lose_index(tar: Path) -> None:
    tar.with_suffix(".index.arrow").unlink()


def again(made, store, **how):
    return run("robomimic", made / "source", store=store, name="reach", **how)


@pytest.mark.parametrize("known", ["version", "shards", "tars"])
@pytest.mark.parametrize("damage", [lose, cut, spoil_index, lose_index])
def test_a_shard_that_is_not_whole_is_written_again(made, store, damage, known):
    """The version may be known as made, or only its shards, or not even the files of the source."""
    tar = tar_of(store)
    before = {path: path.read_bytes() for path in (tar, tar.with_suffix(".index.arrow"))}
    damage(tar)
    if known != "version":
        shutil.rmtree(store / "builds")
    if known == "tars":
        shutil.rmtree(store / "cache")
    report = again(made, store)
    if not (known == "version" and damage is spoil_index):
        # An index of the right name is looked into only where shards are.
        assert (report.shards_written, report.shards_reused, report.noop) == (1, 1, False)
        assert {path: path.read_bytes() for path in before} == before
        assert found(store, deep=True) == []
        assert str(report.version) == "reach@v1"
    assert again(made, store).noop


def test_a_dry_run_counts_what_it_would_write(made, store):
    assert again(made, store, dry_run=True).shards_reused == 2
    cut(tar_of(store))
    report = again(made, store, dry_run=True)
    assert (report.shards_written, report.shards_reused) == (1, 1)


@pytest.mark.parametrize("name", ["episodes.arrow", "frames"])
def test_a_table_that_is_gone_is_made_again(made, store, name):
    path = folder_of(store) / name
    path = path if path.is_file() else next(path.iterdir())
    before = path.read_bytes()
    path.unlink()
    report = again(made, store)
    assert (report.shards_written, report.noop) == (0, False)
    assert path.read_bytes() == before and found(store) == []


def test_a_part_of_a_long_episode_is_written_again(tmp_path):
    make(tmp_path / "long.hdf5", seed=2, episodes=1, frames=40, size=16)
    spec, store = load_spec("robomimic", ["content.shard_bytes=1500"]), tmp_path / "store"
    run(spec, tmp_path / "long.hdf5", store=store, name="reach")
    tars = {path: path.read_bytes() for path in (store / "shards" / "reach").glob("*.tar")}
    for tar in tars:
        cut(tar)
        report = run(spec, tmp_path / "long.hdf5", store=store, name="reach")
        assert not report.noop and tar.read_bytes() == tars[tar]
    assert found(store, deep=True) == []


def test_a_remap_refuses_tars_that_are_not_whole_and_names_the_next_command(made, store):
    new = remap("reach", spec_of("reach", None, WIDER, store=store), store=store)
    assert remap("reach@v1", spec_of("reach@v1", None, WIDER, store=store), store=store) == new
    for damage, said in ((cut, "bytes in place of"), (lose, "is missing")):
        damage(tar_of(store))
        with pytest.raises(FoundryError, match=said) as refused:
            remap("reach@v1", spec_of("reach@v1", None, WIDER, store=store), store=store)
        assert str(tar_of(store) if damage is cut else "") in refused.value.message
        assert "foundry-data ingest" in refused.value.hint
    again(made, store)
    assert remap("reach@v1", spec_of("reach@v1", None, WIDER, store=store), store=store) == new


def test_a_remap_makes_its_tables_again(store):
    new = remap("reach", spec_of("reach", None, WIDER, store=store), store=store)
    table = folder_of(store) / "leaves.arrow"
    before = table.read_bytes()
    table.write_bytes(before[:100])
    assert remap("reach@v1", spec_of("reach@v1", None, WIDER, store=store), store=store) == new
    assert table.read_bytes() == before and found(store) == []
