"""Damage to ROS bags: three recordings of an arm, as ROS 1 bag, as SQLite and as MCAP of ROS 2."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.mcap_files import CHUNK, HEAD, MESSAGE_INDEX, McapFile
from foundry_testing.ros_bags import Sent, arm, image, joints, jpeg, spec_file, text, write_bag

SECONDS = {"a": 0.8, "b": 1.0, "c": 1.2}
BAG, SQLITE, MCAP = "bag", "db3", "mcap"
Q, E, T, FLAGGED, FOUND, UNSEEN = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.FLAGGED,
    Outcome.FOUND,
    Outcome.UNSEEN,
)
ANY = Q | E | T | FLAGGED | FOUND
CHUNK_BYTES = 1500
FIRST = 13 + 4096  # behind the version and the padded header of a bag of ROS 1
TOUCHED = ("b.bag#*", "b/*", "b#*")
NO_CHECKSUM = "bags of ROS 1 and databases have no checksums; chunks of MCAP have one if their writer sets it"
ACCOUNTED = "the account of the episode (`attributes.ros`) has it"
Messages = list[Sent]


def write(form: str, folder: Path) -> None:
    for name, seconds in SECONDS.items():
        write_bag(folder / name, arm(seconds), form, chunk_bytes=CHUNK_BYTES)
    spec_file(folder.parent)


def file_of(folder: Path) -> Path:
    """The second recording."""
    return next(path for path in (folder / "b.bag", folder / "b/b.db3", folder / "b/b.mcap") if path.exists())


def of_file(damage: Callable[[Path, random.Random], object]) -> Spoil:
    return lambda folder, rng: (damage(file_of(folder), rng), TOUCHED)[1]


def of_messages(change: Callable[[Messages], Messages]) -> Spoil:
    """Another recording, whole, in place of the second one."""

    def spoil(folder: Path, rng: random.Random) -> tuple[str, ...]:
        path = file_of(folder)
        form = path.suffix[1:]
        path.unlink()
        shutil.rmtree(folder / "b", ignore_errors=True)
        write_bag(folder / "b", change(arm(SECONDS["b"])), form, chunk_bytes=CHUNK_BYTES)
        return TOUCHED

    return spoil


def with_message(number: int, change: Callable[[Sent], Sent]) -> Spoil:
    """Another message in place of one; those of joints come first, then those of the camera."""
    return of_messages(lambda sent: [change(each) if n == number else each for n, each in enumerate(sent)])


def with_joints(a: float) -> Callable[[Sent], Sent]:
    return lambda sent: joints("/joint_states", sent.at, {"a": a, "b": 0.0})


def fields(**values: object) -> Callable[[Sent], Sent]:
    return lambda sent: replace(sent, fields={**sent.fields, **values})


def of(topic: str, change: Callable[[Sent], Sent]) -> Spoil:
    """A change of all messages of a topic."""
    return of_messages(lambda sent: [change(each) if each.topic == topic else each for each in sent])


def without(topic: str, start: float = -1, end: float = 99) -> Spoil:
    return of_messages(lambda sent: [s for s in sent if s.topic != topic or not start <= s.at < end])


def head(path: Path) -> tuple[int, int]:
    return 0, min(4096, path.stat().st_size // 3)


def tail(path: Path) -> tuple[int, int]:
    size = path.stat().st_size
    return max(0, size - 1500), size


def flip_ends(path: Path, rng: random.Random) -> None:
    flip(path, rng, [head(path), tail(path)])


def flip_middle(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(head(path)[1], tail(path)[0])])


def copy_bag(folder: Path, rng: random.Random) -> tuple[str, ...]:
    path = file_of(folder)
    if path.suffix == ".bag":
        shutil.copy(path, folder / "d.bag")
        return ("d.bag#*",)
    shutil.copytree(folder / "b", folder / "d")
    return ("d/*", "d#*")


def huge(topic_type: str = "rgb8") -> Callable[[Sent], Sent]:
    """A picture of 2^31 lines in a few bytes."""
    return lambda sent: image(
        "/camera", sent.at, np.zeros(99, np.uint8), topic_type, height=1 << 31, width=1 << 31, step=3
    )


def in_turns(messages: Messages) -> Messages:
    """Joints by the names of another arm."""
    return [
        joints("/joint_states", sent.at, {"c": 0.1, "d": 0.2}) if sent.topic == "/joint_states" else sent
        for sent in messages
    ]


COMMON = (
    Case(Damage.TRUNCATION, "a bag is cut off", of_file(cut), ANY | UNSEEN, 3, ACCOUNTED),
    Case(
        Damage.HEADER_FLIPS,
        "a bit near the beginning or the end",
        of_file(flip_ends),
        ANY | UNSEEN,
        6,
        NO_CHECKSUM,
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of messages", of_file(flip_middle), ANY | UNSEEN, 6, NO_CHECKSUM),
    Case(
        Damage.DTYPE, "joints are texts", of("/joint_states", lambda s: text("/joint_states", s.at, "x")), Q
    ),
    Case(Damage.DTYPE, "pictures are texts", of("/camera", lambda s: text("/camera", s.at, "x")), Q),
    Case(
        Damage.DTYPE,
        "a picture is no picture",
        with_message(53, fields(data=np.arange(99, dtype=np.uint8))),
        T,
    ),
    Case(
        Damage.SHAPE,
        "a message of one joint",
        with_message(20, fields(position=np.zeros(1))),
        T,
    ),
    Case(
        Damage.SHAPE,
        "a picture of another size",
        with_message(53, fields(data=np.frombuffer(jpeg(9, 32, 32), np.uint8))),
        Q,
    ),
    Case(
        Damage.NOT_FINITE,
        "joints are NaN in messages",
        with_message(20, with_joints(np.nan)),
        FLAGGED,
    ),
    Case(Damage.NOT_FINITE, "joints are inf in all messages", of("/joint_states", with_joints(np.inf)), Q),
    Case(Damage.CAMERA, "no message of the camera", without("/camera"), Q),
    Case(Damage.CAMERA, "the camera pauses", without("/camera", 0.3, 0.8), FLAGGED | T),
    Case(Damage.STEP, "joints pause", without("/joint_states", 0.3, 0.7), FLAGGED | T | FOUND),
    Case(Damage.STEP, "a message is lost", without("/joint_states", 0.39, 0.41), T),
    Case(Damage.EMPTY, "a file of 0 bytes", of_file(lambda path, rng: path.write_bytes(b"")), Q),
    Case(Damage.EMPTY, "a bag without messages", of_messages(lambda sent: sent[:1]), Q),
    Case(Damage.DUPLICATES, "a bag copied", copy_bag, T),
    Case(
        Damage.DUPLICATES, "messages twice", of_messages(lambda sent: [*sent, *sent]), UNSEEN, why=ACCOUNTED
    ),
    Case(Damage.ABSURD, "pictures of 2^31 x 2^31", of("/camera", huge()), Q),
    Case(Damage.MIXED, "joints of other names", of_messages(in_turns), Q),
    Case(
        Damage.MIXED,
        "pictures of another size in a bag",
        of("/camera", fields(data=np.frombuffer(jpeg(9, 32, 32), np.uint8))),
        T,
    ),
)


def length_of_record(path: Path, rng: random.Random) -> None:
    """The length of the first record behind the header of a bag of ROS 1, which is more than any file has."""
    rewrite(path, lambda data: data[:FIRST] + struct.pack("<I", 0xFFFFFFF0) + data[FIRST + 4 :])


def wrong_crc(path: Path, rng: random.Random) -> None:
    """A bit of the checksum of a chunk of MCAP."""
    place = rng.choice(McapFile(path).records(CHUNK))
    start = place + HEAD + 24
    flip(path, rng, [(start, start + 4)])


def mcap_length(path: Path, rng: random.Random) -> None:
    """A chunk of 2^62 bytes."""
    file = McapFile(path)
    file.put(file.records(CHUNK)[1] + 1, "<Q", 1 << 62)
    file.save()


def mcap_index(path: Path, rng: random.Random) -> None:
    """Indexes of messages that take 2^40 bytes."""
    file = McapFile(path)
    file.put(file.records(MESSAGE_INDEX)[0] + HEAD + 2, "<I", (1 << 32) - 1)
    file.save()


def rows(statement: str, *values: object) -> Callable[[Path, random.Random], None]:
    """A change of a database."""

    def damage(path: Path, rng: random.Random) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute(statement, values)
            database.commit()

    return damage


OWN: dict[str, Sequence[Case]] = {
    BAG: (Case(Damage.ABSURD, "a record of 4 GB", of_file(length_of_record), Q),),
    SQLITE: (
        Case(
            Damage.SHAPE,
            "a message of a few bytes",
            of_file(rows("UPDATE messages SET data = x'0001' WHERE id = 20")),
            T,
        ),
        Case(Damage.EMPTY, "a table without rows", of_file(rows("DELETE FROM messages")), Q),
        Case(
            Damage.ABSURD,
            "a time of 2^62",
            of_file(rows("UPDATE messages SET timestamp = 1 << 62 WHERE id = 20")),
            T,
        ),
        Case(
            Damage.DTYPE,
            "times are texts",
            of_file(rows("UPDATE messages SET timestamp = 'x' WHERE id = 20")),
            T,
        ),
        Case(
            Damage.DUPLICATES,
            "a topic twice",
            of_file(
                rows(
                    "INSERT INTO topics SELECT 9, name, type, serialization_format, offered_qos_profiles, "
                    "type_description_hash FROM topics WHERE name = ?",
                    "/camera",
                )
            ),
            E,
        ),
    ),
    MCAP: (
        Case(Damage.CHECKSUM, "the checksum of a chunk", of_file(wrong_crc), ANY | UNSEEN, 3, ACCOUNTED),
        Case(Damage.ABSURD, "a chunk of 2^62 bytes", of_file(mcap_length), T | FLAGGED),
        Case(Damage.ABSURD, "an index of 4 GB", of_file(mcap_index), E),
    ),
}
FORMS = tuple(
    Form(
        f"ROS, {form}",
        partial(write, form),
        (*COMMON, *OWN[form]),
        "spec.yaml",
        without={} if form == MCAP else {Damage.CHECKSUM: "bags of ROS 1 and databases have no checksums"},
    )
    for form in (BAG, SQLITE, MCAP)
)
