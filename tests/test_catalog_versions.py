"""Manifests, the digest of tables, references, and the commit under crashes and races."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing import ray_session
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import (
    Manifest,
    Quarantined,
    ShardEntry,
    TableFile,
    commit,
    count_names,
    find_build,
    read_manifest,
)
from robot_foundry.catalog.refs import datasets, resolve, tag, tags, versions
from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.catalog.robot.tables import EPISODES_SCHEMA, frames_schema
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.table_file import open_table
from robot_foundry.catalog.tables import column_matrix, matrix_column, table_digest, write_table
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.sealed import seal


def manifest(content: int = 0, dataset: str = "lift", build: str = "a", **changes: object) -> Manifest:
    schema = Schema(
        state=ActionSpace(["right.ee_position", "right.gripper_opening"]).dims,
        streams={"next_state": ActionSpace(["right.ee_position"]).dims},
        cameras=(Camera("agentview", "primary", 84, 84, "jpg"),),
        embodiment="panda",
        fps=20.0,
    )
    shard = ShardEntry("k0", digest_of(content) * 2, 10240, 1, 3)
    tables = {name: digest_of(name) for name in ("episodes", "annotations", "leaves", "frames/k0")}
    counts = dict.fromkeys(count_names(kind_named("robot")), 1)
    fields = dict(shards=(shard,), tables=tables, counts=counts, provenance={"source": "lab"}) | changes
    fields |= {"files": {name: TableFile(10, digest_of(name)) for name in fields["tables"]}}
    return Manifest(dataset, digest_of(build), schema, "robot", **fields)


def test_manifest_round_trip_is_exact_and_strict() -> None:
    made = manifest(quarantined=(Quarantined("demo_3", "no actions"),))
    again = Manifest.from_json(made.to_json())
    assert again == made and again.to_json() == made.to_json()
    assert again.schema is not None and again.schema.space("next_state").names[0] == "right.ee_position.x"

    obj = json.loads(made.to_json())
    del obj["checksum"]
    for change, message in (
        ({"format": 2}, "format 2"),
        ({"surprise": 1}, "unknown keys surprise"),
        ({"version_id": "0" * 32}, "but holds"),
        ({"kind": "robots"}, "robots"),
        ({"shards": 5}, "damaged"),
        ({"files": {}}, "does not say which files"),
        ({"files": {"episodes": [10, "0" * 32]}}, "files of 'lift' lacks"),
        ({"schema": {"state": []}}, "lacks cameras"),
        ({"tables": []}, "tables of 'lift' is not a JSON object"),
    ):
        with pytest.raises(FoundryError, match=message):
            Manifest.from_json(seal(obj | change))
    for data in (b"", b"[]", b"{}"):
        with pytest.raises(FoundryError, match="has no checksum"):
            Manifest.from_json(data)
    for table in ("files", "tables"):
        del obj[table]["leaves"]
        with pytest.raises(FoundryError, match="lacks leaves"):
            Manifest.from_json(seal(obj))


def test_version_id_is_of_the_content_alone() -> None:
    base = manifest()
    renamed = {("frames/k9" if k == "frames/k0" else k): v for k, v in base.tables.items()}
    same = (
        manifest(build="b"),
        manifest(dataset="other"),
        manifest(provenance={"source": "elsewhere"}),
        manifest(shards=(ShardEntry("k9", base.shards[0].tar_sha256, 10240, 1, 3),), tables=renamed),
    )
    assert {m.version_id for m in same} == {base.version_id}
    changed_table = manifest(tables=dict(base.tables) | {"episodes": digest_of("x")})
    assert len({base.version_id, manifest(1).version_id, changed_table.version_id}) == 3


def test_unknown_stream_names_the_nearest() -> None:
    schema = manifest().schema
    assert schema is not None
    with pytest.raises(FoundryError, match="did you mean 'next_state'"):
        schema.space("nextstate")


def four(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.one_of(st.none(), values), min_size=4, max_size=4)


columns = st.fixed_dictionaries(
    {
        "i": four(st.integers(-5, 5)),
        "x": four(st.floats(width=32)),
        "t": four(st.text(max_size=3)),
        "b": four(st.booleans()),
        "v": four(st.lists(st.floats(width=32), min_size=2, max_size=2)),
    }
)
SCHEMA = pa.schema(
    [
        *(("i", pa.int32()), ("x", pa.float32()), ("t", pa.string()), ("b", pa.bool_())),
        ("v", pa.list_(pa.float32(), 2)),
    ]
)


@settings(max_examples=60, deadline=None)
@given(columns, st.integers(0, 4), columns)
def test_table_digest_sees_values_and_nothing_else(data: dict, cut: int, other: dict) -> None:
    table = pa.table(data, schema=SCHEMA)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    padded = pa.concat_tables([table, table]).combine_chunks().slice(4)
    reread = pa.ipc.open_file(write_table(chunked)).read_all().replace_schema_metadata({"k": "v"})
    wide = table.set_column(2, "t", table["t"].cast(pa.large_string()))
    digests = {table_digest(t) for t in (table, chunked, padded, reread, wide)}
    assert len(digests) == 1
    if repr(data) != repr(other):
        assert table_digest(pa.table(other, schema=SCHEMA)) not in digests


def test_table_digest_is_frozen() -> None:
    """The value follows from the definition in the docstring, here written out with hashlib and struct."""
    import hashlib
    import struct

    table = pa.table({"n": pa.array([1, None], pa.int32()), "s": ["a", "ß"]})
    nan = pa.table({"x": pa.array(np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32))})

    def column(name: str, kind: str, data: bytes) -> dict[str, str]:
        return {"name": name, "type": kind, "sha256": hashlib.sha256(data).hexdigest()}

    expected = [
        column("n", "int32", b"\1\0" + struct.pack("<2i", 1, 0)),
        column("s", "string", b"\1\1" + struct.pack("<2q", 1, 2) + "aß".encode()),
    ]
    assert table_digest(table) == digest_of({"columns": expected, "rows": 2})
    expected = [column("x", "float32", b"\1\1" + struct.pack("<2I", 0x7FC00000, 0x7FC00000))]
    assert table_digest(nan) == digest_of({"columns": expected, "rows": 2})


def test_tables_are_mapped_without_copies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = pa.table({"state": matrix_column(values)})
    data = write_table(table)
    store.storage.write("t.arrow", data)
    read = open_table(store.storage, "t.arrow", TableFile.of(data), table.schema)
    matrix = column_matrix(read, "state")
    np.testing.assert_array_equal(matrix, values)
    assert not matrix.flags.owndata and not matrix.flags.writeable
    assert column_matrix(pa.concat_tables([table, table]), "state").shape == (8, 3)
    assert column_matrix(read.slice(1, 2), "state").tolist() == values[1:3].tolist()
    assert frames_schema(3, {"b": 2, "a": 1}).names[-2:] == ["action.a", "action.b"]


def test_references(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(FoundryError, match="is empty"):
        resolve(store, "lift")
    first, second = commit(store, manifest(0)), commit(store, manifest(1))
    commit(store, manifest(0, dataset="stack"))
    assert (str(first), str(second)) == ("lift@v1", "lift@v2")
    assert datasets(store) == ["lift", "stack"] and versions(store, "lift") == [first, second]
    assert resolve(store, "lift") == second and resolve(store, "lift@v1") == first
    assert resolve(store, f"lift@{first.version_id[:6]}") == first
    tag(store, first, "paper")
    assert resolve(store, "lift:paper") == first
    tag(store, second, "paper")
    assert tags(store, "lift") == {"paper": second}
    assert read_manifest(store, first).to_json() == manifest(0).to_json()
    for ref, message in (
        ("lfit", "did you mean 'lift'.*lift, stack"),
        ("lift@v7", "v1 to v2"),
        ("lift@ffffffff", "no version whose id"),
        ("lift:papr", "did you mean 'paper'"),
        ("lift@paper", "after '@' comes"),
        ("a:b@c", "not a reference"),
        ("../x", "no dataset"),
    ):
        with pytest.raises(FoundryError, match=message):
            resolve(store, ref)
    with pytest.raises(UsageError, match="version number"):
        tag(store, first, "v9")
    with pytest.raises(FoundryError, match="'Lift' is not allowed"):
        store.ref("Lift", "x")


def test_store_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_STORE", str(tmp_path / "there"))
    assert as_store(None).url == str(tmp_path / "there")
    monkeypatch.delenv("FOUNDRY_STORE")
    monkeypatch.chdir(tmp_path)
    assert as_store(None).url == str(tmp_path / "store")


def test_equal_content_is_one_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, again = commit(store, manifest(build="a")), commit(store, manifest(build="b"))
    assert (again.version_id, again.seq) == (first.version_id, 1)
    assert find_build(store, "lift", digest_of("b")) == again
    assert find_build(store, "lift", digest_of("c")) is None


def _commit_in_child(folder: str, kill_at: str | None, content: int) -> None:
    if kill_at is not None:
        os.environ["FOUNDRY_KILL_AT"] = kill_at
    commit(Store(folder), manifest(content))


def _child(folder: Path, kill_at: str | None, content: int = 0) -> multiprocessing.Process:
    ray_session.end()
    # Forked: a child neither imports nor exits through pytest.
    child = multiprocessing.get_context("fork").Process(
        target=_commit_in_child, args=(str(folder), kill_at, content)
    )
    child.start()
    return child


@pytest.mark.parametrize(
    "point",
    [
        "commit-before-manifest",
        *(f"storage-{side}-link:{hit}" for hit in (1, 2, 3) for side in ("before", "after")),
        "commit-after-manifest",
        "commit-after-ref",
    ],
)
def test_killed_commit_is_absent_or_whole_and_a_second_run_completes_it(tmp_path: Path, point: str) -> None:
    store = Store(tmp_path)
    child = _child(tmp_path, point)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for seen in versions(store, "lift"):
        assert read_manifest(store, seen).version_id == seen.version_id
    version = commit(store, manifest())
    assert versions(store, "lift") == [version] and version.seq == 1
    assert find_build(store, "lift", digest_of("a")) == version
    assert sorted(p for p in store.storage.list() if not p.startswith("datasets/")) == [
        f"builds/lift/{digest_of('a')}.json",
        "refs/lift/v1",
    ]


def test_racing_commits_number_without_gap_or_double(tmp_path: Path) -> None:
    children = [_child(tmp_path, None, content) for content in (0, 1, 2, 3, 3, 0)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    found = versions(Store(tmp_path), "lift")
    assert [version.seq for version in found] == [1, 2, 3, 4]
    assert {version.version_id for version in found} == {manifest(i).version_id for i in range(4)}


def test_episode_schema_is_digestable() -> None:
    assert table_digest(EPISODES_SCHEMA.empty_table()) != table_digest(frames_schema(1, {}).empty_table())


def test_a_number_whose_reference_was_lost_never_comes_to_mean_another_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second, third = (commit(store, manifest(i, build=f"{i}")) for i in range(3))
    (tmp_path / "refs/lift/v2").unlink()
    assert find_build(store, "lift", second.build_id) is None  # so that the ingest is made again
    assert commit(store, manifest(2, build="2")) == third
    assert commit(store, manifest(3, build="3")).seq == 4
    with pytest.raises(FoundryError, match=r"no version v2 \(there are v1, v3 to v4\)"):
        resolve(store, "lift@v2")
    assert commit(store, manifest(1, build="1")) == second == resolve(store, "lift@v2")
    assert [version.seq for version in versions(store, "lift")] == [1, 2, 3, 4]
    assert first == resolve(store, "lift@v1")


def test_a_lost_version_whose_build_is_gone_or_whose_number_was_given_takes_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i in range(3):
        commit(store, manifest(i, build=f"{i}"))
    (tmp_path / "refs/lift/v2").unlink()
    store.storage.delete(store.build("lift", digest_of("1")))
    assert commit(store, manifest(1, build="1")).seq == 4
    (tmp_path / "refs/lift/v4").unlink()
    assert commit(store, manifest(5, build="5")).seq == 4
    again = commit(store, manifest(1, build="1"))
    assert again.seq == 5 and find_build(store, "lift", again.build_id) == again == resolve(store, "lift@v5")
