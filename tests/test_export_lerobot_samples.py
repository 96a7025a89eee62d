"""Real LeRobot datasets into a store, out of it, and in again: states and actions to the bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from foundry_testing.lerobot_exports import Exported, came_back
from foundry_testing.shells import Shell

from robot_foundry.ingest import ingest

SAMPLES = Path(os.environ.get("FOUNDRY_SAMPLES", "/nonexistent"))
pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="FOUNDRY_SAMPLES names no folder of real recordings"
)


@pytest.mark.parametrize(
    ("sample", "frames", "options"),
    [
        ("lerobot_v30/pusht_image_slice", 420, ("--layout", "v3.0", "--images")),
        ("lerobot_v30/pusht_image_slice", 420, ("--layout", "v2.1", "--codec", "h264")),
        ("lerobot_v21/cr5_banana_2ep", 412, ("--layout", "v3.0", "--images")),
        ("lerobot_fixture_ioai/lerobotv2", 6, ("--layout", "v3.0", "--codec", "av1")),
        ("lerobot_fixture_ioai/lerobotv3", 6, ("--layout", "v2.1", "--codec", "av1")),
    ],
)
def test_what_goes_out_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: str, frames: int, options: tuple[str, ...]
) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    ingest("lerobot", Path(str(SAMPLES), sample), store=store, name="first")
    Shell(capsys).json(store, "export", "first", "--to", "lerobot", "--out", str(out), *options)
    assert Exported(out).data.num_rows == frames
    ingest("lerobot", out, store=store, name="back")
    assert came_back(store, "first", "back") == frames
