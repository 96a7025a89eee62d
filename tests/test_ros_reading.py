"""Reading a bag fast changes nothing: messages like earlier ones, pictures where they lie, and chunks anyhow.

Legend: H W pixels.
"""

from __future__ import annotations

import io
import struct
import weakref
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import START_NS, Sent, compressed, joints, numbers, rgb, spec_file, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.sources.ros.bags.bag import open_bag
from robot_foundry.ingest.sources.ros.gather import Window, gather
from robot_foundry.ingest.sources.ros.ros import Ros
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files
from robot_foundry.shards.images import encode_jpeg

FORMS = ("bag", "db3", "mcap", "mcap-chunk", "mcap-message")


def source_of(bag: Path) -> SourceFile:
    path = bag if bag.is_file() else next(item for item in bag.iterdir() if item.suffix in (".mcap", ".db3"))
    status = files.status(str(path.parent), path.name)
    return SourceFile(str(path.parent), path.name, status.size, status.stamp, "")


def looked_through(bag: Path, ros: dict):
    """What the first pass keeps of a bag."""
    options = load_spec(spec_file(bag.parent, {"cameras": {}, **ros}, {"cameras": {}})).content.options
    with open_bag(source_of(bag), options) as opened:
        return gather(opened, options, Window())


FLOATS = st.floats(allow_nan=False, width=64)
NAMES = st.lists(st.sampled_from(["a", "b", "elbow", "wrist ü"]), unique=True, max_size=4)
JOINTS = NAMES.flatmap(
    lambda names: st.fixed_dictionaries({name: FLOATS for name in names}) if names else st.just({})
)


@settings(max_examples=25, deadline=None)
@given(
    sent=st.lists(
        st.tuples(JOINTS, st.integers(0, 10**6), st.sampled_from(["base", ""])), min_size=1, max_size=30
    ),
    form=st.sampled_from(FORMS),
)
def test_joints_are_what_was_sent_whatever_the_messages_before_were_like(sent, form):
    messages = [
        joints("/q", n / 10, values, stamp=n / 10 + micros / 1e6, frame=frame)
        for n, (values, micros, frame) in enumerate(sent)
    ]
    with TemporaryDirectory() as folder:
        bag = write_bag(Path(folder, "take"), messages, form)
        streams = {"joints": {"topic": "/q", "field": "position", "names": ["b", "a"]}}
        found = looked_through(bag, {"streams": streams})
    kept = [(n, values) for n, (values, _, _) in enumerate(sent) if {"a", "b"} <= values.keys()]
    sink = found.sinks.numbers["joints"]
    assert list(sink.series.ordinals) == [n for n, _ in kept]
    assert list(sink.series.stamps) == [START_NS + round((n / 10 + sent[n][1] / 1e6) * 1e9) for n, _ in kept]
    assert list(sink.values) == [number for _, values in kept for number in (values["b"], values["a"])]
    tally = found.tally("/q")
    assert (len(tally), tally.num_taken) == (len(sent), len(kept))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.lists(FLOATS, min_size=1, max_size=3), min_size=1, max_size=30),
    form=st.sampled_from(FORMS),
)
def test_lists_of_another_length_are_refused_and_counted(rows, form):
    with TemporaryDirectory() as folder:
        bag = write_bag(
            Path(folder, "take"), [numbers("/q", n / 10, row) for n, row in enumerate(rows)], form
        )
        found = looked_through(bag, {"streams": {"q": {"topic": "/q", "field": "data"}}})
    kept = [row for row in rows if len(row) == len(rows[0])]
    assert found.sinks.numbers["q"].rows().tolist() == kept
    assert found.tally("/q").reasons.total() == len(rows) - len(kept)


# The fields of a header, those of its time, the time, and how many messages are of use.
ODD_TYPES = {
    "fractions": ("odd/Time stamp", "float64 sec\nfloat64 nanosec", {"sec": 7.5, "nanosec": 1.0}, 10),
    "lists": ("odd/Time stamp", "int32[2] sec\nint32 nanosec", {"sec": np.ones(2, np.int32)}, 0),
    "no time": ("uint8 seq", "int32 sec", None, 10),
}


@pytest.mark.parametrize(("header", "time", "stamp", "count"), ODD_TYPES.values(), ids=ODD_TYPES)
@pytest.mark.parametrize("last", ["float64[] data", "uint8[] data"])
def test_types_that_are_not_as_their_names_say(header, time, stamp, count, last, tmp_path):
    """What decoding each message gives, by a spec that names a field of it."""
    store = get_typestore(Stores.EMPTY)
    for definition, name in ((time, "odd/msg/Time"), (header, "odd/msg/Header")):
        store.register(get_types_from_msg(definition, name))
    store.register(get_types_from_msg(f"odd/Header header\n{last}", "sensor_msgs/msg/CompressedImage"))
    kind = np.float64 if "float64" in last else np.uint8
    sent = [
        Sent("/q", n / 10, "sensor_msgs/msg/CompressedImage", {
            "header": {} if stamp is None else {"stamp": stamp}, "data": np.array([n, 2 * n], kind)
        })
        for n in range(10)
    ]  # fmt: skip
    bag = write_bag(tmp_path / "take", sent, store=store)
    found = looked_through(bag, {"streams": {"q": {"topic": "/q", "field": "data"}}})
    assert found.tally("/q").num_taken == count


def camera(form: str):
    """Pictures of changing headers: two qualities of JPEG and a PNG that is none, or pixels."""
    for n in range(12):
        pixels_HW3 = np.random.default_rng(n).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        if form == "rgb8":
            yield rgb("/camera", n / 10, pixels_HW3)
        else:
            yield compressed("/camera", n / 10, encode_jpeg(pixels_HW3, 60 + 30 * (n % 2)))


def still():
    return [joints("/joint_states", n / 10, {"a": float(n), "b": 0.0}) for n in range(12)]


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_changing_headers_are_those_that_were_sent(form, tmp_path):
    sent = [*still(), *camera("jpeg")]
    made = Ingested(
        spec_file(tmp_path, {"rate": 10}), write_bag(tmp_path / "take", sent, form), tmp_path / "s"
    )
    expected = [bytes(message.fields["data"]) for message in sent if message.topic == "/camera"]
    assert made.images("take", "front") == expected


def large(kind: str):
    """Pictures of over 128 KiB, whose pixels the first pass need not see: the bytes or pixels of each."""
    for n in range(12):
        pixels_HW3 = np.random.default_rng(n).integers(0, 256, (288, 320, 3), dtype=np.uint8)
        if kind == "rgb8":
            yield rgb("/camera", n / 10, pixels_HW3)
        elif kind == "png":
            file = io.BytesIO()
            Image.fromarray(pixels_HW3).save(file, "PNG")
            yield compressed("/camera", n / 10, file.getvalue(), "png")
        else:
            yield compressed("/camera", n / 10, encode_jpeg(pixels_HW3, 98 + n % 2))


@pytest.mark.parametrize("kind", ["rgb8", "png", "jpeg"])
def test_large_pictures_are_the_same_whether_all_of_them_is_read_twice_or_not(kind, tmp_path):
    sent = [*still(), *large(kind)]
    spec, made = spec_file(tmp_path, {"rate": 10}), []
    for form in ("mcap", "mcap-chunk"):
        bag = write_bag(tmp_path / form / "take", sent, form)
        made.append(Ingested(spec, bag, tmp_path / f"{form}-store"))
    stored, in_zstd = made
    assert stored.images("take", "front") == in_zstd.images("take", "front")
    assert len(set(stored.images("take", "front"))) == 12
    if kind != "rgb8":
        expected = [bytes(message.fields["data"]) for message in sent if message.topic == "/camera"]
        assert stored.images("take", "front") == expected
    assert stored.frames("take") == in_zstd.frames("take")


def bytes_read() -> int:
    """By this process so far, from files and whatever else."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_the_first_pass_leaves_out_most_of_large_pictures(tmp_path):
    bag = write_bag(tmp_path / "take", [*still(), *large("rgb8")])
    options = load_spec(spec_file(tmp_path)).content.options
    with open_bag(source_of(bag), options) as opened:
        before = bytes_read()
        found = gather(opened, options, Window())
        read = bytes_read() - before
    assert found.tally("/camera").num_taken == 12
    assert read < bag.joinpath("take.mcap").stat().st_size / 2


def test_a_record_of_a_large_picture_that_lies_about_its_length(tmp_path):
    """Its chunk is lost, and told."""
    bag = write_bag(tmp_path / "take", [*still(), *large("rgb8")], chunk_bytes=600_000)
    path = next(bag.glob("*.mcap"))
    reader = McapReader(path)
    reader.open()
    starts = [chunk.chunk_start_offset + 9 + 40 for chunk in reader.chunks]
    reader.close()
    content = path.read_bytes()
    record = content.rindex(b"\x05", starts[1], content.index(b"rgb8", starts[1]) - 60)
    with path.open("r+b") as file:
        file.seek(record + 1)
        file.write(struct.pack("<Q", 1 << 40))
    made = Ingested(spec_file(tmp_path, {"rate": 10}), bag, tmp_path / "store")
    account = made.episode("take")["attributes"]["ros"]
    ((reason, lost),) = account["broken"].items()
    assert "a record of it is longer than the chunk" in reason and lost > 0
    assert sum(tally["read"] for tally in account["topics"].values()) == 24 - lost


def test_chunks_that_lie_across_each_other_give_the_same(tmp_path):
    """The recorder's threads write late: messages of one time lie in two chunks, and chunks out of order."""
    sent = sorted([*still(), *camera("jpeg")], key=lambda message: message.received_ns)
    late = [*sent[6:14], *sent[:6], *sent[14:]]
    stores = []
    for name, messages, chunk_bytes in (("whole", sent, None), ("cut", late, 600)):
        bag = write_bag(tmp_path / name / "take", messages, in_order=False, chunk_bytes=chunk_bytes)
        stores.append(Ingested(spec_file(tmp_path, {"rate": 10}), bag, tmp_path / f"{name}_store"))
    whole, cut = stores
    assert cut.images("take", "front") == whole.images("take", "front")
    assert (cut.source("take")["joints"] == whole.source("take")["joints"]).all()


def with_checksums(bag: Path) -> list[int]:
    """Give each chunk of a file its CRC-32, as other recorders do. Returns where their records begin."""
    path = next(bag.glob("*.mcap"))
    reader, starts = McapReader(path), []
    reader.open()
    with path.open("r+b") as file:
        for chunk in reader.chunks:
            start = chunk.chunk_start_offset + 9 + 40 + len(chunk.compression)
            file.seek(start)
            checksum = crc32(file.read(chunk.compressed_size))
            file.seek(chunk.chunk_start_offset + 9 + 24)
            file.write(struct.pack("<I", checksum))
            starts.append(start)
    reader.close()
    return starts


def test_a_flipped_bit_in_a_chunk_with_a_checksum_costs_the_chunk_alone(tmp_path):
    sent = [*still(), *camera("jpeg")]
    bag = write_bag(tmp_path / "take", sent, chunk_bytes=3000)
    starts = with_checksums(bag)
    whole = Ingested(spec_file(tmp_path, {"rate": 10}), bag, tmp_path / "whole")
    assert len(starts) > 3 and "broken" not in whole.episode("take")["attributes"]["ros"]
    path = next(bag.glob("*.mcap"))
    with path.open("r+b") as file:
        file.seek(starts[2] + 1000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    made = Ingested(spec_file(tmp_path, {"rate": 10}), bag, tmp_path / "store")
    account = made.episode("take")["attributes"]["ros"]
    ((reason, lost),) = account["broken"].items()
    assert "its checksum is another one" in reason and 0 < lost < 12
    assert sum(tally["read"] for tally in account["topics"].values()) == 24 - lost


@pytest.mark.parametrize("form", ["mcap", "mcap-chunk", "db3"])
def test_few_pictures_are_held_at_once(form, tmp_path):
    """Of the arrays that were given out, those that nobody else holds are gone when the next ones come."""
    bag = write_bag(tmp_path / "take", [*still(), *camera("rgb8")], form)
    content = load_spec(spec_file(tmp_path, {"rate": 10})).content
    given_out, most = [], 0
    with ExitStack() as until_closed:
        reader = Ros()
        (unit,), _ = reader.list_units(source_of(bag), content)
        episode = until_closed.enter_context(reader.open(unit, content))
        for (picture,) in episode.frames:
            given_out.append(weakref.ref(picture))
            most = max(most, sum(reference() is not None for reference in given_out))
    assert len(given_out) == 12 and most <= 2
