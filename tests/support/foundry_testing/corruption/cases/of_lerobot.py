"""Damage to LeRobot datasets of three episodes with videos, in files of their own (2.1) and in shared ones.

Legend: N frames.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite
from foundry_testing.corruption.cases.of_text import flip_footer, footer, length_of_footer, put
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.lerobot_datasets import CAMERA, shade, write_dataset, write_json, write_video

LENGTHS, V2, V3 = (5, 8, 4), "v2.1", "v3.0"
DATA = {V2: "data/chunk-000/episode_000001.parquet", V3: "data/chunk-000/file-000.parquet"}
VIDEO = {V2: f"videos/chunk-000/{CAMERA}/episode_000001.mp4", V3: f"videos/{CAMERA}/chunk-000/file-000.mp4"}
EPISODES = {V2: "meta/episodes.jsonl", V3: "meta/episodes/chunk-000/file-000.parquet"}
ALL, SECOND = "*", "*#episode_000001"
Q, E, T, FLAGGED, FOUND, UNSEEN, REFUSED = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.FLAGGED,
    Outcome.FOUND,
    Outcome.UNSEEN,
    Outcome.REFUSED,
)
STATE, ACTION = "observation.state", "action"
META_FREE = "info.json has no checksum, and much of it may be anything"
NO_PAGES = "pages of parquet have no checksum unless their writer asks for it"
Change = Callable[[pa.Table], pa.Table]


def write(version: str, folder: Path) -> None:
    write_dataset(folder / "data", version=version)


class Damages:
    """Ways to damage a dataset of a version; of 2.1 files are of the second episode."""

    def __init__(self, version: str) -> None:
        self.version = version

    def place(self, folder: Path, name: str) -> Path:
        return folder / "data" / name

    @property
    def of_data(self) -> str:
        """What damage to a file of data may cost."""
        return SECOND if self.version == V2 else ALL

    def file(self, name: str, damage: Callable[[Path, random.Random], object], touched: str = ALL) -> Spoil:
        return lambda folder, rng: (damage(self.place(folder, name), rng), touched)[1]

    def data(self, damage: Callable[[Path, random.Random], object]) -> Spoil:
        return self.file(DATA[self.version], damage, self.of_data)

    def video(self, damage: Callable[[Path, random.Random], object]) -> Spoil:
        return self.file(VIDEO[self.version], damage, self.of_data)

    def rows(self, change: Change, touched: str = SECOND) -> Spoil:
        """Other rows of the second episode."""

        def damage(path: Path, rng: random.Random) -> None:
            groups = [parquet.read_table(path)] if self.version == V2 else _groups(path)
            at = 0 if self.version == V2 else 1
            groups[at] = change(groups[at])
            with parquet.ParquetWriter(path, groups[at].schema) as writer:
                for group in groups:
                    writer.write_table(group.cast(groups[at].schema))

        return self.file(DATA[self.version], damage, touched)

    def info(self, **values: Any) -> Spoil:
        def damage(path: Path, rng: random.Random) -> None:
            write_json(path, json.loads(path.read_text()) | values)

        return self.file("meta/info.json", damage)

    def videos_of(self, lost: int) -> Spoil:
        """A video of fewer frames than there are rows; of 3.0 they lack at the end of the last episode."""

        def damage(path: Path, rng: random.Random) -> None:
            numbers = [1] if self.version == V2 else [0, 1, 2]
            shades = [shade(n, frame) for n in numbers for frame in range(LENGTHS[n])]
            write_video(path, shades[:-lost])

        touched = SECOND if self.version == V2 else "*#episode_000002"
        return self.file(VIDEO[self.version], damage, touched)


def _groups(path: Path) -> list[pa.Table]:
    with parquet.ParquetFile(path) as file:
        return [file.read_row_group(number) for number in range(file.num_row_groups)]


def with_column(name: str, values: Any) -> Change:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def vectors(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def with_value(name: str, row: slice, value: float) -> Change:
    def change(table: pa.Table) -> pa.Table:
        values_Nd = np.array(table[name].to_pylist(), np.float32)
        values_Nd[row] = value
        return with_column(name, vectors(values_Nd))(table)

    return change


def without_row(row: int) -> Change:
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def numbered(name: str, values: Sequence[int]) -> Change:
    return with_column(name, pa.array(list(values), pa.int64()))


def flip_pages(path: Path, rng: random.Random) -> None:
    flip(path, rng, [(4, footer(path)[0])])


def checked_pages(path: Path, rng: random.Random) -> None:
    """A flip in pages that have checksums; without statistics all but their headers are numbers."""
    table = parquet.read_table(path)
    parquet.write_table(
        table,
        path,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    values = np.array(table[STATE].to_pylist(), np.float32).tobytes()
    start = path.read_bytes().index(values[:24])
    flip(path, rng, [(start, start + 24)])


def moov(path: Path, rng: random.Random) -> None:
    """The index of the video is not there."""
    rewrite(path, lambda data: data.replace(b"moov", b"free"))


def copy_file(version: str) -> Spoil:
    """A file of data by another name."""

    def spoil(folder: Path, rng: random.Random) -> tuple[str, ...]:
        path = folder / "data" / DATA[version]
        name = "episode_000009.parquet" if version == V2 else "file-001.parquet"
        shutil.copy(path, path.with_name(name))
        return (f"*{name}*",)

    return spoil


def cases(version: str) -> tuple[Case, ...]:
    of = Damages(version)
    lost, shared = (REFUSED, REFUSED) if version == V3 else (Q, Outcome(0))
    return (
        Case(Damage.TRUNCATION, "a file of data is cut off", of.data(cut), Q | shared, 2),
        Case(Damage.TRUNCATION, "a video is cut off", of.video(cut), Q | shared, 2),
        Case(Damage.TRUNCATION, "info.json is cut off", of.file("meta/info.json", cut), REFUSED, 2),
        Case(
            Damage.HEADER_FLIPS,
            "a bit of the footer of data",
            of.data(flip_footer),
            Q | E | T | FOUND | FLAGGED | UNSEEN | shared,
            6,
            "the footer of parquet has no checksum",
        ),
        Case(
            Damage.HEADER_FLIPS,
            "a bit of info.json",
            of.file("meta/info.json", flip),
            REFUSED | Q | E | T | FOUND | FLAGGED | UNSEEN,
            6,
            META_FREE,
        ),
        Case(
            Damage.HEADER_FLIPS,
            "a bit of the table of episodes",
            of.file(EPISODES[version], flip),
            REFUSED | Q | E | T | FOUND | FLAGGED | UNSEEN,
            4,
            "tables of episodes have no checksum",
        ),
        Case(
            Damage.PAYLOAD_FLIPS,
            "a bit of the pages of data",
            of.data(flip_pages),
            Q | E | T | FOUND | FLAGGED | UNSEEN | shared,
            6,
            NO_PAGES,
        ),
        Case(
            Damage.PAYLOAD_FLIPS,
            "a bit of a video",
            of.video(flip),
            Q | E | T | FOUND | FLAGGED | UNSEEN | shared,
            6,
            "a decoder shows what it can",
        ),
        Case(Damage.DTYPE, "a state of texts", of.info(features={}), REFUSED),
        Case(Damage.DTYPE, "a video that is a text", of.video(put(b"no video")), lost),
        Case(Damage.DTYPE, "data that are no parquet", of.data(put(b"no table")), lost),
        Case(
            Damage.SHAPE,
            "info.json says another width",
            of.info(
                features={
                    STATE: {"dtype": "float32", "shape": [4], "names": None},
                    ACTION: {"dtype": "float32", "shape": [3], "names": None},
                }
            ),
            REFUSED,
        ),
        Case(
            Damage.SHAPE,
            "times that fall",
            of.rows(with_column("timestamp", pa.array(np.linspace(1, 0, LENGTHS[1]).astype(np.float32)))),
            Q,
        ),
        Case(
            Damage.NOT_FINITE,
            "a row of the state is NaN",
            of.rows(with_value(STATE, slice(3, 4), np.nan)),
            FLAGGED,
        ),
        Case(Damage.NOT_FINITE, "all actions are inf", of.rows(with_value(ACTION, slice(None), np.inf)), Q),
        Case(Damage.CAMERA, "a video is not there", of.video(lambda path, rng: path.unlink()), T),
        Case(Damage.CAMERA, "a video of one frame less", of.videos_of(1), FLAGGED),
        Case(Damage.CAMERA, "a video of three frames less", of.videos_of(3), Q),
        Case(Damage.STEP, "data lack a row", of.rows(without_row(4)), Q),
        Case(
            Damage.STEP,
            "data of an episode are not there",
            of.file(DATA[version], lambda path, rng: path.unlink(), of.of_data),
            lost,
        ),
        Case(Damage.EMPTY, "a file of data of 0 bytes", of.data(put(b"")), lost),
        Case(Damage.EMPTY, "a video of 0 bytes", of.video(put(b"")), lost),
        Case(Damage.EMPTY, "info.json of 0 bytes", of.file("meta/info.json", put(b"")), REFUSED),
        Case(
            Damage.DUPLICATES,
            "rows numbered twice",
            of.rows(numbered("frame_index", [0, 1, 1, 3, 4, 5, 6, 7])),
            Q,
        ),
        Case(Damage.DUPLICATES, "a file of data copied", copy_file(version), Q),
        Case(Damage.ABSURD, "a footer of 2 GB", of.data(length_of_footer((1 << 31) - 1)), lost),
        Case(Damage.ABSURD, "10^15 episodes", of.info(total_episodes=10**15, total_frames=10**18), T),
        Case(
            Damage.ABSURD,
            "a rate of 10^300",
            of.info(fps=1e300),
            T,
        ),
        Case(Damage.CHECKSUM, "pages with a checksum", of.data(checked_pages), lost),
        Case(Damage.CHECKSUM, "a video without its index", of.video(moov), lost),
        Case(
            Damage.MIXED,
            "an episode without its actions",
            of.info(
                features={
                    STATE: {"dtype": "float32", "shape": [3], "names": None},
                }
            ),
            T,
        ),
        Case(
            Damage.MIXED,
            "rows of another episode",
            of.rows(numbered("episode_index", [7] * LENGTHS[1])),
            Q,
        ),
    )


FORMS = tuple(
    Form(f"LeRobot {version}", partial(write, version), cases(version), "lerobot") for version in (V2, V3)
)
