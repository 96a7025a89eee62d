"""Damage to a replay buffer in zarr: three episodes end to end, in chunks of four rows.

Legend: N rows of all episodes.
"""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil
from foundry_testing.zarr_buffers import BLOSC, ENDS, FPS, arrays, edit, write_array, write_buffer

BUFFER, ROWS = "in.zarr", 4
Q, E, T, FLAGGED, FOUND, UNSEEN, REFUSED = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.FLAGGED,
    Outcome.FOUND,
    Outcome.UNSEEN,
    Outcome.REFUSED,
)
ALL, ANY_DESCRIPTION = "*", "an array is what its .zarray says, and that has no checksum"
ZLIB = {"id": "zlib", "level": 1}


def write(folder: Path) -> None:
    write_buffer(folder / BUFFER, rows=ROWS)


def episodes_of(first: int, end: int) -> tuple[str, ...]:
    """The episodes that have rows in [first, end)."""
    starts = (0, *ENDS)
    overlap = (n for n in range(len(ENDS)) if starts[n] < end and first < ENDS[n])
    return tuple(f"*#episode_{n:06d}" for n in overlap)


def of_chunk(damage: Callable[[Path, random.Random], object], name: str = "") -> Spoil:
    """Damage to a chunk of an array, or of any, which costs the episodes with rows in it."""

    def spoil(folder: Path, rng: random.Random) -> tuple[str, ...]:
        number = rng.randrange(-(-ENDS[-1] // ROWS))
        array = name or rng.choice(["action", "state", "img"])
        damage(folder / BUFFER / "data" / array / f"{number}.0{'.0.0' if array == 'img' else ''}", rng)
        return episodes_of(number * ROWS, (number + 1) * ROWS)

    return spoil


def of_buffer(damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to what tells of all episodes."""
    return lambda folder, rng: (damage(folder / BUFFER, rng), ALL)[1]


def of_array(
    name: str, change: Callable[[NDArray[Any]], NDArray[Any]], touched: Sequence[str] = (ALL,)
) -> Spoil:
    """Other numbers in place of those of an array."""

    def spoil(folder: Path, rng: random.Random) -> tuple[str, ...]:
        values = change(arrays()[name])
        put(folder / BUFFER / "data" / name, values)
        return tuple(touched)

    return spoil


def put(place: Path, values: NDArray[Any], compressor: Mapping[str, Any] | None = BLOSC) -> None:
    shutil.rmtree(place, ignore_errors=True)
    write_array(place, values, (ROWS, *values.shape[1:]), compressor)


def with_value(row: slice, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(values: NDArray[Any]) -> NDArray[Any]:
        values[row] = value
        return values

    return change


def ends(*rows: float, touched: tuple[str, ...] = (ALL,)) -> Spoil:
    def spoil(folder: Path, rng: random.Random) -> tuple[str, ...]:
        values = np.asarray(rows)
        shutil.rmtree(folder / BUFFER / "meta/episode_ends")
        write_array(folder / BUFFER / "meta/episode_ends", values, (max(1, len(rows)),), BLOSC)
        return touched

    return spoil


def described(name: str, **values: Any) -> Spoil:
    return of_buffer(lambda place, rng: edit(place / f"data/{name}/.zarray", **values))


def flip_description(place: Path, rng: random.Random) -> None:
    flip(rng.choice(sorted(place.rglob(".zarray"))), rng)


def without_array(name: str) -> Spoil:
    return of_buffer(lambda place, rng: shutil.rmtree(place / "data" / name))


def without_row(folder: Path, rng: random.Random) -> tuple[str, ...]:
    """Without a row of the second episode in all arrays; the ends are corrected."""
    for name, values in arrays().items():
        put(folder / BUFFER / "data" / name, np.delete(values, 8, axis=0))
    ends(ENDS[0], ENDS[1] - 1, ENDS[2] - 1)(folder, rng)
    return ("*#episode_000001",)


def lacking_row(folder: Path, rng: random.Random) -> tuple[str, ...]:
    """The last row of one array is not there."""
    put(folder / BUFFER / "data/action", arrays()["action"][:-1])
    return ("*#episode_000002",)


def zlib_checksum(folder: Path, rng: random.Random) -> tuple[str, ...]:
    """A checksum behind a chunk of zlib."""
    put(folder / BUFFER / "data/state", arrays()["state"], ZLIB)
    number = rng.randrange(-(-ENDS[-1] // ROWS))
    path = folder / BUFFER / f"data/state/{number}.0"
    flip(path, rng, [(path.stat().st_size - 4, path.stat().st_size)])
    return episodes_of(number * ROWS, (number + 1) * ROWS)


def other_codec(folder: Path, rng: random.Random) -> tuple[str, ...]:
    """As sound as before."""
    put(folder / BUFFER / "data/state", arrays()["state"], ZLIB)
    return ()


def zlib_payload(folder: Path, rng: random.Random) -> tuple[str, ...]:
    put(folder / BUFFER / "data/state", arrays()["state"], ZLIB)
    number = rng.randrange(-(-ENDS[-1] // ROWS))
    flip(folder / BUFFER / f"data/state/{number}.0", rng)
    return episodes_of(number * ROWS, (number + 1) * ROWS)


def bomb(folder: Path, rng: random.Random) -> tuple[str, ...]:
    put(folder / BUFFER / "data/state", arrays()["state"], ZLIB)
    (folder / BUFFER / "data/state/2.0").write_bytes(zlib.compress(bytes(1 << 28)))
    return episodes_of(2 * ROWS, 3 * ROWS)


def consolidated(place: Path, rng: random.Random) -> None:
    own = json.loads((place / "data/state/.zarray").read_text())
    told = {"data/state/.zarray": own | {"shape": [99, 5]}}
    (place / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": told}))


def copy_buffer(folder: Path, rng: random.Random) -> str:
    shutil.copytree(folder / BUFFER, folder / "copy.zarr")
    return "copy.zarr/*"


CASES = (
    Case(Damage.TRUNCATION, "a chunk is cut off", of_chunk(cut), Q, 4),
    Case(
        Damage.TRUNCATION,
        "a .zarray is cut off",
        of_buffer(lambda place, rng: cut(place / "data/state/.zarray", rng)),
        REFUSED,
        2,
    ),
    Case(
        Damage.HEADER_FLIPS,
        "a bit of a .zarray",
        of_buffer(flip_description),
        REFUSED | E | T | Q | FOUND | FLAGGED | UNSEEN,
        8,
        ANY_DESCRIPTION,
    ),
    Case(
        Damage.HEADER_FLIPS,
        "a bit of a chunk's header",
        of_chunk(lambda path, rng: flip(path, rng, [(0, 16)])),
        Q | E | T | FOUND | FLAGGED | UNSEEN,
        6,
        "headers of Blosc have no checksum",
    ),
    Case(
        Damage.PAYLOAD_FLIPS,
        "a bit of a chunk of Blosc",
        of_chunk(lambda path, rng: flip(path, rng, [(16, path.stat().st_size)])),
        Q | E | T | FOUND | FLAGGED | UNSEEN,
        6,
        "Blosc has no checksum",
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a chunk of zlib", zlib_payload, Q, 3),
    Case(
        Damage.DTYPE,
        "a state of Python objects",
        described("state", dtype="|O", filters=[{"id": "pickle"}]),
        REFUSED,
    ),
    Case(Damage.DTYPE, "a state of structures", described("state", dtype=[["a", "<f4"]]), REFUSED),
    Case(Damage.DTYPE, "a state of texts", of_array("state", lambda v: v.astype("S4")), REFUSED),
    Case(Damage.DTYPE, "a state of half the width", described("state", dtype="<f2"), REFUSED),
    Case(Damage.DTYPE, "pictures as truths", of_array("img", lambda v: v > 128), T),
    Case(Damage.SHAPE, "a state of negative length", described("state", shape=[17, -5]), REFUSED),
    Case(
        Damage.SHAPE,
        "a state of another width than its chunks",
        described("state", shape=[17, 4]),
        T,
    ),
    Case(Damage.SHAPE, "pictures of two channels", of_array("img", lambda v: v[..., :2]), T),
    Case(
        Damage.NOT_FINITE,
        "a row of the state is NaN",
        of_array("state", with_value(slice(6, 7), np.nan), ("*#episode_000001",)),
        FLAGGED,
    ),
    Case(
        Damage.NOT_FINITE,
        "a row of actions is inf",
        of_array("action", with_value(slice(6, 7), np.inf), ("*#episode_000001",)),
        FLAGGED,
    ),
    Case(
        Damage.NOT_FINITE,
        "the states of an episode are NaN",
        of_array("state", with_value(slice(0, 5), np.nan), ("*#episode_000000",)),
        Q,
    ),
    Case(
        Damage.CAMERA,
        "pictures are not there",
        without_array("img"),
        T,
    ),
    Case(
        Damage.CAMERA, "a chunk of pictures is not there", of_chunk(lambda path, rng: path.unlink(), "img"), Q
    ),
    Case(Damage.STEP, "an array lacks a row", lacking_row, Q),
    Case(
        Damage.STEP,
        "all arrays lack a row, and the ends are corrected",
        without_row,
        UNSEEN,
        why="the buffer has no clock and numbers no rows",
    ),
    Case(
        Damage.STEP, "a chunk of numbers is not there", of_chunk(lambda path, rng: path.unlink(), "action"), Q
    ),
    Case(Damage.EMPTY, "a chunk of 0 bytes", of_chunk(lambda path, rng: path.write_bytes(b"")), Q),
    Case(Damage.EMPTY, "no episodes", ends(), REFUSED),
    Case(Damage.EMPTY, "arrays without rows", of_array("action", lambda v: v[:0]), REFUSED),
    Case(
        Damage.EMPTY,
        "a .zarray of 0 bytes",
        of_buffer(lambda place, rng: (place / "data/img/.zarray").write_bytes(b"")),
        REFUSED,
    ),
    Case(
        Damage.DUPLICATES,
        "an end twice",
        ends(5, 5, 17),
        Q | UNSEEN,
        why="the rows of an episode without an end of its own seem to be of the next one",
    ),
    Case(Damage.DUPLICATES, "an end before the one before", ends(5, 3, 17), Q),
    Case(Damage.DUPLICATES, "a buffer copied", copy_buffer, T),
    Case(Damage.ABSURD, "an end of 2^40", ends(5, 13, 1 << 40, touched=("*#episode_000002",)), Q),
    Case(Damage.ABSURD, "chunks of 2^40 rows", described("state", chunks=[1 << 40, 5]), REFUSED),
    Case(Damage.ABSURD, "a state of 2^40 columns", described("state", shape=[17, 1 << 40]), REFUSED),
    Case(Damage.ABSURD, "a chunk that unpacks to 256 MiB", bomb, Q),
    Case(Damage.CHECKSUM, "the checksum of a chunk of zlib", zlib_checksum, Q, 2),
    Case(Damage.MIXED, "metadata that contradict an array", of_buffer(consolidated), T),
    Case(Damage.MIXED, "ends as fractions", ends(5.0, 13.0, 17.0), REFUSED),
    Case(
        Damage.MIXED,
        "one array compressed by another codec",
        other_codec,
        E,
    ),
    Case(
        Damage.MIXED,
        "an array of other data between the chunks",
        of_chunk(
            lambda path, rng: rewrite(path, lambda data: b"version https://git-lfs.github.com/spec/v1\n")
        ),
        Q,
    ),
)

FORM = Form("zarr", write, CASES, "diffusion_policy", (FPS,))
