"""Rows and reports of a rollout that are damaged are made again, and never told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.rollout import RolloutSpec, decided_by
from robot_foundry.evaluation.rollouts.keeping import Keeper
from robot_foundry.evaluation.rollouts.kept_rows import ROWS, kept_rows
from robot_foundry.evaluation.rollouts.report import REPORT
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryWarning, UsageError
from robot_foundry.runtime.parallel import Workers

SPEC = RolloutSpec(ActorSpec(None), "reach_single", episodes=2, max_steps=3, size=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The rows and the report of a rollout."""
    folder = tmp_path_factory.mktemp("made")
    Keeper(None, folder, Workers(0)).run(SPEC)
    return {name: (folder / name).read_bytes() for name in (ROWS, REPORT)}


def found(folder: Path, made: dict[str, bytes]) -> tuple[dict[str, Any], int]:
    """What the same command finds in a folder of these files, but how long it took."""
    for name, data in made.items():
        (folder / name).write_bytes(data)
    result = Keeper(None, folder, Workers(0)).run(SPEC)
    return result.report | {"seconds": None}, result.kept


@pytest.mark.parametrize(
    "change",
    [
        {"successes": 99},
        {"rate": "x"},
        {"interval_95": None},
        {"condition": 3},
        {"seconds": "x"},
        {"files": 0},
        {"files": ["none.png"]},
    ],
)
def test_a_report_that_says_other_than_its_rows_is_written_anew(
    change: dict[str, Any], made: dict[str, bytes], tmp_path: Path
) -> None:
    whole = json.loads(made[REPORT])
    report, kept = found(tmp_path, made | {REPORT: json.dumps(whole | change).encode()})
    assert report == whole | {"seconds": None} and kept == 2


def test_a_report_that_is_no_json_is_written_anew(made: dict[str, bytes], tmp_path: Path) -> None:
    report, kept = found(tmp_path, made | {REPORT: b"[" * 100_000})
    assert report == json.loads(made[REPORT]) | {"seconds": None} and kept == 2


@pytest.mark.parametrize(
    "change",
    [
        {"index": [1]},
        {"index": "0"},
        {"steps": "many"},
        {"outcome": "banana"},
        {"outcome": "success"},
        {"seed": 5},
        {"return": "x"},
        {"executed": None},
    ],
)
def test_a_row_that_is_not_what_was_written_is_no_row(
    change: dict[str, Any], made: dict[str, bytes], tmp_path: Path
) -> None:
    header, first, second = made[ROWS].splitlines(keepends=True)
    rows = [header, first, canonical_json(json.loads(second) | change) + b"\n"]
    (tmp_path / ROWS).write_bytes(b"".join(rows))
    assert list(kept_rows(tmp_path, decided_by(SPEC))) == [0]


def test_damaged_rows_are_run_again(made: dict[str, bytes], tmp_path: Path) -> None:
    header, _, second = made[ROWS].splitlines(keepends=True)
    report, kept = found(tmp_path, {ROWS: header + b"[" * 100_000 + b"\n" + second})
    assert report == json.loads(made[REPORT]) | {"seconds": None} and kept == 0
    with pytest.warns(FoundryWarning, match="their header is torn"):
        assert found(tmp_path, {ROWS: b"[" * 100_000 + b"\n" + second})[1] == 0


def test_rows_of_versions_without_digests_are_rows(made: dict[str, bytes], tmp_path: Path) -> None:
    def bare(line: bytes) -> bytes:
        row = json.loads(line)
        return canonical_json({name: row[name] for name in row if name != "digest"}) + b"\n"

    header, *rows = made[ROWS].splitlines(keepends=True)
    (tmp_path / ROWS).write_bytes(header + b"".join(map(bare, rows)))
    assert list(kept_rows(tmp_path, decided_by(SPEC))) == [0, 1]


def of_pusht() -> None:
    get_world("pusht").describe("push", "sim")


def of_gymnasium() -> None:
    gymnasium_worlds = pytest.importorskip("foundry_testing.gymnasium_worlds")
    gymnasium_worlds.HILL.describe("clim", "sim")


@pytest.mark.parametrize("ask", [of_pusht, of_gymnasium])
def test_a_task_that_a_world_has_not_is_a_wrong_use(ask: Callable[[], None]) -> None:
    with pytest.raises(UsageError, match="has no task"):
        ask()
