"""Damage to robomimic's HDF5: two files of two demonstrations.

Legend: N frames.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from make_robomimic import make

from foundry_testing.corruption.bytes_damaged import around, cut, flip
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil

FILE, FRAMES, CAMERA = "b.hdf5", 6, "obs/agentview_image"
Q, E, T, FLAGGED, FOUND, UNSEEN = (
    Outcome.QUARANTINED,
    Outcome.EQUAL,
    Outcome.TOLD,
    Outcome.FLAGGED,
    Outcome.FOUND,
    Outcome.UNSEEN,
)


def write(folder: Path) -> None:
    for seed, name in enumerate(("a.hdf5", FILE)):
        make(folder / name, seed=seed, episodes=2, frames=FRAMES, size=16)


def of_file(damage: Callable[[Path, random.Random], object]) -> Spoil:
    """Damage to the second file, which may cost all of it."""

    def spoil(folder: Path, rng: random.Random) -> str:
        damage(folder / FILE, rng)
        return f"{FILE}#*"

    return spoil


def of_demo(change: Callable[[h5py.Group, random.Random], object]) -> Spoil:
    """A change of the second demonstration of the second file."""

    def spoil(folder: Path, rng: random.Random) -> str:
        with h5py.File(folder / FILE, "r+") as file:
            change(file["data/demo_1"], rng)
        return f"{FILE}#demo_1"

    return spoil


def of_array(name: str, change: Callable[[Any], Any]) -> Spoil:
    """Another array in place of one of the demonstration."""

    def put(demo: h5py.Group, rng: random.Random) -> None:
        replace(demo, name, change(demo[name][()]))

    return of_demo(put)


def replace(demo: h5py.Group, name: str, values: Any, **options: Any) -> None:
    del demo[name]
    demo.create_dataset(name, data=values, **options)


def spans_of(path: Path, name: str = "") -> list[tuple[int, int]]:
    """Where the numbers lie of arrays whose names end so."""
    spans: list[tuple[int, int]] = []

    def add(found: str, array: Any) -> None:
        if not isinstance(array, h5py.Dataset) or not found.endswith(name):
            return
        if array.chunks is None:
            start = array.id.get_offset()
            spans.append((start, start + array.id.get_storage_size()))
            return
        for number in range(array.id.get_num_chunks()):
            chunk = array.id.get_chunk_info(number)
            spans.append((chunk.byte_offset, chunk.byte_offset + chunk.size))

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return spans


def flip_around_arrays(path: Path, rng: random.Random) -> None:
    flip(path, rng, around(spans_of(path), path.stat().st_size))


def flip_in(name: str) -> Callable[[Path, random.Random], object]:
    return lambda path, rng: flip(path, rng, spans_of(path, name))


def with_nan(rows: slice, value: float = np.nan) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[rows] = value
        return values

    return change


def without_a_step(*, stated: bool) -> Callable[[h5py.Group, random.Random], None]:
    """One row less of every array; `stated` corrects what the file says of its length."""

    def change(demo: h5py.Group, rng: random.Random) -> None:
        row = rng.randrange(1, FRAMES - 1)
        names: list[str] = []
        demo.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            replace(demo, name, np.delete(demo[name][()], row, axis=0))
        if stated:
            demo.attrs["num_samples"] = FRAMES - 1

    return change


def claimed(name: str, rows: int, *more: int) -> Callable[[h5py.Group, random.Random], None]:
    """An array of that many rows of which none is written."""

    def change(demo: h5py.Group, rng: random.Random) -> None:
        shape = (rows, *(more or demo[name].shape[1:]))
        kind = demo[name].dtype
        del demo[name]
        demo.create_dataset(name, shape, kind, chunks=(1, *shape[1:]))

    return change


def checked(demo: h5py.Group, rng: random.Random) -> None:
    replace(demo, "actions", demo["actions"][()], chunks=(FRAMES, 7), fletcher32=True)


def flip_checked(folder: Path, rng: random.Random) -> str:
    touched = of_demo(checked)(folder, rng)
    flip(folder / FILE, rng, spans_of(folder / FILE, "demo_1/actions"))
    assert isinstance(touched, str)
    return touched


def flip_adler(folder: Path, rng: random.Random) -> str:
    start, end = rng.choice(spans_of(folder / FILE, f"demo_1/{CAMERA}"))
    flip(folder / FILE, rng, [(end - 4, end)])
    return f"{FILE}#demo_1"


def linked(demo: h5py.Group, rng: random.Random) -> None:
    demo.parent["demo_2"] = demo


def copied(demo: h5py.Group, rng: random.Random) -> None:
    demo.file.copy(demo, demo.parent, "demo_2")


def copy_file(folder: Path, rng: random.Random) -> str:
    shutil.copy(folder / FILE, folder / "c.hdf5")
    return "c.hdf5#*"


def other(**options: Any) -> Spoil:
    """Another recording in place of the second file."""

    def damage(path: Path, rng: random.Random) -> None:
        path.unlink()
        make(path, **{"seed": 1, "episodes": 2, "frames": FRAMES, "size": 16, **options})

    return of_file(damage)


def all_of(spoil: Spoil) -> Spoil:
    """Damage that costs all episodes an optional quantity, as a version has one schema."""
    return lambda folder, rng: (spoil(folder, rng), "*")[1]


def without(name: str) -> Spoil:
    return of_demo(lambda demo, rng: demo.__delitem__(name))


def emptied(path: Path, rng: random.Random) -> None:
    with h5py.File(path, "w"):
        pass


def emptied_demo(demo: h5py.Group, rng: random.Random) -> None:
    for name in list(demo):
        del demo[name]


def rate_of(value: float) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, rng: random.Random) -> None:
        with h5py.File(path, "r+") as file:
            attrs = file["data"].attrs
            attrs["env_args"] = attrs["env_args"].replace('"control_freq": 20', f'"control_freq": {value}')

    return damage


CASES = (
    Case(Damage.TRUNCATION, "a file is cut off", of_file(cut), Q, 3),
    Case(
        Damage.HEADER_FLIPS,
        "a bit outside of the arrays",
        of_file(flip_around_arrays),
        Q | E | T | FLAGGED | FOUND | UNSEEN,
        12,
        "headers of HDF5's first format have no checksum",
    ),
    Case(
        Damage.PAYLOAD_FLIPS,
        "a bit of plain numbers",
        of_file(flip_in("actions")),
        E | T | FLAGGED | FOUND | UNSEEN,
        4,
        "plain arrays have no checksum",
    ),
    Case(Damage.PAYLOAD_FLIPS, "a bit of a compressed image", of_file(flip_in(CAMERA)), Q, 3),
    Case(Damage.DTYPE, "actions are texts", of_array("actions", lambda v: v.astype("S8")), Q),
    Case(Damage.DTYPE, "actions are complex numbers", of_array("actions", lambda v: v.astype("c16")), Q),
    Case(Damage.DTYPE, "a pose is of texts", of_array("obs/robot0_eef_pos", lambda v: v.astype("S8")), Q),
    Case(Damage.DTYPE, "an image is of texts", of_array(CAMERA, lambda v: v.astype("S3")), T),
    Case(Damage.SHAPE, "actions have three columns", of_array("actions", lambda v: v[:, :3]), Q),
    Case(Damage.SHAPE, "actions have no columns", of_array("actions", lambda v: v[:, 0]), Q),
    Case(
        Damage.SHAPE, "a quaternion has three columns", of_array("obs/robot0_eef_quat", lambda v: v[:, :3]), Q
    ),
    Case(Damage.SHAPE, "an image has one line", of_array(CAMERA, lambda v: v[:, 0]), T),
    Case(
        Damage.NOT_FINITE,
        "a row of actions is NaN",
        of_array("actions", with_nan(slice(2, 3))),
        FLAGGED,
    ),
    Case(
        Damage.NOT_FINITE,
        "a row of a pose is inf",
        of_array("obs/robot0_eef_pos", with_nan(slice(2, 3), np.inf)),
        FLAGGED,
    ),
    Case(Damage.NOT_FINITE, "all of a pose is NaN", of_array("obs/robot0_eef_pos", with_nan(slice(None))), Q),
    Case(Damage.CAMERA, "an episode lacks a camera", without(CAMERA), T),
    Case(Damage.STEP, "a pose lacks a row", of_array("obs/robot0_eef_pos", lambda v: v[:-1]), Q),
    Case(Damage.STEP, "all arrays lack a row", of_demo(without_a_step(stated=False)), Q, 2),
    Case(
        Damage.STEP,
        "all arrays lack a row, and the length is corrected",
        of_demo(without_a_step(stated=True)),
        UNSEEN | FOUND,
        2,
        "robomimic has no clock and numbers no steps",
    ),
    Case(Damage.EMPTY, "a file of 0 bytes", of_file(lambda path, rng: path.write_bytes(b"")), Q),
    Case(Damage.EMPTY, "a file without groups", of_file(emptied), Q),
    Case(Damage.EMPTY, "a demonstration without arrays", of_demo(emptied_demo), Q),
    Case(Damage.EMPTY, "actions without rows", of_array("actions", lambda v: v[:0]), Q),
    Case(Damage.DUPLICATES, "a demonstration by two names", of_demo(linked), Q),
    Case(
        Damage.DUPLICATES,
        "a demonstration copied in its file",
        lambda folder, rng: (of_demo(copied)(folder, rng), f"{FILE}#demo_2")[1],
        UNSEEN,
        why="of what is copied, whole files alone are compared",
    ),
    Case(Damage.DUPLICATES, "a file copied", copy_file, T),
    Case(
        Damage.ABSURD,
        "a length of 10^15",
        of_demo(lambda demo, rng: demo.attrs.__setitem__("num_samples", 10**15)),
        Q,
    ),
    Case(Damage.ABSURD, "actions of 10^12 rows", of_demo(claimed("actions", 10**12)), Q),
    Case(Damage.ABSURD, "images of 10^5 x 10^5", of_demo(claimed(CAMERA, FRAMES, 10**5, 10**5, 3)), T),
    Case(Damage.ABSURD, "a pose of 10^9 columns", of_demo(claimed("obs/robot0_eef_pos", FRAMES, 10**8)), Q),
    Case(Damage.ABSURD, "a rate of 10^300 Hz", of_file(rate_of(1e300)), T),
    Case(Damage.CHECKSUM, "an array with a checksum", flip_checked, Q, 2),
    Case(Damage.CHECKSUM, "the checksum of a compressed image", flip_adler, Q, 2),
    Case(Damage.MIXED, "a file without grippers", all_of(other(gripper=False)), T),
    Case(Damage.MIXED, "an episode without an optional array", all_of(without("obs/robot0_gripper_qpos")), T),
    Case(
        Damage.MIXED,
        "a file of larger images",
        other(size=24),
        T,
    ),
    Case(Damage.MIXED, "a file of one camera", other(cameras=("agentview",)), T),
)

FORM = Form("HDF5", write, CASES, "robomimic")
