"""Indexes and definitions that lie: what is there is read, what is lost is counted, nothing is endless."""

from __future__ import annotations

import re
import shutil
import sqlite3
import struct
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from foundry_testing.ingested import Ingested
from foundry_testing.mcap_files import CHUNK, CHUNK_INDEX, HEAD, MESSAGE, MESSAGE_INDEX, STATISTICS, McapFile
from foundry_testing.ros_bags import START_NS, arm, joints, spec_file, write_bag
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.sources.ros.bags.mcap.mcap import Mcap
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

SEPARATOR = "\n" + "=" * 80 + "\nMSG: lab_msgs/"


def mcap(tmp_path, form="mcap-chunk", *, keeps_metadata=False):
    """Of 100 joints and 20 pictures in several chunks."""
    bag = write_bag(tmp_path / "take", arm(), form, chunk_bytes=2000)
    if not keeps_metadata:
        (bag / "metadata.yaml").unlink()
    return McapFile(bag / "take.mcap")


def ingested(tmp_path, source, ros=None, mapping=None):
    return Ingested(spec_file(tmp_path, ros, mapping), source, tmp_path / "store")


def account(made):
    (name,) = made.rows
    return made.episode(name)["attributes"]["ros"]


def read(told):
    """Numbers of messages that were read, by topic."""
    return {topic: tally["read"] for topic, tally in told["topics"].items()}


def refused(tmp_path, source, ros=None, mapping=None):
    with pytest.raises(FoundryError) as error:
        run(load_spec(spec_file(tmp_path, ros, mapping)), source, store=tmp_path / "store", name="made")
    return str(error.value)


ALL = {"/joint_states": 100, "/camera": 20}


def test_a_chunk_that_the_index_lacks_is_read_all_the_same(tmp_path):
    file = mcap(tmp_path)
    indexes = file.records(CHUNK_INDEX)
    assert len(indexes) == len(file.records(CHUNK)) > 3
    file.ignore(indexes[1])
    file.save()
    made = ingested(tmp_path, file.path)
    assert read(account(made)) == ALL and "broken" not in account(made)
    told = f"has an index without the chunk at byte {file.records(CHUNK)[1]}, which is read all the same"
    assert told in " ".join(made.report.warnings)


def test_a_file_without_any_index_or_statistics_is_read_by_its_records(tmp_path):
    file = mcap(tmp_path)
    file.ignore(*file.records(CHUNK_INDEX), *file.records(STATISTICS))
    file.save()
    assert read(account(ingested(tmp_path, file.path))) == ALL


def test_a_file_whose_footer_knows_no_summary(tmp_path):
    file = mcap(tmp_path)
    (footer,) = file.records(2)
    file.put(footer + HEAD, "<QQI", 0, 0, 0)
    file.save()
    assert read(account(ingested(tmp_path, file.path))) == ALL


def test_a_chunk_that_is_not_where_the_index_says_is_found_where_it_is(tmp_path):
    file = mcap(tmp_path)
    file.put(file.records(CHUNK_INDEX)[1] + HEAD + 16, "<Q", file.records(CHUNK)[2] + 5)
    file.save()
    made = ingested(tmp_path, file.path)
    assert read(account(made)) == ALL
    told = " ".join(made.report.warnings)
    assert "has an index with a chunk at byte" in told and "where there is none" in told


def test_pictures_that_the_index_of_a_chunk_lacks_are_shown_at_their_own_frames(tmp_path):
    """Joints and pictures are read together first, then pictures alone: both must find the same ones."""
    file = mcap(tmp_path)
    sound = ingested(tmp_path, file.path).images("take", "front")
    indexes = file.records(MESSAGE_INDEX)
    channels = [struct.unpack_from("<H", file.data, place + HEAD)[0] for place in indexes]
    of_camera = [place for place, channel in zip(indexes, channels, strict=True) if channel != channels[0]]
    file.ignore(*of_camera[:2])
    file.save()
    again = Ingested(spec_file(tmp_path), file.path, tmp_path / "again")
    assert read(account(again)) == ALL and again.images("take", "front") == sound


def test_a_chunk_whose_head_is_damaged_is_counted_by_the_index_and_the_rest_goes_on(tmp_path):
    file = mcap(tmp_path)
    file.put(file.records(CHUNK)[1] + 1, "<Q", 1 << 40)  # its length
    file.save()
    told = account(ingested(tmp_path, file.path))
    lost = sum(count for count in told["broken"].values() if count is not None)
    assert lost > 0 and sum(read(told).values()) + lost == 120


def test_a_chunk_of_another_checksum_is_counted(tmp_path):
    file = mcap(tmp_path)
    file.put(file.records(CHUNK)[1] + HEAD + 24, "<I", 12345)
    file.save()
    told = account(ingested(tmp_path, file.path))
    (reason,) = told["broken"]
    assert "its checksum is another one" in reason
    assert sum(read(told).values()) + told["broken"][reason] == 120


@pytest.mark.parametrize("mistake", [TypeError, AttributeError])
def test_a_mistake_in_code_is_no_damage_of_a_chunk(mistake, tmp_path, monkeypatch):
    def mistaken(self, chunk, asked, memory):
        raise mistake("of the programmer")

    monkeypatch.setattr(Mcap, "_read", mistaken)
    with pytest.raises(mistake, match="of the programmer"):
        ingested(tmp_path, mcap(tmp_path).path)


def test_a_chunk_that_is_there_twice_is_refused_by_the_count(tmp_path):
    file = mcap(tmp_path)
    place = file.records(CHUNK)[0]
    file.insert_in_data(bytes(file.data[place : place + HEAD + file.size(place)]))
    file.save()
    told = refused(tmp_path, file.path)
    assert "its index is wrong: it counts 20 messages of /camera, and 21 are there" in told


def test_a_chunk_that_becomes_endless_is_not_unpacked(tmp_path):
    """A few bytes of zstd, which say that they are ten thousand, for a hundred millions."""
    file = mcap(tmp_path)
    place = file.records(CHUNK)[0] + HEAD
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100_000_000))
    content = file.data[place : place + 16] + struct.pack("<QII", 10_000, 0, 4) + b"zstd"
    content += struct.pack("<Q", len(frame)) + frame
    file.insert_in_data(bytes([CHUNK]) + struct.pack("<Q", len(content)) + content)
    file.save()
    tracemalloc.start()
    told = account(ingested(tmp_path, file.path))
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
    assert read(told) == ALL and any("cannot be read" in reason for reason in told["broken"])


def test_messages_of_a_channel_that_nothing_describes_are_counted(tmp_path):
    file = mcap(tmp_path)
    body = struct.pack("<HIQQ", 77, 0, START_NS, START_NS) + b"\0\1\0\0"
    file.insert_in_data(bytes([5]) + struct.pack("<Q", len(body)) + body)
    file.ignore(*file.records(STATISTICS))
    file.save()
    made = ingested(tmp_path, file.path)
    assert account(made)["unmapped"] == {"(channel 77)": 1} and read(account(made)) == ALL
    assert "has 1 messages of channel 77, which nothing in it describes" in " ".join(made.report.warnings)


def test_messages_outside_of_chunks_are_read_among_the_others(tmp_path):
    bag = write_bag(tmp_path / "one", [joints("/joint_states", 0.505, {"a": 0.505, "b": -1.01})], "mcap")
    other = McapFile(bag / "one.mcap")
    (chunk,) = other.records(CHUNK)  # whose records lie behind 40 bytes, as they are
    (place,) = other.records(MESSAGE, chunk + HEAD + 40, chunk + HEAD + other.size(chunk))
    file = mcap(tmp_path)
    assert not file.records(MESSAGE)  # all of its own are in chunks
    file.insert_in_data(bytes(other.data[place : place + HEAD + other.size(place)]))
    file.ignore(*file.records(STATISTICS))
    file.save()
    assert read(account(ingested(tmp_path, file.path)))["/joint_states"] == 101


@pytest.mark.parametrize("form", ["bag", "bag-lz4"])
def test_a_chunk_that_the_index_of_ros_1_lacks_is_read_all_the_same(form, tmp_path):
    """The record of the last chunk is cut off the index, and the header counts one less."""
    path = write_bag(tmp_path / "take", arm(), form, chunk_bytes=2000)
    data = bytearray(path.read_bytes())
    at = data.index(b"chunk_count=") + len(b"chunk_count=")
    (count,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, count - 1)
    path.write_bytes(data)
    made = ingested(tmp_path, path)
    assert read(account(made)) == ALL
    assert "has an index without the chunk at byte" in " ".join(made.report.warnings)


def test_an_index_of_ros_1_that_names_the_message_of_another_topic(tmp_path):
    """The first of the joints is said to be where the first picture is, which came at the same time."""
    path = write_bag(tmp_path / "take", arm(), "bag", chunk_bytes=2000)
    sound = ingested(tmp_path, path).images("take", "front")
    data = bytearray(path.read_bytes())
    # A header of 47 bytes with the opcode 4; behind it a length, and time and place of each message.
    heads = [match.start() for match in re.finditer(rb"\x2f\0\0\0(?=.{0,43}op=\x04)", bytes(data), re.DOTALL)]
    joints_at, pictures_at = heads[0] + 55 + 8, heads[1] + 55 + 8
    data[joints_at : joints_at + 4] = data[pictures_at : pictures_at + 4]
    path.write_bytes(data)
    again = Ingested(spec_file(tmp_path), path, tmp_path / "again")
    told = account(again)
    assert read(told) == {"/joint_states": 99, "/camera": 20}
    assert told["broken"] == {"its index names places where no such message lies": 1}
    # Frames begin 0.02 s later, with the second of the joints, and show what those at 0.05, 0.1, … did.
    assert again.images("take", "front") == sound[1:]


def test_an_index_of_ros_1_that_counts_otherwise_is_refused(tmp_path):
    path = write_bag(tmp_path / "take", arm(), "bag")
    data = bytearray(path.read_bytes())
    at = data.rindex(struct.pack("<I", 100))  # of the messages of a connection in the chunk's record
    struct.pack_into("<I", data, at, 90)
    path.write_bytes(data)
    assert "it counts 90 messages of /joint_states, and 100 are there" in refused(tmp_path, path)


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("Q[] data" + SEPARATOR + "Q\nint8 A=1", "lists messages that have no field"),
        ("Q[100000000] data" + SEPARATOR + "Q\nint8 a", "has 100000000 entries"),
        ("string[100000000] data", "has 100000000 entries"),
        ("Q data" + SEPARATOR + "Q\nR data" + SEPARATOR + "R\nQ data", "cannot be read"),
        ("float64 data\n" + "# " * 300_000, "letters"),
    ],
)
def test_definitions_that_would_never_end_are_refused(definition, reason, tmp_path):
    with Writer(tmp_path / "take", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        odd = writer.add_connection("/q", "lab_msgs/msg/T", msgdef=definition, rihs01="RIHS01_0")
        writer.write(odd, START_NS, b"\0\1\0\0" + b"\xff" * 8)
    ros = {"cameras": {}, "streams": {"joints": {"topic": "/q", "field": "data"}}}
    assert reason in refused(tmp_path, tmp_path / "take", ros, {"cameras": {}})


def test_a_list_of_nothing_in_ros_1(tmp_path):
    """Four thousand millions of messages in four bytes."""
    with Writer1(tmp_path / "take.bag") as writer:
        definition = "Q[] data" + SEPARATOR + "Q\n"
        odd = writer.add_connection("/q", "lab_msgs/msg/T", msgdef=definition, md5sum="0" * 32)
        writer.write(odd, START_NS, b"\xff" * 4)
    ros = {"cameras": {}, "streams": {"joints": {"topic": "/q", "field": "data"}}}
    told = refused(tmp_path, tmp_path / "take.bag", ros, {"cameras": {}})
    assert "the field data of lab_msgs/msg/T lists messages that have no field" in told


def test_a_definition_of_an_encoding_that_is_unknown_leaves_the_others(tmp_path):
    """As rosbag2 writes it for every type that it does not find."""
    bag = write_bag(tmp_path / "take", arm(), "db3")
    with sqlite3.connect(bag / "take.db3") as database:
        database.execute("UPDATE message_definitions SET encoding='unknown', encoded_message_definition=''")
        database.execute("INSERT INTO messages VALUES (999, 77, ?, x'00010000')", (START_NS,))
    database.close()
    made = ingested(tmp_path, bag)
    assert read(account(made)) == ALL and account(made)["unmapped"] == {"(topic 77)": 1}
    assert "has 1 messages of topic 77, which nothing in it describes" in " ".join(made.report.warnings)


def test_a_page_of_a_database_that_is_damaged(tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "db3")
    path = bag / "take.db3"
    data = bytearray(path.read_bytes())
    data[4096 * 8 : 4096 * 8 + 64] = b"\xff" * 64
    path.write_bytes(data)
    told = refused(tmp_path, bag)
    assert "cannot be read" in told and "`sqlite3 FILE .recover` saves what is whole" in told


def test_a_journal_of_other_bytes_changes_nothing(tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "db3")
    (bag / "take.db3-wal").write_bytes(bytes(range(256)) * 16)
    assert read(account(ingested(tmp_path, bag))) == ALL


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ("- take.mcap\n  - take.mcap", None),
        ("- ../other/secret.mcap", "1 of its 1 parts are not there (secret.mcap)"),
        ("- /etc/passwd", "1 of its 1 parts are not there (passwd)"),
        ("- 17", "1 of its 1 parts are not there (17)"),
    ],
)
def test_metadata_that_lists_files_that_it_should_not(listed, reason, tmp_path):
    bag = write_bag(tmp_path / "take", arm(), "mcap")
    shutil.copytree(bag, tmp_path / "other")
    Path(tmp_path / "other" / "take.mcap").rename(tmp_path / "other" / "secret.mcap")
    path = bag / "metadata.yaml"
    path.write_text(path.read_text().replace("- take.mcap", listed, 1))
    if reason is None:
        assert read(account(ingested(tmp_path, bag))) == ALL
    else:
        assert reason in refused(tmp_path, bag)
