"""Parts of the engine by themselves: held-back members, fingerprints, files at hand."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_robomimic import make

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.files import fingerprints
from robot_foundry.ingest.files.fingerprints import Fingerprints
from robot_foundry.ingest.shards.spool import Spool
from robot_foundry.ingest.sources import SourceFile
from robot_foundry.runtime import files
from robot_foundry.runtime.distributed.cluster import check_worker, package_versions
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.runtime.storage.storage import open_storage


@given(st.lists(st.binary(max_size=40)), st.integers(0, 100))
def test_a_spool_gives_back_what_was_added_in_memory_or_on_disk(contents, memory_bytes):
    added = [(f"member {i}", data) for i, data in enumerate(contents)]
    with Spool(memory_bytes) as spool:
        for name, data in added:
            spool.add(name, data)
        assert list(spool.members()) == added


def statuses(folder):
    return sorted(files.walk(str(folder)), key=lambda file: file.path)


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path, monkeypatch):
    logs, cache = tmp_path / "logs", open_storage(tmp_path / "store")
    logs.mkdir()
    for name in ("a", "b", "c"):
        (logs / name).write_text(name)
    read = []
    hashed = files.content_hash
    monkeypatch.setattr(
        files, "content_hash", lambda root, path, *_: (read.append(path), hashed(root, path))[1]
    )
    first = Fingerprints(str(logs), cache, Workers()).of(statuses(logs))
    assert sorted(read) == ["a", "b", "c"] and len(set(first.values())) == 3
    (logs / "b").write_text("other")
    (logs / "d").write_text("a")
    second = Fingerprints(str(logs), cache, Workers()).of(statuses(logs))
    assert sorted(read[3:]) == ["b", "d"]
    assert second["d"] == second["a"] == first["a"] and second["b"] != first["b"]


def test_files_are_hashed_a_little_ahead_of_the_one_that_is_asked_for(tmp_path, monkeypatch):
    logs, cache, read = tmp_path / "logs", open_storage(tmp_path / "store"), []
    logs.mkdir()
    for name in "abcdef":
        (logs / name).write_text(name * 10)
    hashed = files.content_hash
    monkeypatch.setattr(
        files, "content_hash", lambda root, path, *_: (read.append(path), hashed(root, path))[1]
    )
    monkeypatch.setattr(fingerprints, "AHEAD_BYTES", 20)
    known = Fingerprints(str(logs), cache, Workers())
    assert known.reads(statuses(logs))
    with known.ahead(statuses(logs)) as fingerprint:
        assert fingerprint("a") == hashed(str(logs), "a")
    assert set("a") <= set(read) <= set("abc")
    read.clear()
    known = Fingerprints(str(logs), cache, Workers())
    with known.ahead(statuses(logs)) as fingerprint:
        assert [fingerprint(name) for name in "fabcdef"] == [hashed(str(logs), name) for name in "fabcdef"]
    assert sorted(read) == list("bcdef")
    assert not known.reads(statuses(logs))
    assert known.of(statuses(logs)) == {name: hashed(str(logs), name) for name in "abcdef"}


def test_an_interrupt_does_not_wait_for_a_file_to_be_read_to_its_end(tmp_path):
    """The file would take hours: it has a hole of a terabyte."""
    logs, cache = tmp_path / "logs", open_storage(tmp_path / "store")
    logs.mkdir()
    (logs / "a").touch()
    with (logs / "b").open("wb") as file:
        file.truncate(1 << 40)
    with (
        pytest.raises(KeyboardInterrupt),
        Fingerprints(str(logs), cache, Workers()).ahead(statuses(logs)) as of,
    ):
        of("a")
        raise KeyboardInterrupt


def test_a_file_that_cannot_be_read_ahead_fails_where_it_is_asked_for(tmp_path):
    logs, cache = tmp_path / "logs", open_storage(tmp_path / "store")
    logs.mkdir()
    for name in ("a", "b"):
        (logs / name).write_text(name)
    found = statuses(logs)
    (logs / "b").unlink()
    with Fingerprints(str(logs), cache, Workers()).ahead(found) as fingerprint:
        fingerprint("a")
        with pytest.raises(FileNotFoundError):
            fingerprint("b")
    assert not Fingerprints(str(logs), cache, Workers()).reads(found[:1])


@given(st.binary(max_size=30), st.data())
def test_a_cache_gives_back_all_of_what_it_was_given_or_nothing(content, data):
    with TemporaryDirectory() as folder:
        cache = open_storage(folder)
        assert kept(cache, "cache/x") is None
        keep(cache, "cache/x", content)
        assert kept(cache, "cache/x") == content
        stored = cache.read_bytes("cache/x")
        Path(folder, "cache/x").write_bytes(stored[: data.draw(st.integers(0, len(stored) - 1))])
        assert kept(cache, "cache/x") is None


def test_what_was_hashed_is_kept_when_a_later_file_cannot_be_read(tmp_path, monkeypatch):
    logs, cache = tmp_path / "logs", open_storage(tmp_path / "store")
    logs.mkdir()
    for name in ("a", "b"):
        (logs / name).write_text(name)
    found = statuses(logs)
    Fingerprints(str(logs), cache, Workers()).of(found[:1])
    (logs / "b").unlink()
    with pytest.raises(FileNotFoundError):
        Fingerprints(str(logs), cache, Workers()).of(found)
    monkeypatch.setattr(files, "content_hash", lambda root, path: pytest.fail("read again"))
    assert Fingerprints(str(logs), cache, Workers()).of(found[:1])


def test_companions_come_along_and_are_watched(tmp_path):
    """A remote file and its companion are copied side by side; `etag:` gives way to the content's hash."""
    store = open_storage("memory://parts/logs")
    store.write("run/trajectory.h5", b"numbers")
    store.write("run/video/0.mp4", b"pictures")

    def known(path, beside=()):
        status = files.status("memory://parts/logs", path)
        return SourceFile("memory://parts/logs", path, status.size, status.stamp, "etag:1", beside)

    file = known("run/trajectory.h5", (known("run/video/0.mp4"),))
    with file.local() as path:
        assert path.read_bytes() == b"numbers"
        assert (path.parent / "video" / "0.mp4").read_bytes() == b"pictures"
    assert not Path(path).exists()
    with file.at_hand() as copy:
        assert [len(f.blake3) for f in (copy, *copy.companions)] == [64, 64]
    store.write("run/video/0.mp4", b"other")
    with pytest.raises(FoundryError, match=r"video/0.mp4 changed while"), file.local():
        pass


def test_a_worker_on_a_node_that_joined_late_looks_at_its_own_packages():
    check_worker(package_versions())
    with pytest.raises(FoundryError, match=r"has numpy .*, not 0.1"):
        check_worker({**package_versions(), "numpy": "0.1"})


def test_a_source_that_was_moved_is_found_to_be_there_already(tmp_path):
    source, moved, store = tmp_path / "source", tmp_path / "moved", tmp_path / "store"
    source.mkdir()
    for i in range(3):
        make(source / f"part_{i}.hdf5", seed=i, episodes=2, frames=4, size=16)
    first = run("robomimic", source, store=store, name="reach")
    source.rename(moved)
    again = run("robomimic", moved, store=store, name="reach")
    assert again.noop and again.shards_written == 0
    assert again.version == first.version and again.counts == first.counts
