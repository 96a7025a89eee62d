"""LeRobot datasets and replay buffers in an object store give the bytes that they give on a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from foundry_testing.lerobot_datasets import CAMERA, write_dataset
from foundry_testing.s3_bucket import s3_bucket
from foundry_testing.zarr_buffers import write_buffer, zipped

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.storage.storage import open_storage


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket() as url:
        yield url


def uploaded(folder: Path, url: str) -> str:
    storage = open_storage(url)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            storage.write(str(file.relative_to(folder)), file.read_bytes())
    return url


def report_of(spec, source, store):
    overrides = [] if spec == "lerobot" else ["content.fps=10"]
    return run(load_spec(spec, overrides), source, store=store, name="made")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_lerobot_dataset(tmp_path, bucket, version):
    write_dataset(tmp_path / "in", version=version)
    there = uploaded(tmp_path / "in", f"{bucket}/lerobot-{version}")
    here = report_of("lerobot", tmp_path / "in", tmp_path / "here")
    made = report_of("lerobot", there, tmp_path / "there")
    assert made.version.version_id == here.version.version_id and made.written == 3
    assert report_of("lerobot", there, tmp_path / "there").noop


def test_a_lerobot_dataset_of_which_something_is_wrong(tmp_path, bucket):
    write_dataset(tmp_path / "in", version="v2.1")
    videos = sorted((tmp_path / "in/videos").rglob(f"{CAMERA}/*.mp4"))
    videos[0].unlink()
    videos[1].write_bytes(b"\0" * 99)
    there = uploaded(tmp_path / "in", f"{bucket}/broken")
    here = report_of("lerobot", tmp_path / "in", tmp_path / "here")
    made = report_of("lerobot", there, tmp_path / "there")
    assert made.quarantined == here.quarantined and len(made.quarantined) == 1
    assert made.warnings == here.warnings


def test_a_replay_buffer_as_folder_and_as_zip(tmp_path, bucket):
    write_buffer(tmp_path / "in/one.zarr")
    zipped(tmp_path / "in/one.zarr", tmp_path / "in/two.zarr.zip")
    (tmp_path / "in/one.zarr/data/state/2.0").unlink()
    there = uploaded(tmp_path / "in", f"{bucket}/zarr")
    here = report_of("diffusion_policy", tmp_path / "in", tmp_path / "here")
    made = report_of("diffusion_policy", there, tmp_path / "there")
    assert made.version.version_id == here.version.version_id
    assert made.quarantined == here.quarantined and made.written == 5
