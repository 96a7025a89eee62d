"""Tars: the same bytes for the same members, readable by every tar reader; their index is in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.index import (
    index_of_tar,
    members_table,
    read_index,
    tar_bytes,
    tar_sha256,
    write_index,
)
from robot_foundry.shards.tar import TarSummary, TarWriter, ustar_header

NAMES = st.from_regex(r"[a-z0-9_-]{1,12}\.[a-z0-9]{1,4}(\.[a-z]{1,4})?", fullmatch=True).filter(
    lambda name: not name.endswith((".episode.json", ".source.npz"))
)
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6)


def written(members: dict[str, bytes]) -> tuple[bytes, TarSummary]:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name in sorted(members):
        writer.add(name, members[name])
    summary = writer.close()
    return sink.getvalue(), summary


def foreign(members: list[tarfile.TarInfo | tuple[str, bytes]], **options: object) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", **options) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mtime = len(member[1]), 1.25  # a fraction makes tarfile write a pax header
                archive.addfile(info, io.BytesIO(member[1]))
    return sink.getvalue()


EXAMPLE = {
    "a-000000.cam.jpg": b"x" * 700,
    "a-000001.cam.jpg": b"",
    "a.episode.json": b"{}",
    "b.json": b"\0" * 512,
}


@settings(max_examples=40)
@given(MEMBERS)
def test_every_reader_finds_what_was_written(members: dict[str, bytes]) -> None:
    data, summary = written(members)
    assert (summary.sha256, summary.num_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert len(data) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        infos = archive.getmembers()
        assert {i.name: archive.extractfile(i).read() for i in infos} == members  # type: ignore[union-attr]
        assert [i.name for i in infos] == sorted(members)
        assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} <= {
            (0, 0, 0, "", "", 0o644)
        }
        assert summary.members["offset"].to_pylist() == [i.offset_data for i in infos]
    for row in summary.members.to_pylist():
        payload = data[row["offset"] : row["offset"] + row["size"]]
        assert payload == members[row["name"]] and row["crc32c"] == google_crc32c.value(payload)
        assert row["key"] == row["name"].split(".")[0]


@settings(max_examples=40)
@given(MEMBERS)
def test_the_index_is_derived_from_the_tar_alone(members: dict[str, bytes]) -> None:
    data, summary = written(members)
    assert index_of_tar(io.BytesIO(data)).equals(summary.members, check_metadata=True)
    assert (tar_sha256(summary.members), tar_bytes(summary.members)) == (summary.sha256, len(data))


def test_tar_of_the_system_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(written(EXAMPLE)[0])
    listed = subprocess.run(["tar", "-tf", "x.tar"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == (sorted(EXAMPLE), "")
    subprocess.run(["tar", "-xf", "x.tar"], cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in EXAMPLE} == EXAMPLE


def test_gnu_tar_writes_the_same_bytes(tmp_path: Path) -> None:
    if "GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout:
        pytest.skip("this system's tar is not GNU tar")
    for name, data in EXAMPLE.items():
        (tmp_path / name).write_bytes(data)
    options = ["--format=ustar", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644"]
    made = subprocess.run(
        ["tar", *options, "-cf", "-", *sorted(EXAMPLE)], cwd=tmp_path, capture_output=True, check=True
    )
    assert made.stdout == written(EXAMPLE)[0]


def test_webdataset_groups_members_by_key(tmp_path: Path) -> None:
    members = {
        f"{episode}-{frame:06d}.{camera}.jpg": f"{episode}{frame}{camera}".encode()
        for episode in ("demo_1-0123456789ab", "demo_10-0123456789ab")
        for frame in range(3)
        for camera in ("front", "wrist")
    }
    members |= {"demo_1-0123456789ab.episode.json": b"{}", "demo_1-0123456789ab.source.npz": b"npz"}
    path = tmp_path / "x.tar"
    path.write_bytes(written(members)[0])
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    found = [(s["__key__"], {k for k in s if not k.startswith("__")}) for s in samples]
    images = {"front.jpg", "wrist.jpg"}
    first = [(f"demo_1-0123456789ab-{frame:06d}", images) for frame in range(3)]
    last = [(f"demo_10-0123456789ab-{frame:06d}", images) for frame in range(3)]
    assert found == [*first, ("demo_1-0123456789ab", {"episode.json", "source.npz"}), *last]
    assert samples[1]["wrist.jpg"] == b"demo_1-0123456789ab1wrist"


def test_names_and_order_are_checked_when_writing() -> None:
    writer = TarWriter(io.BytesIO())
    writer.add("b.json", b"")
    for name, reason in {
        "b.json": "twice",
        "a.json": "comes after",
        "../c.json": "not a member name",
    }.items():
        with pytest.raises(FoundryError, match=reason):
            writer.add(name, b"")
    with pytest.raises(FoundryError, match="at most 8589934591"):
        ustar_header("a.json", 8**11)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_foreign_tar_is_indexed_in_its_own_order(form: int) -> None:
    long = "n" * (90 if form == tarfile.USTAR_FORMAT else 150) + ".JPG"
    members = [("Z 1.jpg", b"1" * 600), (long, b"2"), ("a.cls", b"")]
    data = foreign(members, format=form)  # type: ignore[arg-type]
    table = index_of_tar(io.BytesIO(data))
    assert table["name"].to_pylist() == ["Z 1.jpg", long, "a.cls"]
    assert table["key"].to_pylist() == ["Z 1", long[:-4], "a"]
    for row, (_, payload) in zip(table.to_pylist(), members, strict=True):
        assert data[row["offset"] : row["offset"] + row["size"]] == payload


def special(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("a.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "symlink": (lambda: foreign([special(tarfile.SYMTYPE)]), "'a.jpg' that is a symbolic link"),
    "hard link": (lambda: foreign([special(tarfile.LNKTYPE)]), "a hard link"),
    "device": (lambda: foreign([special(tarfile.CHRTYPE)]), "a device"),
    "fifo": (lambda: foreign([special(tarfile.FIFOTYPE)]), "a FIFO"),
    "folder": (lambda: foreign([special(tarfile.DIRTYPE)]), "a folder"),
    "sparse": (lambda: foreign([special(tarfile.GNUTYPE_SPARSE)]), "a sparse file"),
    "traversal": (lambda: foreign([("../a.jpg", b"")]), "not a plain file name"),
    "absolute": (lambda: foreign([("/a.jpg", b"")]), "not a plain file name"),
    "dots": (lambda: foreign([("..", b"")]), "not a plain file name"),
    "inner folder": (lambda: foreign([("b/a.jpg", b"")]), "not a plain file name"),
    "folder in a prefix": (
        lambda: foreign([("d" * 60 + "/" + "a" * 60, b"")], format=tarfile.USTAR_FORMAT),
        "not a plain file name",
    ),
    "control character": (lambda: foreign([("a\n.jpg", b"")]), "not a plain file name"),
    "duplicate": (lambda: foreign([("a.jpg", b"1"), ("a.jpg", b"2")]), "two members named 'a.jpg'"),
    "gzip": (lambda: gzip.compress(written(EXAMPLE)[0]) + bytes(512), "gzip compression"),
    "cut in a payload": (lambda: written(EXAMPLE)[0][:900], "cut off at byte 900"),
    "cut at a member": (lambda: written(EXAMPLE)[0][:1536], "no end mark"),
    "empty": (lambda: b"", "no end mark"),
    "one zero block": (
        lambda: written(EXAMPLE)[0][:-9000].rstrip(b"\0") + bytes(512),
        "no end mark|zero block",
    ),
    "joined": (lambda: written(EXAMPLE)[0] * 2, "joined end to end"),
    "not a tar": (lambda: b"hello" * 1000, "a damaged header at byte 0"),
    "sparse in pax": (
        lambda: foreign([("a.jpg", b"")], pax_headers={"GNU.sparse.major": "1"}),
        "a sparse file",
    ),
    "names for all": (lambda: foreign([("a.jpg", b"")], pax_headers={"path": "b.jpg"}), "a global header"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tar_that_cannot_be_served_is_refused_with_the_reason(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(FoundryError, match=reason) as caught:
        index_of_tar(io.BytesIO(make()), "some.tar")
    assert str(caught.value).startswith("some.tar cannot be indexed: ")


def with_each_bit_flipped(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        yield data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]


def test_a_changed_byte_is_an_error_or_another_index() -> None:
    tar, summary = written(EXAMPLE)
    refused = 0
    for changed in with_each_bit_flipped(tar):
        try:
            table = index_of_tar(io.BytesIO(changed))
        except FoundryError:
            refused += 1
            continue
        assert tar_sha256(table) != summary.sha256
        # Whatever else changed, a payload and its checksum stay together.
        for row in table.to_pylist():
            assert google_crc32c.value(changed[row["offset"] : row["offset"] + row["size"]]) == row["crc32c"]
    # Accepted are changes in payloads and their padding, and a space before a checksum in place of its zero.
    assert refused == len(tar) - (1024 + 512 + 512) - len(EXAMPLE)


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_after_a_valid_header_never_crash(data: bytes) -> None:
    for kind in b"0xgL":
        header = bytearray(ustar_header("a.jpg", len(data)))
        header[156] = kind
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        tar = bytes(header) + data + bytes(-len(data) % 512 + 1024)
        with suppress(FoundryError):
            for row in index_of_tar(io.BytesIO(tar)).to_pylist():
                payload = tar[row["offset"] : row["offset"] + row["size"]]
                assert len(payload) == row["size"] and google_crc32c.value(payload) == row["crc32c"]


@settings(max_examples=40)
@given(MEMBERS)
def test_an_index_survives_storage(members: dict[str, bytes]) -> None:
    table = written(members)[1].members
    storage = open_storage("memory://test-index")
    storage.write("x.index.arrow", write_index(table))
    assert read_index(storage, "x.index.arrow").equals(table, check_metadata=True)


def test_a_local_index_is_mapped(tmp_path: Path) -> None:
    storage, table = open_storage(tmp_path), written(EXAMPLE)[1].members
    storage.write("x.index.arrow", write_index(table))
    before = pa.total_allocated_bytes()
    found = read_index(storage, "x.index.arrow")
    assert pa.total_allocated_bytes() == before
    assert found.equals(table, check_metadata=True)


def test_a_changed_index_is_refused_or_equal() -> None:
    storage, table = open_storage("memory://test-index"), written(EXAMPLE)[1].members
    for changed in with_each_bit_flipped(write_index(table)):
        storage.write("x", changed)
        try:
            found = read_index(storage, "x")
        except FoundryError as error:
            assert error.hint and "foundry-data index" in error.hint
            continue
        assert found.equals(table, check_metadata=True)


def test_a_cut_or_foreign_index_is_refused() -> None:
    storage, table = open_storage("memory://test-index"), written(EXAMPLE)[1].members
    rows = [tuple(row.values()) for row in table.to_pylist()]
    overlapping = [rows[0], (*rows[1][:2], rows[0][2] + 512, 4, 0), *rows[2:]]
    wrapping = [*rows[:-1], (*rows[-1][:3], 2**64 - 1, 0)]
    cases = {
        "is not a readable index": write_index(table)[:-20],
        "has format": write_index(table.replace_schema_metadata({"format": "v9"})),
        "does not have the columns": write_index(table.drop(["key"])),
        "outside the 10240 bytes": write_index(members_table(rows[::-1], "0" * 64, 10240)),
        "members out of order": write_index(members_table(overlapping, "0" * 64, 10240)),
        "has members": write_index(members_table(wrapping, "0" * 64, 10240)),
        "outside the 1024 bytes": write_index(members_table(rows, "0" * 64, 1024)),
    }
    for reason, content in cases.items():
        storage.write("x", content)
        with pytest.raises(FoundryError, match=reason):
            read_index(storage, "x")
    with pytest.raises(FileNotFoundError):
        read_index(storage, "missing.index.arrow")
