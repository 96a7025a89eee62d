"""Names that texts and attributes share with LeRobot's own columns: nothing takes the place of another.

Sources have names of the columns that an export makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foundry_testing.lerobot_datasets import recordings, write_dataset
from foundry_testing.lerobot_exports import Exported
from foundry_testing.shells import Shell
from make_robomimic import make

from robot_foundry.export.lerobot.dataset.features import Features
from robot_foundry.export.lerobot.dataset.writer import LeRobotWriter
from robot_foundry.ingest import ingest
from robot_foundry.runtime.errors import FoundryError

KEY = "observation.images.primary"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_a_text_with_the_name_of_another_column_replaces_none(tmp_path: Path, shell: Shell) -> None:
    made = recordings((5,))
    made[0].extra = {KEY: ["a picture"] * 5}
    write_dataset(tmp_path / "in", made, images="image")
    ingest("lerobot", tmp_path / "in", store=tmp_path / "store", name="named")
    shell.json(
        tmp_path / "store", "export", "named", "--to", "lerobot", "--images", "--out", str(tmp_path / "out")
    )
    out = Exported(tmp_path / "out")
    assert out.info["features"][KEY]["dtype"] == "image" and out.data[KEY][0].as_py()["bytes"]
    assert set(out.data[f"annotation.{KEY}"].to_pylist()) == {"a picture"}
    assert np.array_equal(out.column("action", 0), made[0].columns["action"])


def test_an_attribute_with_the_name_of_another_column_stays_behind(tmp_path: Path, shell: Shell) -> None:
    make(tmp_path / "in.hdf5", seed=3, episodes=2, frames=6, size=16)
    own: dict[str, Any] = {"dataset_to_index": 99, "data/file_index": 7, "source_start": 3, "place": "lab"}
    with h5py.File(tmp_path / "in.hdf5", "a") as file:
        for group in file["data"].values():
            group.attrs.update(own)
    ingest("robomimic", tmp_path / "in.hdf5", store=tmp_path / "store", name="named")
    options = ("--to", "lerobot", "--images", "--out", str(tmp_path / "out"))
    told = shell.json(tmp_path / "store", "export", "named", *options)
    for row in Exported(tmp_path / "out").episodes:
        assert row["dataset_to_index"] - row["dataset_from_index"] == row["length"] == 6
        assert row["data/file_index"] == 0 and row["place"] == "lab" and "source_start" not in row
    (warning,) = (text for text in told["warnings"] if "stay behind" in text)
    assert "'data/file_index', 'dataset_to_index'" in warning


def test_a_recorder_is_told_of_a_name_that_is_taken(tmp_path: Path) -> None:
    with (
        pytest.raises(FoundryError, match="'length' of an episode is LeRobot's own"),
        LeRobotWriter(tmp_path / "out", fps=10, features=Features.of(["a"])) as writer,
    ):
        writer.add_episode(
            {"observation.state": np.zeros((2, 1), np.float32)}, task="wait", attributes={"length": 9}
        )
