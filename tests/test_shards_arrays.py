"""The .npz of a shard: the same bytes for the same arrays, readable by NumPy, and data only."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.arrays import read_npz, write_npz
from robot_foundry.shards.errors import CorruptArrays

DTYPES = st.sampled_from(["?", "i1", "u2", "<i4", ">i8", "<u8", "<f2", "<f4", ">f8", "<c8", "S3", "<U4"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ARRAYS = st.dictionaries(
    st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_.]*[a-z0-9_]){0,2}", fullmatch=True),
    DTYPES.flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES)),
    max_size=4,
)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == sorted(b) and all(
        a[k].shape == b[k].shape
        and a[k].dtype == b[k].dtype.newbyteorder("<")
        and a[k].tobytes() == b[k].astype(b[k].dtype.newbyteorder("<")).tobytes()
        for k in a
    )


@settings(max_examples=60)
@given(ARRAYS)
def test_arrays_survive_and_numpy_reads_them(arrays: dict[str, np.ndarray]) -> None:
    data = write_npz(arrays)
    assert same(read_npz(data), arrays)
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        assert same({name: loaded[name] for name in loaded.files}, arrays)


def test_bytes_depend_on_values_alone() -> None:
    a, b = np.arange(12, dtype=">f8").reshape(3, 4), np.array("text")
    expected = write_npz({"b": b, "obs/a": a})
    assert write_npz({"obs/a": np.asfortranarray(a.astype("<f8")), "b": b}) == expected
    assert write_npz({"obs/a": np.repeat(a, 2, axis=1)[:, ::2], "b": b}) == expected
    with zipfile.ZipFile(io.BytesIO(expected)) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == ["b.npy", "obs/a.npy"]
    assert {(e.date_time, e.compress_type, e.create_system) for e in entries} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 3)
    }


def test_what_numpy_wrote_without_compression_is_read() -> None:
    sink = io.BytesIO()
    np.savez(sink, x=np.eye(3), y=np.int64(4))
    found = read_npz(sink.getvalue())
    assert np.array_equal(found["x"], np.eye(3)) and found["y"] == 4


def test_arrays_read_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_npz(write_npz({"x": np.zeros(3)}))["x"][0] = 1


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../b", "a//b", "a\\b", "a\nb", "."])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(FoundryError, match="not allowed"):
        write_npz({name: np.zeros(1)})


def test_what_is_not_plain_data_is_refused_when_writing() -> None:
    record = np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
    for array in (np.array([object()]), record, np.array("2020-01-01", "M8[D]"), np.zeros(2, "V4")):
        with pytest.raises(FoundryError, match="'x' has the dtype"):
            write_npz({"x": array})


def zipped(name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        archive.writestr(name, data)
    return sink.getvalue()


def npy(array: np.ndarray, **options: object) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, **options)
    return sink.getvalue()


def test_hostile_files_are_refused_when_reading() -> None:
    plain = npy(np.zeros(8))
    cases = {
        "pickle": zipped("x.npy", npy(np.array([{}], dtype=object), allow_pickle=True)),
        "compressed": zipped("x.npy", npy(np.zeros(10000)), zipfile.ZIP_DEFLATED),
        "huge shape": zipped("x.npy", plain.replace(b"(8,), }  ", b"(888,), }")),
        "wrapping shape": zipped(
            "x.npy", plain.replace(b"(8,), }" + b" " * 18, b"(2305843009213693960,), }")
        ),
        "negative shape": zipped("x.npy", plain.replace(b"(8,), } ", b"(-8,), }")),
        "record": zipped("x.npy", npy(np.zeros(2, dtype=[("a", "i4")]))),
        "another version": zipped("x.npy", npy(np.zeros(2), version=(2, 0))),
        "fortran order": zipped("x.npy", npy(np.zeros((2, 3), order="F"))),
        "cut array": zipped("x.npy", plain[:-1]),
        "longer array": zipped("x.npy", plain + b"\0"),
        "unsafe name": zipped("../x.npy", plain),
        "not an array": zipped("x.txt", b"hello"),
        "empty array": zipped("x.npy", b""),
        "not a zip": b"hello",
        "nothing": b"",
    }
    for case, data in cases.items():
        with pytest.raises(CorruptArrays):
            read_npz(data)
            pytest.fail(case)


def test_each_flipped_byte_is_an_error_or_harmless() -> None:
    arrays = {"a": np.arange(5.0), "b/c": np.array([True, False])}
    data = write_npz(arrays)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]
        try:
            found = read_npz(changed)
        except FoundryError:
            continue
        assert same(found, arrays), position


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_crash(data: bytes) -> None:
    with pytest.raises(CorruptArrays):
        read_npz(data)
