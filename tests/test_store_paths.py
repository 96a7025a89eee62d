"""A store and a source may lie in folders of any name, also of characters that mean something elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_robomimic import make

import robot_foundry
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run

ROOT = Path(__file__).parent.parent
COMMANDS = [
    "ls",
    "show reach",
    "stats reach",
    "stats reach -r relative_tool",
    "validate reach --deep",
    "remap reach --set mapping.state.right.gripper_opening.open=0.1",
    "mix --weights reach=1",
]


@pytest.mark.parametrize("name", ["st{a,b}?", "s[t]*", "100%41 #1 '\"", "\\ größe;a=b&c:d"])
def test_every_command_works_wherever_the_store_and_the_source_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOUNDRY_STORE", f"./{name}")
    source = f"from {name}"
    (folder / source).mkdir()
    make(folder / source / "a.hdf5", seed=0, episodes=2, frames=12, size=16)

    def command(*arguments: str) -> dict:
        assert run(group, "foundry-data", [*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    for place in (source, f"{source}/a.hdf5", f"{source}/*.hdf5"):
        assert command("ingest", "robomimic", place, "--as", "reach")["written"] == 2
    for line in COMMANDS:
        command(*line.split())
    told = command("query", "SELECT (SELECT count(*) FROM versions) AS v, count(*) AS n FROM frames_reach")
    assert told["rows"] == [{"v": 2, "n": 24}]
    assert run(group, "foundry-data", ["index", str(folder / name / "shards")]) == 0
    with robot_foundry.load("reach", seed=0, global_batch=4, threads=0) as loader:
        assert next(loader).images
    assert {path.split("/")[0] for path in Store(folder / name).storage.list()} >= {"shards", "refs"}


def test_a_catalogue_that_can_lie_nowhere_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ca?he"))
    assert run(group, "foundry-data", ["ls", "--store", str(tmp_path / "st?re")]) == 1
    told = capsys.readouterr().err
    assert "holds '?'" in told and "Hint: set XDG_CACHE_HOME" in told
