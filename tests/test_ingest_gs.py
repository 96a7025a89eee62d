"""Ingest from and into Google Cloud Storage: the same bytes as on one disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from foundry_testing import robomimic_ingests
from foundry_testing.gs_emulator import served
from foundry_testing.robomimic_ingests import content_anywhere as content
from foundry_testing.robomimic_ingests import ingest
from make_robomimic import make

from robot_foundry.runtime import files
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.runtime.storage.storage_fsspec import open_filesystem

(SMALL_SHARDS,) = robomimic_ingests.SMALL_SHARDS


@pytest.fixture(scope="module")
def bucket():
    with served() as made:
        yield made()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two files of three demonstrations."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(2):
        make(folder / f"part_{i}.hdf5", seed=i, episodes=3, frames=6, size=16)
    return folder


@pytest.fixture(scope="module")
def remote_source(source, bucket):
    storage = open_storage(f"{bucket}/logs")
    for path in source.iterdir():
        storage.write(path.name, path.read_bytes())
    return f"{bucket}/logs"


def test_a_source_and_store_in_gs_give_the_bytes_of_one_disk(source, remote_source, bucket, tmp_path):
    here = ingest(source, tmp_path)
    there = ingest(remote_source, f"{bucket}/full", fingerprint="full")
    assert (there.written, there.quarantined, there.warnings) == (6, (), ())
    assert there.version.version_id == here.version.version_id
    assert there.shards_written >= 2 and content(f"{bucket}/full") == content(tmp_path)

    assert ingest(remote_source, f"{bucket}/full", fingerprint="full").noop
    quick = ingest(remote_source, f"{bucket}/quick")
    assert (quick.noop, quick.version.version_id) == (False, here.version.version_id)
    assert ingest(remote_source, f"{bucket}/quick").noop


def test_another_process_needs_the_environment_alone(remote_source, bucket):
    report = ingest(remote_source, f"{bucket}/command")
    foundry_data = str(Path(sys.executable).with_name("foundry-data"))
    command = [foundry_data, "ingest", "robomimic", remote_source, "--set", SMALL_SHARDS, "--as", "reach"]
    again = subprocess.run(
        [*command, "--store", f"{bucket}/command", "--json"], check=True, capture_output=True
    )
    found = json.loads(again.stdout)
    assert (found["noop"], found["version_id"]) == (True, report.version.version_id)


def test_a_file_is_known_by_its_content_whatever_is_said_of_it(bucket):
    """Not by the ETag of gs://, which is another after each write and each change of metadata."""
    root = f"{bucket}/stamps"
    storage = open_storage(root)
    storage.write("a", b"1")
    found, place = open_filesystem(f"{root}/a")
    etag, stamp = found.info(place)["etag"], files.status(root, "a")
    assert list(files.walk(root)) == list(files.matching(root, "*")) == [stamp]

    found.setxattrs(place, label="kept")
    assert (found.info(place)["etag"] != etag, files.status(root, "a")) == (True, stamp)
    storage.write("a", b"1")
    assert files.status(root, "a") == stamp
    storage.write("a", b"2")
    assert files.status(root, "a") != stamp


def test_a_bucket_that_is_not_there_is_named(bucket, tmp_path):
    with pytest.raises(UsageError, match="no file or folder gs://no-such-bucket-here/x"):
        ingest("gs://no-such-bucket-here/x", tmp_path)
    with pytest.raises(UsageError, match=r"gs://no-such-bucket-here/x\*"):
        ingest("gs://no-such-bucket-here/x*", tmp_path)
