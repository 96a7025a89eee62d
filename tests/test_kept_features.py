"""Features by key: whole or absent, damaged ones told and made again, whoever else writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.runtime.storage.storage_local import LocalStorage
from robot_foundry.trainer.features.kept import ROWS, Features, KeptFeatures
from robot_foundry.trainer.features.threads import each_on_one_thread

SHAPE = (2, 3)
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_kept_features import keys, kept, made
with kept(Path(sys.argv[2])) as features:
    for start in range(int(sys.argv[3]), int(sys.argv[4]), 8):
        some = keys(start, start + 8)
        features.of(some, lambda rows: [made(some[row]) for row in rows])
"""


def keys(start: int, end: int) -> list[bytes]:
    return [number.to_bytes(16) for number in range(start, end)]


def made(key: bytes) -> Features:
    """The features of a key, which no writer makes otherwise."""
    return np.random.default_rng(int.from_bytes(key)).standard_normal(SHAPE, dtype=np.float32)


def kept(folder: Path) -> KeptFeatures:
    return KeptFeatures(LocalStorage(folder), "features/one", SHAPE)


def read(folder: Path, some: Sequence[bytes]) -> tuple[list[int], Features]:
    """Which of the keys must be made, and what all of them give."""
    asked: list[int] = []

    def make(rows: Sequence[int]) -> list[Features]:
        asked.extend(rows)
        return [made(some[row]) for row in rows]

    with kept(folder) as features:
        return asked, features.of(some, make)


def writer(folder: Path, start: int, end: int, kill: str = "none") -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder), str(start), str(end)]
    return subprocess.Popen(arguments, env={**os.environ, "FOUNDRY_KILL_AT": kill})


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "features" / "one").glob("*.bin"))


def test_what_was_made_is_found_to_the_bit_in_any_order(tmp_path: Path) -> None:
    some = keys(0, 5)
    asked, first = read(tmp_path, [*some, some[2]])
    assert asked == [0, 1, 2, 3, 4]
    asked, again = read(tmp_path, some[::-1])
    assert asked == [] and again.tobytes() == first[4::-1].tobytes()
    assert again[0].tobytes() == made(some[4]).tobytes()


def test_a_killed_writer_leaves_whole_rows_or_none(tmp_path: Path) -> None:
    killed = writer(tmp_path, 0, 3 * ROWS, "storage-before-replace:2")
    assert killed.wait() == -signal.SIGKILL
    assert len(segments(tmp_path)) == 1
    assert list((tmp_path / "features" / "one").glob(".tmp-*"))  # the second, which nobody reads
    some = keys(0, 3 * ROWS)
    asked, values = read(tmp_path, some)
    assert asked == list(range(ROWS, 3 * ROWS))
    assert values.tobytes() == np.stack([made(key) for key in some]).tobytes()


@pytest.mark.parametrize(
    ("at", "lost"), [(3, range(6)), (30, range(6)), (-5, [5])], ids=["head", "key", "values"]
)
def test_what_is_damaged_is_told_and_made_again(tmp_path: Path, at: int, lost: Sequence[int]) -> None:
    some = keys(0, 6)
    _, before = read(tmp_path, some)
    (damaged,) = segments(tmp_path)
    data = bytearray(damaged.read_bytes())
    data[at] ^= 16
    damaged.write_bytes(data)
    with pytest.warns(FoundryWarning, match="the file is removed, and what is damaged is made again"):
        asked, after = read(tmp_path, some)
    assert asked == list(lost) and after.tobytes() == before.tobytes()
    assert read(tmp_path, some)[0] == []
    assert len(segments(tmp_path)) == 1


def test_a_cut_segment_is_told_and_made_again(tmp_path: Path) -> None:
    some = keys(0, 6)
    _, before = read(tmp_path, some)
    for length in (200, 10, 0):
        (segment,) = segments(tmp_path)
        segment.write_bytes(segment.read_bytes()[:length])
        with pytest.warns(FoundryWarning, match="the file is removed, and what is damaged is made again"):
            asked, after = read(tmp_path, some)
        assert asked == list(range(6)) and after.tobytes() == before.tobytes()


def test_writers_at_once_lose_nothing_and_find_what_others_made(tmp_path: Path) -> None:
    writers = [writer(tmp_path, start, start + 4 * ROWS) for start in (0, 2 * ROWS)]
    assert [one.wait() for one in writers] == [0, 0]
    some = keys(0, 6 * ROWS)
    asked, values = read(tmp_path, some)
    assert asked == [] and values.tobytes() == np.stack([made(key) for key in some]).tobytes()


def test_one_that_is_open_finds_what_another_wrote_since(tmp_path: Path) -> None:
    early = kept(tmp_path)
    read(tmp_path, keys(0, 4))
    values = early.of(keys(2, 4), lambda rows: pytest.fail("it is there"))
    assert values[1].tobytes() == made(keys(3, 4)[0]).tobytes()
    assert (early.found, early.made, early.rows, early.size) == (2, 0, 4, 4 * 24)


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    some = keys(0, 2 * ROWS)
    with pytest.warns(FoundryWarning, match="cannot be written") as told:
        _, values = read(tmp_path, some)
    assert len(told) == 1 and values.tobytes() == np.stack([made(key) for key in some]).tobytes()


def test_items_are_computed_on_one_thread_each_in_the_caller_s_precision() -> None:
    def work(item: int) -> tuple[int, int, bool, torch.dtype]:
        product = torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)
        return item, torch.get_num_threads(), product.requires_grad, product.dtype

    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with torch.autocast("cpu", torch.bfloat16):
                found = list(each_on_one_thread(work, range(7), torch.device("cpu")))
            assert found == [(item, 1, False, torch.bfloat16) for item in range(7)]
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
