"""Ingest on a cluster and in an object store: the same bytes as inline on one disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from foundry_testing.robomimic_ingests import content_anywhere as content
from foundry_testing.robomimic_ingests import ingest
from foundry_testing.s3_bucket import s3_bucket
from make_robomimic import make

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import run
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.killpoint import ENVIRONMENT, WITH_PARENT
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.storage import open_storage

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four files of three demonstrations, and one of one."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(4):
        make(folder / f"part_{i}.hdf5", seed=i, episodes=3, frames=6, size=16)
    make(folder / "last.hdf5", seed=9, episodes=1, frames=6, size=16)
    return folder


@pytest.fixture(scope="module")
def inline(source, tmp_path_factory):
    """A store that was written in this process."""
    store = tmp_path_factory.mktemp("inline")
    ingest(source, store)
    return store


@pytest.fixture(scope="module")
def cluster():
    """Three nodes on this machine, which soon notice when another is gone."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 200,
        "health_check_timeout_ms": 1000,
        "health_check_failure_threshold": 3,
    }
    node = {"num_cpus": 1, "object_store_memory": 1 << 27}
    made = Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": soon}
    )
    for _ in range(2):
        made.add_node(**node)
    yield made
    made.shutdown()


def test_three_nodes_give_the_bytes_of_one_process(source, inline, cluster, tmp_path):
    report = ingest(source, tmp_path, ray_address=cluster.address)
    assert report.written == 13 and report.shards_written >= 5
    assert content(tmp_path) == content(inline)


def test_nodes_run_the_package_that_was_sent_to_them(cluster):
    """Not the one that this test imports, so that nodes need its dependencies alone."""

    def place_of_package(_):
        import robot_foundry

        return Path(robot_foundry.__file__)

    with Workers(ray_address=cluster.address) as workers:
        places = {place for _, place in workers.map(place_of_package, range(6))}
    assert all("py_modules_files" in place.parts for place in places)
    assert {place.parts[-2:] for place in places} == {("robot_foundry", "__init__.py")}


def test_a_node_that_dies_in_the_middle_changes_nothing(source, inline, cluster, tmp_path):
    dying = {ENVIRONMENT: "shard-tar-written", WITH_PARENT: "1"}
    node = cluster.add_node(num_cpus=2, object_store_memory=1 << 27, env_vars=dying)
    report = ingest(source, tmp_path, ray_address=cluster.address)
    assert node.all_processes["raylet"][0].process.wait(timeout=10) == -signal.SIGKILL
    cluster.remove_node(node)
    assert report.written == 13 and not report.quarantined
    assert content(tmp_path) == content(inline)


def test_nodes_that_do_not_see_a_local_file_are_refused(cluster, tmp_path):
    import ray

    (tmp_path / "seen").write_bytes(b"here")
    with Workers(ray_address=cluster.address) as workers:
        workers.require({str(tmp_path / "seen"): 4})
        assert dict(workers.map(len, ["a"], inline=True)) == {0: 1}
        assert not ray.is_initialized()
        assert dict(workers.map(len, ["a"])) == {0: 1}
        assert ray.is_initialized(), "a session is for all phases"
        workers.require({str(tmp_path / "elsewhere"): 4})
        with pytest.raises(FoundryError, match="do not see local files .*elsewhere") as caught:
            list(workers.map(len, ["a"]))
    assert "all nodes share" in caught.value.hint
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket() as url:
        yield url


@pytest.fixture(scope="module")
def remote_source(source, bucket):
    storage = open_storage(f"{bucket}/logs")
    for path in source.iterdir():
        storage.write(path.name, path.read_bytes())
    storage.write("notes.txt", b"passed over")
    return f"{bucket}/logs"


def test_a_source_and_store_in_s3_give_the_bytes_of_one_disk(remote_source, inline, bucket):
    """Known by content, all is equal; known by ETag, tars are, under other names, and so the version."""
    report = ingest(remote_source, f"{bucket}/full", fingerprint="full")
    assert content(f"{bucket}/full") == content(inline)
    assert report.warnings == ("passed over 1 file that the layout robomimic does not read: notes.txt",)

    quick = ingest(remote_source, f"{bucket}/quick")
    assert quick.version.version_id == report.version.version_id
    assert ends(content(f"{bucket}/quick"), ".tar") == ends(content(inline), ".tar")
    assert ingest(remote_source, f"{bucket}/quick").noop
    with pytest.raises(UsageError, match="fingerprint is auto or full, got 'quick'"):
        ingest(remote_source, f"{bucket}/quick", fingerprint="quick")


def test_an_rlds_directory_in_s3_gives_the_same_version(bucket, tmp_path):
    """Its files are read together with the JSON files beside them."""
    from foundry_testing import rlds_directories

    made = rlds_directories.simple(tmp_path / "source", 3, 2)
    made.write("val", [made.record([rlds_directories.step(0, 1)])], [])
    storage = open_storage(f"{bucket}/rlds")
    for path in made.folder.iterdir():
        storage.write(f"toy/1.0.0/{path.name}", path.read_bytes())
    here = rlds_directories.ingested(made, tmp_path / "store")
    spec = made.root.with_suffix(".yaml")
    there = run(str(spec), f"{bucket}/rlds", store=f"{bucket}/rlds-store", name="toy")
    rate = "3 of 3 episodes tell no rate, so 20 Hz is taken: --set content.fps=… says it"
    assert (there.written, there.quarantined, there.warnings) == (3, (), (rate,))
    assert there.version.version_id == here.version.version_id


def ends(files, suffix):
    return sorted(data for path, data in files.items() if path.endswith(suffix))


def test_only_what_changed_in_s3_is_read_again(remote_source, source, bucket, tmp_path):
    pattern = f"{remote_source}/part_[01]*"
    assert ingest(pattern, tmp_path).written == 6
    storage = open_storage(remote_source)
    make(tmp_path / "new.hdf5", seed=77, episodes=2, frames=6, size=16)
    storage.write("part_1.hdf5", (tmp_path / "new.hdf5").read_bytes())
    try:
        report = ingest(pattern, tmp_path)
        assert (report.written, report.noop) == (5, False)
        assert report.shards_reused >= 1 and report.shards_written >= 1
        assert ingest(f"{remote_source}/part_0.hdf5", tmp_path).written == 3
    finally:
        storage.write("part_1.hdf5", (source / "part_1.hdf5").read_bytes())


def test_an_object_that_is_replaced_under_way_stops_the_run(remote_source, source, tmp_path, monkeypatch):
    from robot_foundry.ingest import engine

    storage, listed = open_storage(remote_source), engine.list_units

    def list_then_replace(*arguments, **options):
        result = listed(*arguments, **options)
        storage.write("part_2.hdf5", (source / "part_3.hdf5").read_bytes())
        return result

    monkeypatch.setattr(engine, "list_units", list_then_replace)
    try:
        with pytest.raises(FoundryError, match=r"part_2.hdf5 changed while it was ingested"):
            ingest(remote_source, tmp_path)
    finally:
        storage.write("part_2.hdf5", (source / "part_2.hdf5").read_bytes())


def test_a_bucket_that_is_not_there_is_named(bucket, tmp_path):
    with pytest.raises(UsageError, match="no file or folder s3://no-such-bucket-here/x"):
        ingest("s3://no-such-bucket-here/x", tmp_path)


def test_a_store_that_cannot_be_reached_is_named(tmp_path, monkeypatch):
    """Another process, because connections are kept."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    secrets = {name: "test" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    script = "import sys; from robot_foundry.cli.foundry_data import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "ingest", "robomimic", "s3://bucket/x", "--store", str(tmp_path)],
        env={**os.environ, **secrets, "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: s3://bucket/x cannot be read: ") and second.startswith(
        "Hint: look at the network"
    )


@pytest.fixture
def closed_bucket(monkeypatch):
    """A bucket of which the server says nothing: every request is forbidden."""

    class Forbid(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    s3fs = pytest.importorskip("s3fs")
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbid) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        s3fs.S3FileSystem.clear_instance_cache()
        yield "s3://closed"
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()


@pytest.mark.parametrize(
    "look",
    [
        lambda root, folder: files.status(root, "a"),
        lambda root, folder: files.is_file(f"{root}/a"),
        lambda root, folder: files.is_folder(f"{root}/a"),
        lambda root, folder: files.read_bytes(root, "a"),
        lambda root, folder: files.content_hash(root, "a"),
        lambda root, folder: files.download(root, "a", folder / "a"),
    ],
    ids=["status", "is_file", "is_folder", "read_bytes", "content_hash", "download"],
)
def test_a_file_that_the_store_does_not_give_is_named(closed_bucket, tmp_path, look):
    with pytest.raises(FoundryError, match=r"^s3://closed/a cannot be read: .*Forbidden") as refused:
        look(closed_bucket, tmp_path)
    assert "credentials" in refused.value.hint and not isinstance(refused.value, FileNotFoundError)


def test_an_object_that_the_store_does_not_give_is_not_taken_for_missing(closed_bucket):
    with pytest.raises(PermissionError):
        open_storage(closed_bucket).exists("a")


def test_copies_in_s3_are_told_and_on_the_side_of_the_file_here(bucket, source, tmp_path):
    root, content = f"{bucket}/copies", (source / "part_0.hdf5").read_bytes()
    for path in ("a.hdf5", "deep/b.hdf5"):
        open_storage(root).write(path, content)
    told = "deep/b.hdf5 holds what a.hdf5 holds"
    assert any(told in warning for warning in ingest(root, tmp_path, dry_run=True).warnings)
    there, here = ingest(root, tmp_path / "there"), ingest(source / "part_0.hdf5", tmp_path / "here")
    assert any(told in warning for warning in there.warnings)
    remote, local = (
        [
            (row["id"], row["split_hash"])
            for row in OpenVersion(Store(store), report.version).table("episodes").to_pylist()
        ]
        for store, report in ((tmp_path / "there", there), (tmp_path / "here", here))
    )
    assert sorted(remote) == sorted(2 * local)
