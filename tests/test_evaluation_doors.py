"""One world enters by every door and comes out the same: HDF5, MCAP, RLDS and LeRobot of one collection.

Shape suffixes: N frames, D dims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.trainer_runs import TINY

import robot_foundry
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.cli import foundry_data, foundry_train
from robot_foundry.cli.output import run
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.ingest.engine import Options
from robot_foundry.ingest.engine import run as run_ingest
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.robot.dataset import Dataset
from robot_foundry.runtime.errors import FoundryError

EPISODES, CAMERAS = 3, ("primary", "wrist_right")
VARIANTS = ("sim", "real")
# What each door calls episode i.
IDS = {"hdf5": "demo_{}", "mcap": "episode-{:06d}", "rlds": "record_{}", "lerobot": "episode_{:06d}"}
OTHERS = tuple(IDS)[1:]
SEED = {"rlds": "episode_metadata/seed"}
# Mean grey levels of a picture of 32 × 32 pixels that AV1 of crf 30 and then JPEG had.
BLUR = 9.0


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `<variant>_<door>` for each variant and door, of the same demonstrations."""
    root = tmp_path_factory.mktemp("doors")
    for variant in VARIANTS:
        request = Request("reach_pair", variant, EPISODES, seed=4, cameras=CAMERAS, size=32)
        for door in IDS:
            out = root / variant / (f"{door}.hdf5" if door == "hdf5" else door)
            collect(request, out, to=door, quiet=True)
            made = run_ingest(
                load_spec("tabletop"), out, store=root / "store", name=f"{variant}_{door}",
                options=Options(max_errors=0),
            )  # fmt: skip
            assert list(made.warnings) == []
    return root


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(doors: Path, variant: str, door: str) -> Dataset:
    return robot_foundry.open(f"{variant}_{door}", doors / "store")


@pytest.mark.parametrize("door", OTHERS)
def test_robot_dims_rate_and_cameras_are_the_same(doors: Path, variant: str, door: str) -> None:
    expected, schema = (asdict(opened(doors, variant, name).schema) for name in ("hdf5", door))
    assert expected["embodiment"] == f"tabletop_{variant}"
    assert (expected["tool_frame"], expected["fps"]) == ("canonical", 10.0)
    assert [camera["role"] for camera in expected["cameras"]] == list(CAMERAS)
    assert len(expected["streams"]["command"]) == (10 if variant == "sim" else 4)
    assert schema == expected


@pytest.mark.parametrize("door", OTHERS)
def test_states_actions_and_flags_are_the_same(doors: Path, variant: str, door: str) -> None:
    first, other = opened(doors, variant, "hdf5"), opened(doors, variant, door)
    assert len(first.episodes()) == len(other.episodes()) == EPISODES
    for index in range(EPISODES):
        expected, found = first.episode(IDS["hdf5"].format(index)), other.episode(IDS[door].format(index))
        assert found.rows.keys() == expected.rows.keys() >= {"state", "action.command", "action.next_state"}
        for name, rows_ND in expected.rows.items():
            np.testing.assert_allclose(found.rows[name], rows_ND, rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(found.rows["flags"], expected.rows["flags"])
        assert expected.rows["flags"][-1] & Flag.TERMINAL
        if door == "mcap":  # which holds float64 too
            for name in ("state", "action.command", "timestamp"):
                np.testing.assert_array_equal(found.rows[name], expected.rows[name])


@pytest.mark.parametrize("door", OTHERS)
def test_words_success_and_scene_are_the_same(doors: Path, variant: str, door: str) -> None:
    first, other = opened(doors, variant, "hdf5"), opened(doors, variant, door)
    for index in range(EPISODES):
        expected, found = first.episode(IDS["hdf5"].format(index)), other.episode(IDS[door].format(index))
        assert said(found) == said(expected) != []
        assert found.success is expected.success is True
        assert found.attributes[SEED.get(door, "seed")] == expected.attributes["seed"]


def said(episode: Any) -> list[tuple[Any, ...]]:
    return [tuple(note[key] for key in ("start", "end", "kind", "text")) for note in episode.annotations]


@pytest.mark.parametrize("door", ["mcap", "rlds"])
def test_pictures_are_the_same(doors: Path, variant: str, door: str) -> None:
    """To the bit, for pixels and JPEG of the same encoder went in."""
    for role in CAMERAS:
        for expected_NHW3, found_NHW3 in pictures(doors, variant, door, role):
            np.testing.assert_array_equal(found_NHW3, expected_NHW3)


def test_a_video_blurs_pictures_and_shows_each_at_its_own_time(doors: Path, variant: str) -> None:
    for role in CAMERAS:
        for expected_NHW3, found_NHW3 in pictures(doors, variant, "lerobot", role):
            off_NN = np.abs(found_NHW3[:, None].astype(int) - expected_NHW3[None]).mean(axis=(2, 3, 4))
            assert off_NN.diagonal().max() < BLUR
            assert off_NN.diagonal().mean() < min(off_NN.diagonal(k).mean() for k in (-2, -1, 1, 2))


def pictures(doors: Path, variant: str, door: str, role: str) -> Iterator[tuple[Any, Any]]:
    """Those of each episode through HDF5 and through another door."""
    first, other = opened(doors, variant, "hdf5"), opened(doors, variant, door)
    for index in range(EPISODES):
        pair = first.episode(IDS["hdf5"].format(index)), other.episode(IDS[door].format(index))
        expected, found = (np.stack([frame[f"image.{role}"] for frame in episode]) for episode in pair)
        yield expected, found


def test_all_doors_mix_and_train_without_a_doubt(
    doors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(doors / "store")
    weights = ",".join(f"{variant}_{door}=1" for variant in VARIANTS for door in IDS)
    mixed = ["mix", "--weights", weights, "--as", "doors", "--store", store]
    assert run(foundry_data.group, "foundry-data", mixed) == 0
    assert "Warning" not in (said := capsys.readouterr()).err, said.err
    trained = ["vla", *TINY, "data.mix=doors", f"data.store={store}", f"run.dir={tmp_path / 'run'}"]
    trained += ["run.steps=2", "data.window.stream=command"]
    assert run(foundry_train.group, "foundry-train", trained) == 0
    said = capsys.readouterr()
    assert "tool frame" not in said.err + said.out and "rates differ" not in said.err + said.out


@pytest.mark.parametrize(
    ("door", "told"),
    [
        ("hdf5", "did you mean 'obs/left_eef_pos'"),
        ("mcap", "did you mean '/left_tool_pose'"),
        ("rlds", "did you mean 'steps/observation/left_eef_pos'"),
        ("lerobot", "right.gripper_opening needs 1 columns as value, and 'observation.state' gives 9"),
    ],
)
def test_two_arms_are_not_read_as_one(door: str, told: str, tmp_path: Path) -> None:
    out = tmp_path / (f"{door}.hdf5" if door == "hdf5" else door)
    collect(
        Request("handover", "sim", 1, seed=0, cameras=("primary", "secondary"), size=16),
        out,
        to=door,
        quiet=True,
    )
    with pytest.raises(FoundryError, match=re.escape(told)):
        run_ingest(load_spec("tabletop"), out, store=tmp_path / "store", name="one")
    if door == "lerobot":
        # The spec of any LeRobot dataset reads both, and two cameras that it has one role for.
        made = run_ingest(load_spec("lerobot"), out, store=tmp_path / "store", name="any")
        dataset = robot_foundry.open("any", tmp_path / "store")
        assert (len(dataset.space("state")), len(dataset.space("command"))) == (16, 14)
        assert {camera.name: camera.role for camera in dataset.schema.cameras} == {
            "front": "secondary", "side": "side",
        }  # fmt: skip
        assert any("--set mapping.cameras.side=ROLE gives it one" in said for said in made.warnings)
        chosen = load_spec("lerobot", ["mapping.cameras.side=tertiary"])
        assert not any(
            "=ROLE" in said for said in run_ingest(chosen, out, store=tmp_path / "store", name="any").warnings
        )
