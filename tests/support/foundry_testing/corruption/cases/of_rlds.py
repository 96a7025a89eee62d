"""Damage to RLDS: a directory of three files of records, of two episodes each.

Legend: T steps.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tensorflow_datasets.core import features as tfds

from foundry_testing.corruption.bytes_damaged import around, cut, flip, poke, rewrite
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.rlds_directories import SPEC, STEP, Directory, encoded, framed, masked, picture, step

NUM_FILES, EACH, STEPS = 3, 2, 5
FRAME_HEAD = 12  # bytes before a record: its length, and the checksum of that
FOLDER = "toy/1.0.0"
Q, E, T, FLAGGED, FOUND, UNSEEN, REFUSED = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.FLAGGED,
    Outcome.FOUND,
    Outcome.UNSEEN,
    Outcome.REFUSED,
)
Steps = list[dict[str, Any]]


def write(folder: Path) -> None:
    made = Directory(folder)
    files = [[made.record(steps_of(file, n)) for n in range(EACH)] for file in range(NUM_FILES)]
    made.write("train", *files)
    (folder.parent / "spec.yaml").write_text(SPEC + "content: {fps: 10}\n")


def steps_of(file: int, number: int) -> Steps:
    return [step(t, STEPS, EACH * file + number) for t in range(STEPS)]


def file_of(folder: Path, number: int = 1) -> Path:
    return folder / FOLDER / f"toy-train.tfrecord-{number:05d}-of-{NUM_FILES:05d}"


def units(record: int | None = None) -> str:
    """Of the second file: the unit of a record, or all."""
    name = file_of(Path(), 1).as_posix()
    return f"{name}#*" if record is None else f"{name}#record_{record}"


def of_file(damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to the second file, which may cost all of it."""
    return lambda folder, rng: (damage(file_of(folder), rng), units())[1]


def of_meta(name: str, damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to a file that tells of all others."""
    return lambda folder, rng: (damage(folder / FOLDER / name, rng), "*")[1]


def records(path: Path) -> list[bytes]:
    data, found, place = path.read_bytes(), [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        found.append(data[place + FRAME_HEAD : place + FRAME_HEAD + length])
        place += FRAME_HEAD + length + 4
    return found


def spans_of(path: Path) -> list[tuple[int, int]]:
    """Where the records lie, without what frames them."""
    spans, place = [], 0
    for record in records(path):
        spans.append((place + FRAME_HEAD, place + FRAME_HEAD + len(record)))
        place = spans[-1][1] + 4
    return spans


def flip_record(folder: Path, rng: random.Random) -> str:
    path, number = file_of(folder), rng.randrange(EACH)
    flip(path, rng, [spans_of(path)[number]])
    return units(number)


def flip_frame(path: Path, rng: random.Random) -> None:
    flip(path, rng, around(spans_of(path), path.stat().st_size))


def of_record(content: Callable[[], bytes]) -> Spoil:
    """Another record, with a right checksum, in place of the second one of the second file."""

    def spoil(folder: Path, rng: random.Random) -> str:
        path = file_of(folder)
        path.write_bytes(b"".join(map(framed, [records(path)[0], content()])))
        return units(1)

    return spoil


def of_steps(change: Callable[[Steps], object], features: Mapping[str, Any] | None = None) -> Spoil:
    """The second episode of the second file with other steps, of other `features` of a step."""

    def content() -> bytes:
        steps = steps_of(1, 1)
        change(steps)
        with TemporaryDirectory() as folder:
            return Directory(Path(folder), {**STEP, **(features or {})}).record(steps)

    return of_record(content)


def of_observation(name: str, feature: Any, value: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Another feature in the observation of each step."""
    observation = {**STEP["observation"], name: feature}

    def change(steps: Steps) -> None:
        for each in steps:
            each["observation"][name] = value(each["observation"])

    return of_steps(change, {"observation": observation})


def every(name: str, value: Any) -> Callable[[Steps], None]:
    def change(steps: Steps) -> None:
        for each in steps:
            each[name] = value

    return change


def image(at: Sequence[int], data: bytes) -> Spoil:
    """Other bytes in place of the image of some steps."""
    observation = {**STEP["observation"], "image": tfds.Tensor(shape=(), dtype=np.object_)}

    def change(steps: Steps) -> None:
        for number, each in enumerate(steps):
            own = each["observation"]["image"]
            each["observation"]["image"] = data if number in at else own

    return of_steps(change, {"observation": observation})


def number(at: int, value: float) -> Spoil:
    def change(steps: Steps) -> None:
        steps[at]["observation"]["state"] = np.array([value, 0, 0])

    return of_steps(change)


def lacking(name: str) -> Callable[[], bytes]:
    """The record without one of the values of a feature, as its reader finds it."""

    def content() -> bytes:
        with TemporaryDirectory() as folder:
            whole = Directory(Path(folder)).record(steps_of(1, 1))
        return whole.replace(name.encode(), name[:-1].encode() + b"X")

    return content


def lengths(*stated: int) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, rng: random.Random) -> None:
        info = json.loads(path.read_text())
        info["splits"][0]["shardLengths"] = [str(length) for length in stated]
        path.write_text(json.dumps(info))

    return damage


def length_of(value: int) -> Callable[[Path, random.Random], None]:
    """A length before the first record, with a right checksum."""
    stated = struct.pack("<Q", value)
    return lambda path, rng: poke(path, 0, stated + struct.pack("<I", masked(stated)))


def copy_record(folder: Path, rng: random.Random) -> str:
    path = file_of(folder)
    first = records(path)[0]
    path.write_bytes(framed(first) + framed(first))
    return units(1)


def more_records(path: Path, rng: random.Random) -> None:
    rewrite(path, lambda data: data + data)


def checksum(folder: Path, rng: random.Random) -> str:
    path, number = file_of(folder), rng.randrange(EACH)
    end = spans_of(path)[number][1]
    flip(path, rng, [(end, end + 4)])
    return units(number)


def checksum_of_length(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(8, 12)])


def shape_of(*shape: int) -> Any:
    return tfds.Tensor(shape=shape, dtype=np.float32)


CASES = (
    Case(Damage.TRUNCATION, "a file of records is cut off", of_file(cut), Q, 3),
    Case(Damage.TRUNCATION, "features.json is cut off", of_meta("features.json", cut), REFUSED, 2),
    Case(Damage.TRUNCATION, "dataset_info.json is cut off", of_meta("dataset_info.json", cut), REFUSED, 2),
    Case(Damage.HEADER_FLIPS, "a bit of what frames records", of_file(flip_frame), Q, 3),
    Case(
        Damage.HEADER_FLIPS,
        "a bit of features.json",
        of_meta("features.json", flip),
        REFUSED | E | T | Q | UNSEEN,
        6,
        "a feature that nothing names may have any name and type",
    ),
    Case(
        Damage.HEADER_FLIPS,
        "a bit of dataset_info.json",
        of_meta("dataset_info.json", flip),
        REFUSED | E | T | Q | UNSEEN,
        4,
        "the version and other texts of a dataset may be any",
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a record", flip_record, Q, 4),
    Case(Damage.DTYPE, "actions are texts", of_steps(every("action", "x"), {"action": tfds.Text()}), Q),
    Case(
        Damage.DTYPE,
        "actions are integers",
        of_steps(every("action", np.array([1, 2, 3])), {"action": tfds.Tensor(shape=(3,), dtype=np.int64)}),
        Q,
    ),
    Case(Damage.DTYPE, "a record is no tf.train.Example", of_record(lambda: b"\xff" * 99), Q),
    Case(
        Damage.SHAPE,
        "actions have two numbers",
        of_steps(every("action", np.zeros(2, np.float32)), {"action": shape_of(2)}),
        Q,
    ),
    Case(
        Damage.SHAPE,
        "a state has four numbers",
        of_observation("state", shape_of(4), lambda _: np.zeros(4, np.float32)),
        Q,
    ),
    Case(Damage.SHAPE, "an image of another size", image([2], encoded(picture(0, 4, 4), "jpeg")), Q),
    Case(Damage.NOT_FINITE, "a state is NaN in a step", number(2, np.nan), FLAGGED),
    Case(Damage.NOT_FINITE, "a state is inf in a step", number(2, np.inf), FLAGGED),
    Case(
        Damage.NOT_FINITE, "all actions are NaN", of_steps(every("action", np.full(3, np.nan, np.float32))), Q
    ),
    Case(Damage.CAMERA, "a step without its image", image([2], b""), FLAGGED),
    Case(Damage.CAMERA, "an episode without images", image(range(STEPS), b""), T),
    Case(Damage.STEP, "a feature is not there", of_record(lacking("steps/action")), Q),
    Case(
        Damage.STEP,
        "a step is taken out",
        of_steps(lambda steps: steps.pop(2)),
        UNSEEN,
        why="RLDS has no clock and numbers no steps",
    ),
    Case(Damage.EMPTY, "a file of 0 bytes", of_file(lambda path, rng: path.write_bytes(b"")), Q),
    Case(Damage.EMPTY, "an episode without steps", of_steps(list.clear), Q),
    Case(
        Damage.EMPTY,
        "features.json of 0 bytes",
        of_meta("features.json", lambda p, rng: p.write_bytes(b"")),
        REFUSED,
    ),
    Case(Damage.EMPTY, "a record of 0 bytes", of_record(lambda: b""), Q),
    Case(
        Damage.DUPLICATES,
        "a record twice in place of another",
        copy_record,
        UNSEEN,
        why="records have no ids, and are not compared",
    ),
    Case(Damage.DUPLICATES, "a file with its records twice", of_file(more_records), Q),
    Case(Damage.ABSURD, "a record of 2^62 bytes", of_file(length_of(1 << 62)), Q),
    Case(Damage.ABSURD, "a record of 4 GB", of_file(length_of(1 << 32)), Q),
    Case(Damage.ABSURD, "10^15 records in a file", of_meta("dataset_info.json", lengths(2, 10**15, 2)), Q),
    Case(
        Damage.ABSURD,
        "a negative number of records",
        of_meta("dataset_info.json", lengths(2, -2, 2)),
        REFUSED,
    ),
    Case(Damage.CHECKSUM, "the checksum of a record", checksum, Q, 2),
    Case(Damage.CHECKSUM, "the checksum of a length", of_file(checksum_of_length), Q, 2),
    Case(
        Damage.MIXED, "a record of other features", of_steps(every("torque", 1.0), {"torque": np.float32}), T
    ),
    Case(
        Damage.MIXED,
        "images of another size in an episode",
        image(range(STEPS), encoded(picture(0, 16, 16), "jpeg")),
        T,
    ),
)

FORM = Form("RLDS", write, CASES, "spec.yaml")
