import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from foundry_testing.gs_emulator import served
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError, MissingFileError, UsageError
from robot_foundry.runtime.storage.storage import checked_path, open_storage


@pytest.fixture(scope="module")
def s3_endpoint():
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    pytest.importorskip("s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def gs_bucket():
    with served() as bucket:
        yield bucket


@pytest.fixture(params=["folder", "memory", "s3", "gs"])
def storage(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    if request.param == "memory":
        return open_storage(f"memory://{uuid.uuid4().hex}/store")
    if request.param == "gs":
        return open_storage(f"{request.getfixturevalue('gs_bucket')()}/store")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{uuid.uuid4().hex}"
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(bucket)
    return open_storage(f"s3://{bucket}/store")


def test_what_is_written_is_read_in_whole_and_in_part(storage):
    storage.write("a/b/data.bin", b"0123456789")

    assert storage.read_bytes("a/b/data.bin") == b"0123456789"
    assert storage.read_range("a/b/data.bin", 3, 4) == b"3456"
    assert storage.read_range("a/b/data.bin", 3, 0) == b""
    assert storage.size("a/b/data.bin") == 10
    assert storage.exists("a/b/data.bin")
    assert not storage.exists("a/b")

    storage.write("a/b/data.bin", b"new")
    assert storage.read_bytes("a/b/data.bin") == b"new"


def test_list_gives_the_files_beneath_a_folder_sorted(storage):
    assert storage.list() == []
    for path in ("refs/lift/v2", "refs/lift/v10", "refs/lift-two/v1", "top"):
        storage.write(path, b"x")

    assert storage.list("refs/lift") == storage.list("refs/lift/") == ["refs/lift/v10", "refs/lift/v2"]
    assert storage.list() == ["refs/lift-two/v1", "refs/lift/v10", "refs/lift/v2", "top"]
    assert list(storage.sizes()) == storage.list()
    storage.write("refs/lift/v10", b"four")
    assert storage.sizes("refs/lift")["refs/lift/v10"] == 4
    assert storage.list("nothing") == []


@pytest.mark.parametrize("cause", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, cause):
    storage = open_storage(tmp_path)
    storage.write("refs/lift/v1", b"one")
    closed = str(tmp_path / "refs/lift")
    scandir = os.scandir

    def failing(place):
        if str(place) == closed:
            raise OSError(cause, os.strerror(cause), closed)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", failing)
    for read in (storage.list, storage.sizes):
        for prefix in ("", "refs", "refs/lift"):
            with pytest.raises(OSError, match=closed) as refused:
                read(prefix)
            assert refused.value.errno == cause
    assert storage.list("refs/lift/v1") == storage.list("nothing") == []


def test_a_missing_file_is_named_and_a_short_one_is_not_padded(storage):
    for read in (storage.read_bytes, storage.size, lambda path: storage.read_range(path, 0, 1)):
        with pytest.raises(MissingFileError, match="store/no/file"):
            read("no/file")
    storage.write("short", b"abc")
    with pytest.raises(FoundryError, match="short ends before byte 5"):
        storage.read_range("short", 2, 3)
    for offset in (3, 4):
        with pytest.raises(FoundryError, match=f"short ends before byte {offset + 1}"):
            storage.read_range("short", offset, 1)


def test_an_empty_file_is_a_file(storage):
    storage.write("a/empty", b"")
    with storage.writer("a/too"):
        pass

    assert storage.list() == ["a/empty", "a/too"]
    assert storage.exists("a/empty") and storage.size("a/empty") == 0
    assert storage.read_bytes("a/empty") == storage.read_bytes("a/too") == b""
    assert not storage.create("a/empty", b"more")
    with pytest.raises(FoundryError, match="a/empty ends before byte 1"):
        storage.read_range("a/empty", 0, 1)


def test_delete_is_idempotent(storage):
    storage.write("a", b"1")
    storage.delete("a")
    storage.delete("a")

    assert storage.list() == []


def test_a_writer_shows_its_file_only_on_a_clean_exit(storage):
    with storage.writer("a/big") as file:
        file.write(b"half")
        assert storage.list() == []
        file.write(b" and half")
    assert storage.read_bytes("a/big") == b"half and half"

    with pytest.raises(ZeroDivisionError), storage.writer("a/big") as file:
        file.write(b"other")
        raise ZeroDivisionError
    assert storage.read_bytes("a/big") == b"half and half"
    assert storage.list() == ["a/big"]


def test_create_keeps_what_is_there(storage):
    assert storage.create("refs/v1", b"first")
    assert not storage.create("refs/v1", b"second")
    assert storage.read_bytes("refs/v1") == b"first"


def test_of_racing_creators_exactly_one_wins_and_its_bytes_stay(storage):
    racers, rounds = 8, 5
    start = threading.Barrier(racers)

    def race(racer):
        start.wait()
        return [storage.create(f"refs/v{i}", b"%d" % racer * 1000) for i in range(rounds)]

    with ThreadPoolExecutor(racers) as pool:
        won = list(pool.map(race, range(racers)))

    for i in range(rounds):
        winners = [racer for racer in range(racers) if won[racer][i]]
        assert len(winners) == 1
        assert storage.read_bytes(f"refs/v{i}") == b"%d" % winners[0] * 1000


@pytest.mark.parametrize("storage", ["s3", "gs"], indirect=True)
def test_a_bucket_that_is_not_there_is_named(storage):
    scheme = storage.url.partition("://")[0]
    nowhere = open_storage(f"{scheme}://no-such-bucket/store")

    def written():
        with nowhere.writer("a") as file:
            file.write(b"1")

    for use in (nowhere.list, lambda: nowhere.write("a", b"1"), lambda: nowhere.create("a", b"1"), written):
        with pytest.raises(
            MissingFileError, match=f"no bucket no-such-bucket for {scheme}://no-such-bucket/"
        ):
            use()


def test_what_is_too_large_for_one_request_is_read_as_it_was_written(storage):
    data = bytes(range(251)) * 24_000  # 6 MB: from 5 MB gcsfs sends a file in requests of its own

    with storage.writer("a/large") as file:
        file.write(data)

    assert storage.size("a/large") == len(data)
    assert storage.read_bytes("a/large") == data
    assert storage.read_range("a/large", 5_999_999, 3) == data[5_999_999:6_000_002]


def test_a_storage_can_be_sent_to_another_process(storage):
    storage.write("a", b"1")

    sent = pickle.loads(pickle.dumps(storage))
    assert sent.url == storage.url
    assert sent.read_bytes("a") == b"1"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../x", "a//b", "./a", "a/", "a\\b", "a\0"])
def test_paths_that_leave_the_root_or_have_two_spellings_are_refused(storage, path):
    for use in (storage.read_bytes, storage.exists, storage.delete, storage.local_path):
        with pytest.raises(UsageError, match="not a relative path"):
            use(path)
    with pytest.raises(UsageError, match="not a relative path"):
        storage.write(path, b"")


@given(st.text(alphabet="ab./\\\0~", max_size=8))
def test_an_accepted_path_stays_beneath_the_root(path):
    try:
        checked_path(path)
    except UsageError:
        return
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}" != "/root/"


def test_local_path_is_the_file_for_mmap_and_none_in_an_object_store(tmp_path):
    local = open_storage(f"file://{tmp_path}/with%20space")
    local.write("a", b"1")

    assert local.local_path("a") == tmp_path / "with space" / "a"
    assert open_storage("memory://x").local_path("a") is None


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(UsageError, match="unknown storage scheme 's33', did you mean 's3'"):
        open_storage("s33://bucket/x")


WRITERS = {
    "write": "storage.write('f', b'new' * 100_000)",
    "create": "storage.create('f', b'new' * 100_000)",
    "writer": "with storage.writer('f') as f: f.write(b'new' * 100_000)",
}
KILLS = [
    ("write", "storage-before-rename", b"old"),
    ("writer", "storage-before-rename", b"old"),
    ("create", "storage-before-link", None),
    ("create", "storage-after-link", b"new" * 100_000),
]


@pytest.mark.parametrize(("writer", "place", "left"), KILLS)
def test_a_killed_writer_leaves_the_old_content_the_new_or_nothing(tmp_path, writer, place, left):
    storage = open_storage(tmp_path)
    if writer != "create":
        storage.write("f", b"old")
    code = "from robot_foundry.runtime.storage.storage import open_storage\n"
    code += f"storage = open_storage({str(tmp_path)!r})\n"
    environment = {**os.environ, "FOUNDRY_KILL_AT": place}

    died = subprocess.run([sys.executable, "-c", code + WRITERS[writer]], env=environment)

    assert died.returncode == -signal.SIGKILL
    assert storage.list() == ([] if left is None else ["f"])
    if left is not None:
        assert storage.read_bytes("f") == left
    storage.delete("f")
    assert storage.create("f", b"again")


def test_a_kill_point_counts_its_hits():
    code = """
from robot_foundry.runtime.killpoint import kill_point
for i in range(5):
    kill_point("other")
    print(i, flush=True)
    kill_point("here")
"""
    environment = {**os.environ, "FOUNDRY_KILL_AT": "here:3"}
    died = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert died.returncode == -signal.SIGKILL
    assert died.stdout.split() == ["0", "1", "2"]
