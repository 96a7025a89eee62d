"""Replay buffers in zarr that are wrong: what cannot be read is named with why, and nothing is made up."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.zarr_buffers import (
    ENDS,
    FPS,
    arrays,
    edit,
    write_array,
    write_buffer,
    write_json,
    zipped,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError, UsageError

SPEC = "diffusion_policy"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
JPEG_XL = {"id": "imagecodecs_jpegxl", "effort": 3, "distance": 0.3, "decodingspeed": 1}


@pytest.fixture
def buffer(tmp_path):
    write_buffer(tmp_path / "in.zarr")
    return tmp_path / "in.zarr"


def made_of(source, overrides=(FPS,)):
    made = Ingested(SPEC, source, source.parent / "store", overrides)
    report = made.report
    assert report.discovered == report.written + report.num_refused
    dry = run(load_spec(SPEC, overrides), source, store=source.parent / "none", name="made", dry_run=True)
    # What names and headers tell, a dry run tells as well; it opens no chunk but those of one unit.
    assert {entry.unit for entry in dry.refused} <= set(made.reasons)
    return made


def refusal(source, overrides=(FPS,)):
    with pytest.raises(FoundryError, match="nothing was written") as raised:
        run(load_spec(SPEC, overrides), source, store=source.parent / "store", name="made")
    return raised.value.message


def chunk(buffer, name):
    return buffer / "data" / name


def test_a_chunk_that_is_not_there_is_never_made_up(buffer):
    chunk(buffer, "state/2.0").unlink()  # rows 8 to 11, of the second episode alone
    made = made_of(buffer)
    (entry,) = made.reasons.items()
    assert entry[0] == ".zgroup#episode_000001"
    assert entry[1].startswith("its chunk 'data/state/2.0' (rows 8 to 11) is not there; zarr would make up")
    assert made.manifest["counts"]["frames"] == ENDS[-1] - 8
    beside = [warning for warning in made.report.warnings if warning.startswith("passed over")]
    assert beside and all("that no unit that is taken names" in warning for warning in beside)
    again = made_of(
        buffer, (FPS, "content.skip=[state, img]", "mapping.state.arm.pose={key: action, names: [x, y]}")
    )
    assert not again.reasons  # as the message says


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:-3], "its header says that it has"),
        (lambda data: data[:7], "it has 7 bytes, fewer than a header of blosc"),
        (lambda data: b"", "it has 0 bytes, fewer than a header of blosc"),
        # A size that would take 4 GB.
        (lambda data: data[:4] + b"\xf0\xff\xff\xff" + data[8:], "its header says 4294967280 bytes, and a"),
        (lambda data: POINTER, "is a Git LFS pointer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("array", ["state/2.0", "img/2.0.0.0"])
def test_a_chunk_that_is_damaged(buffer, array, spoil, reason):
    path = chunk(buffer, array)
    path.write_bytes(spoil(path.read_bytes()))
    (entry,) = made_of(buffer).reasons.items()
    assert entry[0] == ".zgroup#episode_000001" and f"'data/{array}'" in entry[1] and reason in entry[1]


def test_a_chunk_of_which_bytes_flipped(buffer):
    """Only as far as the compression notices: Blosc has no checksum."""
    path = chunk(buffer, "img/2.0.0.0")
    data = path.read_bytes()
    path.write_bytes(data[:16] + b"\xff" * (len(data) - 16))
    (entry,) = made_of(buffer).reasons.items()
    assert entry[0] == ".zgroup#episode_000001" and "'data/img/2.0.0.0' is damaged" in entry[1]


@pytest.mark.parametrize(
    "codec", [{"id": "zlib", "level": 1}, {"id": "gzip", "level": 1}, {"id": "zstd", "level": 1}, None]
)
def test_a_chunk_of_other_compressions_that_is_cut_off_or_a_bomb(tmp_path, codec):
    import numcodecs

    write_buffer(tmp_path / "in.zarr", compressor=codec)
    path = chunk(tmp_path / "in.zarr", "state/2.0")
    whole = path.read_bytes()
    bomb = bytes(1 << 20)
    for data in (whole[:-2], bomb if codec is None else bytes(numcodecs.get_codec(codec).encode(bomb))):
        path.write_bytes(data)
        (entry,) = made_of(tmp_path / "in.zarr").reasons.items()
        assert entry[0] == ".zgroup#episode_000001" and "data/state/2.0" in entry[1]


@pytest.mark.parametrize(
    ("ends", "written", "reasons"),
    [
        ([5, 3, 17], [0], {1: "ends at row 3, and that the one before ends at 5", 2: "does not rise before"}),
        ([5, 5, 17], [0, 2], {1: "it ends at row 5, and that the one before ends at 5"}),
        ([5, 13, 40], [0, 1], {2: "it ends at row 40, and its array 'action' has 17"}),
        ([-4, 13, 17], [2], {0: "it ends at row -4", 1: "does not rise before it"}),
    ],
)  # fmt: skip
def test_ends_of_episodes_that_cannot_be(tmp_path, ends, written, reasons):
    write_buffer(tmp_path / "in.zarr", arrays(), np.array(ends))
    made = made_of(tmp_path / "in.zarr")
    assert sorted(made.rows) == [f"episode_{n:06d}" for n in written]
    assert len(made.reasons) == len(reasons)
    for number, reason in reasons.items():
        assert reason in made.reasons[f".zgroup#episode_{number:06d}"]


def test_rows_that_no_episode_takes_are_told(tmp_path):
    write_buffer(tmp_path / "in.zarr", arrays(), [5, 13])
    made = made_of(tmp_path / "in.zarr")
    told = "'meta/episode_ends' ends at row 13, and no episode takes the rows behind it, which 'action' has"
    assert made.reasons == {".zgroup#rows_from_13": f"{told} up to 17"}


def test_arrays_of_unlike_lengths(tmp_path):
    data = arrays()
    data["action"] = data["action"][:14]
    write_buffer(tmp_path / "in.zarr", data)
    (entry,) = made_of(tmp_path / "in.zarr").reasons.items()
    assert entry[0] == ".zgroup#episode_000002" and "its array 'action' has 14" in entry[1]


def test_consolidated_metadata_that_lie(buffer):
    own = json.loads((buffer / "data/state/.zarray").read_text())
    told = {
        "data/state/.zarray": own | {"shape": [99, 5]},
        "data/ghost/.zarray": own,
        "data/../../x/.zarray": own,
    }
    write_json(buffer / ".zmetadata", {"zarr_consolidated_format": 1, "metadata": told})
    made = made_of(buffer)
    assert len(made.rows) == 3
    assert made.episode("episode_000000")["left_out"] == {"ghost": ".zmetadata lists it, and it is not there"}
    told = [line for line in made.report.warnings if ".zmetadata" in line]
    assert told[0] == "3 of 3 episodes: 'ghost' is listed in .zmetadata, and it is not there"
    assert "'state' is described otherwise in .zmetadata" in told[1] and len(told) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "is of Python objects, which only unpickling"),
        ({"dtype": [["a", "<f4"]]}, "is of the type"),
        ({"dtype": "<M8[ns]"}, "is of the type <M8[ns]"),
        ({"dtype": "<b4"}, "is of the type <b4"),
        ({"compressor": JPEG_XL}, "is compressed by the codec imagecodecs_jpegxl, and blosc, lz4"),
        ({"filters": [{"id": "delta"}]}, "is written through the filter delta, which is not read"),
        ({"shape": [17, -5]}, "which is none"),
        ({"chunks": [0, 5]}, "which is none"),
        ({"chunks": [1 << 40, 5]}, "which take more than"),
        ({"shape": [17, 1 << 40]}, "which take more than"),
        ({"zarr_format": 3}, "is of zarr's format 3"),
        ({"order": "Z"}, "has an order of numbers"),
    ],
)  # fmt: skip
def test_arrays_that_are_not_read_refuse_all_and_the_message_says_how_to_go_on(buffer, values, reason):
    edit(buffer / "data/state/.zarray", **values)
    told = refusal(buffer)
    assert "its array 'state'" in told and reason in told and "content.skip=[state]" in told
    as_told = [FPS, "content.skip=[state]", "mapping.state.arm.pose={key: action, names: [x, y]}"]
    assert len(made_of(buffer, as_told).rows) == 3


@pytest.mark.parametrize("key", ["compressor", "filters"])
def test_an_array_that_does_not_say_how_it_is_packed_is_not_guessed(buffer, key):
    path = buffer / "data/state/.zarray"
    path.write_text(path.read_text().replace(key, key[:-1] + "X"))
    assert f"does not say how its chunks are packed: its .zarray has no {key} (--set" in refusal(buffer)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
DESCRIBED = ("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "filters", "order")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from((*DESCRIBED, "dimension_separator")), ANYTHING)
def test_whatever_describes_an_array_it_is_read_or_refused_in_a_sentence(tmp_path_factory, key, value):
    source = tmp_path_factory.mktemp("any") / "in.zarr"
    write_buffer(source)
    edit(source / "data/state/.zarray", **{key: value})
    try:
        report = run(load_spec(SPEC, [FPS]), source, store=source.parent / "none", name="made", dry_run=True)
        assert report.discovered == report.written + report.num_refused
    except FoundryError as error:
        assert str(error).isprintable()


def test_formats_and_places_that_are_none(buffer, tmp_path):
    assert "give the folder that holds data and meta" in refusal(buffer / "data")
    v3 = tmp_path / "v3.zarr"
    for place in ("", "meta/", "meta/episode_ends/"):
        write_json(v3 / f"{place}zarr.json", {"zarr_format": 3})
    assert "it is of zarr's format 3, and format 2 is read" in refusal(v3)
    (buffer / "meta/episode_ends/.zarray").write_text("{")
    assert "is no JSON" in refusal(buffer)
    shutil.rmtree(buffer / "meta")
    assert "it has no 'meta/episode_ends'" in refusal(buffer)
    shutil.rmtree(buffer)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/x").touch()
    with pytest.raises(UsageError, match="holds no file of the layout zarr"):
        run(load_spec(SPEC, [FPS]), tmp_path / "empty", store=tmp_path / "store", name="made")


def test_ends_of_another_type(buffer):
    for values in (np.array([5.0, 13.0]), np.array([[5, 13]])):
        shutil.rmtree(buffer / "meta/episode_ends")
        write_array(buffer / "meta/episode_ends", values, values.shape, None)
        assert "and rows are counted" in refusal(buffer)


def test_zips_that_are_none(buffer, tmp_path):
    source = zipped(buffer, tmp_path / "in.zarr.zip")
    whole = source.read_bytes()
    for data, reason in (
        (whole[:-40], "it is no whole zip"),
        (POINTER, "Git LFS pointer"),
        (b"", "no whole zip"),
    ):
        source.write_bytes(data)
        assert reason in refusal(source)
    at = whole.index((buffer / "data/state/2.0").read_bytes())
    source.write_bytes(whole[:at] + b"\0" * 8 + whole[at + 8 :])
    (entry,) = made_of(source).reasons.items()
    assert entry[0] == "in.zarr.zip#episode_000001" and "its member 'data/state/2.0' is damaged" in entry[1]


def test_a_zip_whose_member_is_a_bomb(buffer, tmp_path):
    (buffer / "data/state/2.0").write_bytes(bytes(1 << 24))
    source = zipped(buffer, tmp_path / "in.zarr.zip", zipfile.ZIP_DEFLATED)
    assert source.stat().st_size < len(zlib.compress(bytes(1 << 24))) + 100_000
    (entry,) = made_of(source).reasons.items()
    assert "its file 'data/state/2.0' has more than the" in entry[1]


def test_hostile_names_of_arrays_stay_data(buffer):
    shutil.copytree(buffer / "data/state", buffer / "data/\x1b[31m")
    assert "the name of its array '\\x1b[31m' is not allowed" in refusal(buffer)
