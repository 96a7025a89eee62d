"""Names that texts and attributes share with LeRobot's own columns: nothing takes the place of another.

Sources are LeRobot datasets whose names are those of the columns that an export makes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foundry_testing.lerobot_datasets import recordings, write_dataset
from foundry_testing.lerobot_exports import Exported
from foundry_testing.shells import Shell

from robot_foundry.ingest import ingest

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
