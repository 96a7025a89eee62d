"""The same source gives the same bytes: whatever the workers, wherever it lies, and after any kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from foundry_testing.kills import killed
from foundry_testing.pair_ingests import Sample, ingest, picture, some_samples, stored, write_tar
from foundry_testing.robomimic_ingests import content_anywhere
from foundry_testing.s3_bucket import s3_bucket
from foundry_testing.texts import content

from robot_foundry.runtime.storage.storage import open_storage

ADOPT = "content.adopt=true"


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars, with copies within and between them, and pictures that cannot be taken."""
    folder = tmp_path_factory.mktemp("tars")
    cut = Sample("cut", {"jpg": picture(50, (90, 90))[:-200]}, "it ends early")
    write_tar(folder / "a.tar", [*some_samples(8), cut, replace(some_samples(1)[0], name="again")])
    write_tar(folder / "b.tar", [*some_samples(3, 5), *some_samples(6, 100)])
    write_tar(folder / "c.tar", some_samples(4, 200))
    return folder


@pytest.fixture(scope="module")
def source(tars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These tars, and JSON of conversations on pictures in a folder, in several units."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(tars, folder, dirs_exist_ok=True)
    (folder / "images").mkdir()
    records = []
    for number in range(6):
        (folder / "images" / f"{number}.jpg").write_bytes(picture(number, (40, 40)))
        said = [("human", "<image>\nWhat is it?"), ("gpt", f"thing {number} " + "and more " * 30)]
        turns = [{"from": role, "value": text} for role, text in said]
        records.append({"id": f"n{number}", "image": f"{number}.jpg", "conversations": turns})
    (folder / "llava.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert report.shards_written >= 5 and report.written == 8 + 6 + 4 + 6
    assert (report.num_refused, report.counts["duplicates"]) == (1, 4)
    return store


@pytest.mark.parametrize(
    "point",
    [
        "storage-before-rename:3",
        "shard-tar-written:3",
        "shard-done:2",
        "tables-done",
        "commit-after-manifest",
    ],
)
def test_a_killed_run_is_completed_by_the_next(source, undisturbed, tmp_path, point):
    script = "import sys; from foundry_testing.pair_ingests import ingest; ingest(*sys.argv[1:])"
    killed(script, source, tmp_path, at=point)
    whole = len(list((tmp_path / "shards").rglob("*.index.arrow")))
    report = ingest(source, tmp_path)
    assert report.shards_reused == whole and not report.noop
    assert content(tmp_path) == content(undisturbed)


def test_workers_give_the_bytes_of_one_process(source, undisturbed, tmp_path, ray_workers):
    pytest.importorskip("ray")
    ingest(source, tmp_path, workers=2)
    assert content(tmp_path) == content(undisturbed)


def test_files_that_are_read_ahead_give_the_same_bytes(source, tmp_path):
    """Where nothing is compared, and fingerprints are not known, both are read at once."""
    ingest(source, tmp_path / "a", "content.deduplicate=false")
    shutil.copytree(tmp_path / "a" / "cache" / "blake3", tmp_path / "b" / "cache" / "blake3")
    ingest(source, tmp_path / "b", "content.deduplicate=false")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_what_is_left_out_is_told_again_without_the_cache(source, undisturbed, tmp_path):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    before = ingest(source, store)
    assert before.noop
    for lost in (("builds",), ("builds", "cache")):
        for name in lost:
            shutil.rmtree(store / name)
        again = ingest(source, store)
        assert (again.refused, again.counts) == (before.refused, before.counts)
        assert again.shards_written == 0 and str(again.version) == "photos@v1"


def test_a_grown_source_writes_what_is_new(source, undisturbed, tmp_path):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    grown = shutil.copytree(source, tmp_path / "source")
    write_tar(grown / "d.tar", [*some_samples(2, 300), *some_samples(1)])
    report = ingest(grown, store)
    assert (report.written, report.shards_written, report.counts["duplicates"]) == (26, 1, 5)
    (grown / "images" / "5.jpg").write_bytes(picture(99, (40, 40)))
    report = ingest(grown, store)
    assert (report.written, report.shards_written) == (26, 1)  # of the JSON the part with that picture alone
    assert picture(99, (40, 40)) in [data for pair in stored(store, report) for data in pair.pictures]


def test_a_source_and_store_in_s3_give_the_bytes_of_one_disk(source, undisturbed, tars, tmp_path):
    with s3_bucket() as bucket:
        storage = open_storage(f"{bucket}/raw")
        for path in (path for path in source.rglob("*") if path.is_file()):
            storage.write(path.relative_to(source).as_posix(), path.read_bytes())
        report = ingest(f"{bucket}/raw", f"{bucket}/full", fingerprint="full")
        assert content_anywhere(f"{bucket}/full") == content_anywhere(undisturbed)
        assert ingest(f"{bucket}/raw", f"{bucket}/full", fingerprint="full").noop and not report.noop
        for path in tars.iterdir():
            storage.write(f"tars/{path.name}", path.read_bytes())
        there, here = ingest(f"{bucket}/raw/tars", f"{bucket}/adopted", ADOPT), ingest(tars, tmp_path, ADOPT)
        assert there.version.version_id == here.version.version_id
