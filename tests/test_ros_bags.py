"""Bags in every form, whole and damaged: what is read, what is counted, and what is refused in a sentence."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import zstandard
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import (
    FORMS,
    ROS2,
    START_NS,
    Sent,
    arm,
    header,
    joints,
    numbers,
    spec_file,
    text,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError


def ingested(tmp_path, source, ros=None, mapping=None):
    return Ingested(spec_file(tmp_path, ros, mapping), source, tmp_path / "store")


def only(made):
    (name,) = made.rows
    return name


def account(made):
    return made.episode(only(made))["attributes"]["ros"]


def refused(tmp_path, source, ros=None):
    """The one sentence by which the only bag is refused."""
    with pytest.raises(FoundryError) as error:
        run(load_spec(spec_file(tmp_path, ros)), source, store=tmp_path / "store", name="made")
    return str(error.value)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_episode(form, tmp_path):
    made = ingested(tmp_path, write_bag(tmp_path / "take", arm(), form))
    name = only(made)
    assert name == "take"
    # 0 … 1.9 s, where the camera ends, at 20 Hz.
    frames = np.arange(39) / 20
    joints_N2 = made.source(name)["joints"]
    assert np.abs(joints_N2 - np.stack([frames, -2 * frames], axis=1)).max() < 1e-6
    assert made.source(name)["timestamp"] == pytest.approx(frames, abs=1e-9)
    assert made.episode(name)["start_ns"] == START_NS
    assert made.episode(name)["fps"] == 20.0
    counts = account(made)["topics"]
    assert (counts["/joint_states"]["read"], counts["/camera"]["read"]) == (100, 20)
    assert counts["/camera"]["used"] == 20 and len(made.images(name, "front")) == 39
    for tally in counts.values():
        assert tally["used"] + tally["dropped"] + tally["unmapped"] + tally["refused"] == tally["read"]


def test_compressed_pictures_go_through_byte_for_byte(tmp_path):
    sent = arm()
    made = ingested(tmp_path, write_bag(tmp_path / "take", sent))
    data = [bytes(message.fields["data"]) for message in sent if message.topic == "/camera"]
    # At 20 Hz each of the 10 Hz is shown at its own frame, and at the one after: of two as near, the earlier.
    assert made.images("take", "front") == [data[frame // 2] for frame in range(39)]


def in_parts(folder: Path, form: str) -> Path:
    """Two seconds in two files of a folder, without metadata.yaml."""
    folder.mkdir()
    for number, half in enumerate((lambda m: m.at < 1, lambda m: m.at >= 1)):
        bag = write_bag(folder.parent / f"{form}{number}", filter(half, arm()), form)
        shutil.move(bag / f"{bag.name}.{form}", folder / f"{folder.name}_{number}.{form}")
    return folder


@pytest.mark.parametrize("form", ["db3", "mcap"])
def test_numbered_files_without_metadata_are_joined_where_the_spec_says_so(form, tmp_path):
    folder = in_parts(tmp_path / "take", form)
    alone = ingested(tmp_path, folder)
    assert sorted(alone.rows) == ["take_0", "take_1"]
    assert "`--set content.ros.split=true` joins the parts of one" in " ".join(alone.report.warnings)
    joined = Ingested(spec_file(tmp_path, {"split": True}), folder, tmp_path / "joined")
    assert account(joined)["topics"]["/joint_states"]["read"] == 100
    assert joined.rows[only(joined)]["num_frames"] == 39


def test_a_split_recording_is_read_in_the_order_of_its_metadata(tmp_path):
    folder = in_parts(tmp_path / "take", "mcap")
    for number, letter in enumerate("ba"):
        (folder / f"take_{number}.mcap").rename(folder / f"{letter}.mcap")
    whole = write_bag(tmp_path / "whole", arm())
    described = (
        (whole / "metadata.yaml").read_text().replace("- whole.mcap", "- take/b.mcap\n  - take/a.mcap")
    )
    (folder / "metadata.yaml").write_text(described)
    made = ingested(tmp_path, folder)
    assert made.rows[only(made)]["num_frames"] == 39
    assert account(made)["streams"]["joints"]["late"] == 0


def test_parts_that_metadata_lists_and_are_not_there(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    described = (bag / "metadata.yaml").read_text().replace("- take.mcap", "- take.mcap\n  - take_1.mcap")
    (bag / "metadata.yaml").write_text(described)
    assert "1 of its 2 parts are not there (take_1.mcap)" in refused(tmp_path, bag)
    made = ingested(tmp_path, bag, {"parts": "present"})
    assert "is not whole: 1 of its 2 parts" in " ".join(made.report.warnings)


def test_metadata_that_counts_otherwise_is_told_and_the_files_are_believed(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    described = (bag / "metadata.yaml").read_text().replace("message_count: 20", "message_count: 23")
    (bag / "metadata.yaml").write_text(described)
    made = ingested(tmp_path, bag)
    assert "/camera 23, not 20" in " ".join(made.report.warnings)
    assert account(made)["topics"]["/camera"]["read"] == 20


def test_metadata_that_is_none(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    (bag / "metadata.yaml").write_text("[1, 2")
    assert "metadata.yaml is not YAML" in refused(tmp_path, bag)
    (bag / "metadata.yaml").write_text("a: 1")
    assert "metadata.yaml is none of a bag" in refused(tmp_path, bag)


def test_damaged_files_are_refused_by_name_and_the_others_go_on(tmp_path):
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("good", "short", "lfs", "random"):
        write_bag(folder / name, arm(), "bag")
    short = folder / "short.bag"
    short.write_bytes(short.read_bytes()[:-2000])
    (folder / "lfs.bag").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (folder / "random.bag").write_bytes(bytes(range(256)))
    write_bag(tmp_path / "cut", arm())
    whole = (tmp_path / "cut" / "cut.mcap").read_bytes()
    (folder / "cut.mcap").write_bytes(whole[: len(whole) // 2])
    made = ingested(tmp_path, folder)
    assert list(made.rows) == ["good"]
    assert made.reasons.keys() == {"short.bag", "lfs.bag", "random.bag", "cut.mcap"}
    assert "cannot be read: bag index looks damaged" in made.reasons["short.bag"]
    assert "a pointer of Git LFS" in made.reasons["lfs.bag"]
    assert "no ROS 1 bag, MCAP file or SQLite database" in made.reasons["random.bag"]
    assert "it is cut off" in made.reasons["cut.mcap"]


@pytest.mark.parametrize("form", ["bag-bz2", "bag-lz4", "mcap-chunk"])
def test_a_corrupt_chunk_is_counted_and_the_rest_goes_on(form, tmp_path):
    bag = write_bag(tmp_path / "take", arm(), form, chunk_bytes=2000)
    file = bag if bag.is_file() else bag / "take.mcap"
    data = bytearray(file.read_bytes())
    magic = {"bag-bz2": b"BZh9", "bag-lz4": b"\x04\x22\x4d\x18", "mcap-chunk": b"\x28\xb5\x2f\xfd"}[form]
    places = [place for place in range(len(data)) if data.startswith(magic, place)]
    for place in range(places[1] + 12, places[1] + 60):
        data[place] ^= 0xFF
    file.write_bytes(data)
    made = ingested(tmp_path, bag)
    told = account(made)
    lost = sum(told["broken"].values())
    assert lost > 0
    assert sum(tally["read"] for tally in told["topics"].values()) + lost == 120
    assert "has messages that are lost, for the chunk at byte" in " ".join(made.report.warnings)
    empty = np.isnan(made.source("take")["joints"]).any(axis=1)
    assert 0 < empty.sum() < 39
    flags = np.array([row["flags"] for row in made.frames("take")])
    assert ((flags & 16) > 0).tolist() == empty.tolist()  # INVALID_STATE: masked, and not invented


def test_an_index_that_counts_other_messages_is_refused(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    file = bag / "take.mcap"
    data = bytearray(file.read_bytes())
    # The statistics: opcode, length, 120 messages in all; then by channel, of which the first is 100.
    at = data.rindex((120).to_bytes(8, "little"))
    place = data.index((100).to_bytes(8, "little"), at + 8)
    data[place : place + 8] = (90).to_bytes(8, "little")
    file.write_bytes(data)
    (bag / "metadata.yaml").unlink()
    assert "its index is wrong: it counts 90 messages of /joint_states, and 100 are there" in refused(
        tmp_path, bag
    )


def test_an_empty_bag_and_a_database_with_a_journal(tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "db3")
    path = bag / "take.db3"
    live = sqlite3.connect(path)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("PRAGMA wal_autocheckpoint=0")
    live.execute("DELETE FROM messages WHERE timestamp >= ?", (START_NS + 1_500_000_000,))
    live.commit()
    copy = tmp_path / "copy"
    shutil.copytree(bag, copy)  # as a recorder leaves it that was not closed
    live.close()
    made = ingested(tmp_path, copy)
    # 75 of 100 joints and 15 of 20 pictures: what the journal says, and not what the database alone does.
    assert account(made)["topics"]["/joint_states"]["read"] == 75
    assert "a part of it lies in the journal" in " ".join(made.report.warnings)
    assert "it holds no message" in refused(tmp_path, write_bag(tmp_path / "none", [], "db3"))


def test_a_topic_that_is_not_there_is_named_with_the_nearest(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    streams = {"joints": {"topic": "/joint_state", "field": "position"}}
    assert "no topic '/joint_state', did you mean '/joint_states'?" in refused(
        tmp_path, bag, {"streams": streams}
    )


def test_a_field_that_is_not_there_and_messages_of_no_use(tmp_path):
    bag = write_bag(tmp_path / "take", arm())
    for field, expected in (
        ("positions", "it has no field 'positions', did you mean 'position'?"),
        ("velocity", "it has 0 numbers under 'velocity'"),
        ("name", "it has text under 'name'"),
        ("position[7]", "it has no entry 7 under 'position[7]'"),
    ):
        streams = {"joints": {"topic": "/joint_states", "field": field}}
        assert expected in refused(tmp_path, bag, {"streams": streams}), field


def test_an_unknown_type_is_counted_and_the_rest_goes_on(tmp_path):
    bag = tmp_path / "take"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        known = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=ROS2)
        odd = writer.add_connection(
            "/odd", "lab_msgs/msg/Odd", msgdef="not a definition {", rihs01="RIHS01_0"
        )
        for n in range(100):
            sent = joints("/joint_states", n / 50, {"a": n / 50, "b": 0.0})
            message = ROS2.types[sent.type](
                **{
                    **sent.fields,
                    "header": ROS2.types["std_msgs/msg/Header"](
                        ROS2.types["builtin_interfaces/msg/Time"](**sent.fields["header"]["stamp"]), "base"
                    ),
                }
            )
            writer.write(known, sent.received_ns, ROS2.serialize_cdr(message, sent.type))
            writer.write(odd, sent.received_ns, b"\0\1\0\0abcd")
    made = ingested(tmp_path, bag, {"cameras": {}}, {"cameras": {}})
    assert account(made)["unmapped"] == {"/odd": 100}
    assert made.episode("take")["left_out"].keys() == {"/odd"}
    streams = {"odd": {"topic": "/odd", "field": "data"}}
    told = refused(tmp_path, bag, {"cameras": {}, "streams": streams})
    assert "none of 100 messages of /odd" in told and "definition that cannot be read" in told


def test_packets_of_video_are_refused_by_the_name_of_their_type(tmp_path):
    definition = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    kind = "foxglove_msgs/msg/CompressedVideo"
    store = ROS2.__class__()
    store.register({**ROS2.fielddefs, **get_types_from_msg(definition, kind)})
    with Writer(tmp_path / "take", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/video", kind, typestore=store)
        stamp = store.types["builtin_interfaces/msg/Time"](1, 0)
        message = store.types[kind](stamp, "camera", np.zeros(9, np.uint8), "h264")
        writer.write(connection, START_NS, store.serialize_cdr(message, kind))
    ros = {"cameras": {"front": {"topic": "/video"}}, "streams": {"t": {"topic": "/video", "field": "data"}}}
    told = refused(tmp_path, tmp_path / "take", ros)
    assert (
        f"none of 1 messages of /video is of use for the stream 'front': its type {kind} is of packets"
        in told
    )


def test_definitions_come_from_files_where_the_bag_has_none(tmp_path):
    definition = "std_msgs/Header header\nfloat64[2] angles\n"
    store = ROS2.__class__()
    store.register({**ROS2.fielddefs, **get_types_from_msg(definition, "lab_msgs/msg/Arm")})
    bag = tmp_path / "take"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/arm", "lab_msgs/msg/Arm", typestore=store)
        for n in range(20):
            stamp = store.types["builtin_interfaces/msg/Time"](**header(n / 10)["stamp"])
            message = store.types["lab_msgs/msg/Arm"](
                store.types["std_msgs/msg/Header"](stamp, ""), np.array([n, -n], np.float64)
            )
            raw = store.serialize_cdr(message, "lab_msgs/msg/Arm")
            writer.write(connection, START_NS + n * 100_000_000, raw)
    database = sqlite3.connect(bag / "take.db3")  # as those of Humble and older are
    database.execute("DELETE FROM message_definitions")
    database.commit()
    database.close()
    ros = {"cameras": {}, "streams": {"joints": {"topic": "/arm", "field": "angles"}}}
    assert "has no definition in the bag" in refused(tmp_path, bag, ros)
    folder = bag / "lab_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Arm.msg").write_text(definition)
    made = ingested(tmp_path, bag, {**ros, "definitions": ["*.msg"]}, {"cameras": {}})
    assert made.source("take")["joints"][-1].tolist() == [19.0, -19.0]


def test_one_topic_of_two_types_is_read_by_each(tmp_path):
    sent = [numbers("/q", n / 10, [n, -n]) for n in range(20)] + [text("/q", 0.55, "hello")]
    ros = {"cameras": {}, "streams": {"joints": {"topic": "/q", "field": "data"}}}
    made = ingested(tmp_path, write_bag(tmp_path / "take", sent), ros, {"cameras": {}})
    tally = account(made)["topics"]["/q"]
    assert (tally["read"], tally["refused"], tally["reasons"]) == (21, 1, {"it has text under 'data'": 1})
    assert "'/q' has messages that are refused: it has text under 'data'" in " ".join(made.report.warnings)


def test_messages_that_are_no_messages_are_counted(tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "db3")
    database = sqlite3.connect(bag / "take.db3")
    topic = database.execute("SELECT id FROM topics WHERE name='/joint_states'").fetchone()[0]
    rows = database.execute("SELECT id FROM messages WHERE topic_id=? ORDER BY id", (topic,)).fetchall()
    database.execute("UPDATE messages SET data=? WHERE id=?", (b"\0\1\0\0" + b"\xff" * 40, rows[10][0]))
    database.execute("UPDATE messages SET data=? WHERE id=?", (b"\x28\xb5\x2f\xfdxx", rows[11][0]))
    database.execute("UPDATE messages SET data=? WHERE id=?", (zstandard.compress(b""), rows[12][0]))
    database.commit()
    database.close()
    made = ingested(tmp_path, bag)
    tally = account(made)["topics"]["/joint_states"]
    assert tally["refused"] == 3 and tally["read"] == 100
    assert tally["reasons"] == {"its bytes are no message of its type": 2, "its zstd frame is damaged": 1}


def test_a_definition_cannot_run_as_code(tmp_path):
    """Names of a definition become Python names in rosbags; constants, which hold any text, do not."""
    bag = tmp_path / "take"
    definition = "string EVIL=\"__import__('os').abort()\"\nfloat64 data\n"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/q", "lab_msgs/msg/Q", msgdef=definition, rihs01="RIHS01_0")
        for n in range(5):
            raw = b"\0\1\0\0" + np.float64(n).tobytes()
            writer.write(connection, START_NS + n * 100_000_000, raw)
    ros = {"cameras": {}, "streams": {"joints": {"topic": "/q", "field": "data"}}}
    made = ingested(tmp_path, bag, ros, {"cameras": {}})
    assert made.source("take")["joints"][:, 0].max() == 4.0


def test_a_file_whose_name_would_be_an_address(tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "db3")
    (bag / "metadata.yaml").unlink()
    (bag / "take.db3").rename(bag / "take?100%.db3")
    assert list(ingested(tmp_path, bag).rows) == ["take?100%"]


def test_sent_is_in_order_of_receipt():
    assert Sent("/a", 0.5, "std_msgs/msg/String", {}).received_ns == START_NS + 500_000_000
