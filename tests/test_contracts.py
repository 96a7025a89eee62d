"""The contracts of import-linter know every kind of data and every task, so that none is left out of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from robot_foundry.catalog.kind import ROOMS

ROOT = Path(__file__).parent.parent
# The rooms whose packages of kinds neutral code could reach: its own, and those below that hold any.
REACHED = {"catalog": ("catalog",), "ingest": ("catalog", "ingest"), "loader": ("catalog", "loader")}
NEUTRAL = {
    "catalog": "The catalogue of any kind imports nothing of one",
    "ingest": "Ingest of any kind imports nothing of one",
    "loader": "The loader of any kind imports nothing of one",
}


def contract(name: str) -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (only,) = (contract for contract in contracts if contract["name"] == name)
    return only


def test_every_task_is_forbidden_outside_of_its_folder() -> None:
    tasks = {
        f"robot_foundry.trainer.tasks.{folder.parent.name}"
        for folder in (ROOT / "trainer" / "tasks").glob("*/__init__.py")
    }
    rule = contract("No task is known outside of its folder")
    assert set(rule["forbidden_modules"]) == tasks != set()
    # The folders themselves: import-linter passes over a source that has what is forbidden in it.
    assert rule["source_modules"] == ["robot_foundry.trainer.*", "robot_foundry.trainer.tasks.*"]
    # A task may import itself; a later stage starts from what an earlier one learnt, so it may know that too.
    of_itself = {f"{task}.** -> {task}.**" for task in tasks}
    stages = ("llm", "vlm"), ("vlm", "vla")
    of_stages = {
        f"robot_foundry.trainer.tasks.{later}.** -> robot_foundry.trainer.tasks.{earlier}.**"
        for earlier, later in stages
    }
    assert set(rule["ignore_imports"]) == of_itself | of_stages


def test_every_room_of_kinds_has_a_contract_on_its_neutral_code() -> None:
    assert {room for rooms in ROOMS.values() for room in rooms} == set(NEUTRAL)


@pytest.mark.parametrize("room", NEUTRAL)
def test_every_kind_is_forbidden_in_neutral_code(room: str) -> None:
    rule = contract(NEUTRAL[room])
    packages = {rooms[below] for rooms in ROOMS.values() for below in REACHED[room]}
    assert packages <= set(rule["forbidden_modules"])


@pytest.mark.parametrize("room", NEUTRAL)
def test_every_neutral_module_is_under_the_contract(room: str) -> None:
    """All of a room outside of the folders of kinds; a folder of both (layouts) with its neutral part."""
    sources = contract(NEUTRAL[room])["source_modules"]
    kinds = {rooms[room] for rooms in ROOMS.values()}
    modules = {f"robot_foundry.{room}.{path.stem}" for path in (ROOT / room).glob("*.py")}
    modules |= {f"robot_foundry.{room}.{path.parent.name}" for path in (ROOT / room).glob("*/__init__.py")}
    neutral = modules - {f"robot_foundry.{room}.__init__"} - kinds
    assert [name for name in neutral if not any(f"{item}.".startswith(f"{name}.") for item in sources)] == []
