"""A single bad frame stretches no scale of a run, and is named with its dim, its step and its episode."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import pytest
from foundry_testing.lerobot_datasets import recordings, write_dataset
from foundry_testing.trainer_runs import TINY, records, run, tiny
from make_robomimic import make

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest import ingest
from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.scales import fit_scales

SCOPES = ("pooled", "per_offset")
# The split by episode holds some out; all frames but the last of each episode are trained on.
BY_TIME = ("data.split_by=time", "data.window.stream=next_state")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`right`, and the same with one frame 2 m or 500 m off."""
    folder = tmp_path_factory.mktemp("outliers")
    make(folder / "right.hdf5", seed=0, episodes=6, frames=60, size=16)
    for name, far in (("two", 2.0), ("far", 500.0)):
        shutil.copy(folder / "right.hdf5", folder / f"{name}.hdf5")
        with h5py.File(folder / f"{name}.hdf5", "r+") as file:
            position = file["data/demo_1/obs/robot0_eef_pos"]
            position[20] = position[20] + [far, 0.0, 0.0]
    for name in ("right", "two", "far"):
        ingest("robomimic", folder / f"{name}.hdf5", store=folder / "store", name=name)
    return Store(folder / "store")


def scales(store: Store, name: str, scope: str) -> Any:
    config = tiny(store, "unused", f"data.mix={name}", f"data.normalization_scope={scope}", *BY_TIME)
    job = resolve_vla(config)
    return fit_scales(job.opened, config, job.spaces)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", ["two", "far"])
def test_one_bad_frame_leaves_the_scales_as_they_are(store: Store, name: str, scope: str) -> None:
    right, spoilt = scales(store, "right", scope), scales(store, name, scope)
    for of in ("state", "action"):
        [expected], [found] = getattr(right, of), getattr(spoilt, of)
        rows = zip((expected.scalings, *expected.offsets), (found.scalings, *found.offsets), strict=True)
        for before, after in rows:
            for dim, one, other in zip(expected.space, before, after, strict=True):
                assert other.rule == one.rule, dim.name
                assert 0.5 * one.scale <= other.scale <= 2 * one.scale, dim.name


@pytest.mark.parametrize("scope", SCOPES)
def test_the_frame_is_named_before_anything_is_trained(
    store: Store, scope: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (*TINY, *BY_TIME, "data.mix=two", f"data.normalization_scope={scope}")
    arguments = ["vla", *overrides, "--dry-run", "--store", store.url]
    assert run_command(group, "foundry-train", arguments) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "outlier" in line]
    assert all(re.search(r": frame 20 of demo_000001-\w+ \(two\)$", line) for line in told), told
    assert [line.split()[1:3] for line in told] == [
        ["state", "right.ee_position.x"],
        ["action", "right.ee_position.x"],
    ]
    assert ("at step 0 … 3" in told[1]) == (scope == "per_offset")


def test_a_run_tells_it_before_its_first_step(store: Store, tmp_path: Path) -> None:
    with (
        warnings.catch_warnings(action="error", category=FoundryWarning),
        pytest.raises(FoundryWarning, match=r"right\.ee_position\.x has an outlier of .*: frame 20 of"),
    ):
        run(store, tmp_path, *BY_TIME, "data.mix=two")
    assert checkpoint.latest(tmp_path) is None and records(tmp_path) == []


def test_a_dim_without_a_known_unit_has_none_behind_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recordings((60,) * 6)
    made[1].columns["observation.state"][20] += 500.0
    write_dataset(tmp_path / "in", made, images="image")
    ingest("lerobot", tmp_path / "in", store=tmp_path / "store", name="plain")
    overrides = (*TINY, "data.split_by=time", "data.window.stream=command", "data.mix=plain")
    arguments = ["vla", *overrides, "--dry-run", "--store", str(tmp_path / "store")]
    assert run_command(group, "foundry-train", arguments) == 0, capsys.readouterr().err
    told = [line for line in capsys.readouterr().err.splitlines() if "outlier" in line]
    assert told and all(re.search(r"has an outlier of \d+, beside a scale of ", line) for line in told), told
