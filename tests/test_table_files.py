"""Tables are used only as the bytes that the manifest names: whatever else lies there is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing import reach_stores
from foundry_testing.reach_stores import flip, folder_of, member, tar_of

import robot_foundry
from robot_foundry.catalog.manifest import Manifest, TableFile, commit, read_manifest
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.sealed import seal, unseal

# Fixtures.
made, store = reach_stores.made, reach_stores.store

NAMES = ["episodes", "annotations", "leaves", "frames"]


def path_of(store: Path, name: str) -> Path:
    place = folder_of(store) / name
    return next(place.iterdir()) if name == "frames" else place.with_suffix(".arrow")


def read(store: Path, name: str) -> None:
    """By the reader that a user meets the table with first."""
    if name == "leaves":
        robot_foundry.open("reach", store=store).statistics()
        return
    with load("reach", seed=0, global_batch=100, threads=0, store=store) as loader:
        next(loader)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_that_is_not_what_was_written_is_refused_by_name(store: Path, name: str) -> None:
    read(store, name)
    path = path_of(store, name)
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 1
    cases = {
        "are not those that the manifest names": bytes(middle),
        "bytes where the manifest says": whole[:-64],
        "0 bytes where": b"",
        "bytes where the manifest": whole + b"\0",
    }
    for said, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(FoundryError, match=said) as refused:
            read(store, name)
        assert f"table '{name}" in refused.value.message and str(path) in refused.value.message
        assert refused.value.hint == "foundry-data validate reach@v1"
    path.unlink()
    with pytest.raises(FoundryError, match="there is no file") as refused:
        read(store, name)
    assert refused.value.hint == "foundry-data validate reach@v1"
    path.write_bytes(whole)
    read(store, name)


def test_a_table_that_changes_after_it_was_proven_is_proven_again(store: Path) -> None:
    opened = Store(store)
    version = resolve(opened, "reach")
    before = OpenVersion(opened, version).table("episodes")
    assert OpenVersion(opened, version).table("episodes") == before
    flip(path_of(store, "episodes"), 2000)
    with pytest.raises(FoundryError, match="damaged"):
        OpenVersion(opened, version).table("episodes")


def test_a_flipped_bit_in_an_object_store_is_refused(made: Path, tmp_path: Path) -> None:
    far = Store(f"memory://{tmp_path.name}")
    for path in Store(made / "store").storage.list():
        far.storage.write(path, Store(made / "store").storage.read_bytes(path))
    version = resolve(far, "reach")
    key = read_manifest(far, version).shards[0].key
    assert OpenVersion(far, version).table(f"frames/{key}").num_rows == 80
    path = far.table("reach", version.version_id, f"frames/{key}")
    data = bytearray(far.storage.read_bytes(path))
    data[1500] ^= 8
    far.storage.write(path, bytes(data))
    with pytest.raises(FoundryError, match="are not those that the manifest names"):
        OpenVersion(far, version).table(f"frames/{key}")
    far.storage.write(path, bytes(data[:-8]))
    with pytest.raises(FoundryError, match="bytes where the manifest says"):
        OpenVersion(far, version).table(f"frames/{key}")


def test_an_index_of_other_bytes_than_the_version_names_is_refused(store: Path) -> None:
    """As `foundry-data index` gives, of a tar that was damaged before."""
    from robot_foundry.cli.foundry_data import group
    from robot_foundry.cli.output import run

    tar = tar_of(store)
    flip(tar, member(tar, ".jpg")["offset"] + 200)
    assert run(group, "foundry-data", ["index", str(tar)]) == 0
    for reading in (lambda: read(store, "frames"), lambda: list(robot_foundry.open("reach", store=store))):
        with pytest.raises(FoundryError, match="was made from another tar than the version names"):
            reading()


def test_a_second_writer_of_other_bytes_leaves_a_version_that_is_read(store: Path) -> None:
    """Another version of Arrow may write the same table as other bytes."""
    import pyarrow as pa

    opened = Store(store)
    manifest = read_manifest(opened, resolve(opened, "reach"))
    path = path_of(store, "episodes")
    table = pa.ipc.open_file(path).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    path.write_bytes(sink.getvalue())
    values = {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}
    files = dict(manifest.files) | {"episodes": TableFile.of(path.read_bytes())}
    version = commit(opened, Manifest(**values | {"files": files, "build_id": "0" * 32}))
    assert str(version) == "reach@v1" and OpenVersion(opened, version).table("episodes").equals(table)
    assert read_manifest(Store(store), version).build_id == manifest.build_id


def test_sealed_json_is_read_only_as_it_was_written() -> None:
    data = seal({"b": 1, "a": [None, "ß"]})
    assert unseal(data, "here", hint="next") == {"a": [None, "ß"], "b": 1}
    # The checksum written out by hand: SHA-256 of the canonical JSON of the rest.
    import hashlib

    rest = '{"a":[null,"ß"],"b":1}'.encode()
    assert data == b'{"checksum":"' + hashlib.sha256(rest).hexdigest()[:32].encode() + b'",' + rest[1:]
    for bit in range(8 * len(data)):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FoundryError, match="here") as refused:
            unseal(bytes(other), "here", hint="next")
        assert refused.value.hint == "next"
    for end in range(len(data)):
        with pytest.raises(FoundryError, match="here"):
            unseal(data[:end], "here", hint="next")
