"""A folder that an export fills: what is finished stays, the rest is made, and others' files are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.kills import killed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_foundry.export.outputs import LOCK, RECORD, open_output
from robot_foundry.runtime.errors import FoundryError, UsageError

FILES = ("data/a.bin", "data/b.bin", "meta/info.json")
REQUEST = {"version": "reach@v1", "options": {"codec": "av1"}}
PROGRAM = """
import sys
from pathlib import Path
from robot_foundry.export.outputs import open_output
with open_output(Path(sys.argv[1]), {"version": "reach@v1", "options": {"codec": "av1"}},
                 ["data/a.bin", "data/b.bin", "meta/info.json"]) as output:
    for path in ["data/a.bin", "data/b.bin", "meta/info.json"]:
        output.make(path, lambda place: {"length": place.write_bytes(path.encode() * 3)})
"""


def fill(folder: Path, files: Sequence[str] = FILES, request: Mapping[str, Any] = REQUEST) -> list[str]:
    """Make all files, and say which were made now."""
    made = []
    with open_output(folder, request, files) as output:
        for path in files:

            def write(place: Path, path: str = path) -> Mapping[str, Any]:
                made.append(path)
                return {"length": place.write_bytes(path.encode() * 3)}

            assert output.make(path, write).facts == {"length": 3 * len(path)}
    return made


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_second_run_makes_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    assert fill(tmp_path) == list(FILES)
    first = content(tmp_path)
    assert set(first) == {*FILES, RECORD}
    assert fill(tmp_path) == [] and content(tmp_path) == first


@pytest.mark.parametrize("at", ["export_partial", "export_renamed", "export_recorded"])
@pytest.mark.parametrize("hit", [1, 3])
def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path, at: str, hit: int) -> None:
    fill(tmp_path / "whole")
    killed(PROGRAM, tmp_path / "killed", at=f"{at}:{hit}")
    is_marked = (tmp_path / "killed" / FILES[-1]).exists()
    assert is_marked == (hit == 3 and at != "export_partial")
    made = fill(tmp_path / "killed")
    assert len(made) == len(FILES) - (hit - 1) - (at == "export_recorded")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.dictionaries(st.sampled_from((*FILES, RECORD)), st.sampled_from(("cut", "gone", "flip"))))
def test_whatever_is_damaged_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, damage: Mapping[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("export")
    fill(folder)
    whole = content(folder)
    for path, how in damage.items():
        place, data = folder / path, whole[path]
        if how == "gone":
            place.unlink()
        else:
            place.write_bytes(data[:-1] if how == "cut" else data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    if damage.get(RECORD) == "gone" and content(folder):
        with pytest.raises(UsageError, match="no export that could go on"):
            fill(folder)
        return
    made = fill(folder)
    assert content(folder) == whole
    assert {path for path in damage if path != RECORD} <= set(made)
    assert bool(made) == (FILES[-1] in made)  # the marker goes first and comes last


def test_the_record_tells_what_there_is(tmp_path: Path) -> None:
    fill(tmp_path)
    head, *entries = map(json.loads, (tmp_path / RECORD).read_text().splitlines())
    assert head["export"] == REQUEST
    assert [(entry["path"], entry["bytes"]) for entry in entries] == [(path, 3 * len(path)) for path in FILES]


def test_another_request_and_foreign_files_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    with pytest.raises(UsageError, match="holds another export: its version is not that of this one"):
        fill(tmp_path / "out", request={**REQUEST, "version": "reach@v2"})
    (tmp_path / "out/data/mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'data/mine.txt', which this export does not write"):
        fill(tmp_path / "out")
    assert (tmp_path / "out/data/mine.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files, and no export that could go on"):
        fill(tmp_path / "other")
    with pytest.raises(UsageError, match="is a file"):
        fill(tmp_path / "other/notes.txt")


@pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a\\b", ""])
def test_no_file_lies_outside(tmp_path: Path, path: str) -> None:
    with pytest.raises(FoundryError, match="no path in the folder"):
        fill(tmp_path / "out", [path, "meta/info.json"])
    assert not (tmp_path / "a").exists()


def test_the_marker_comes_last_and_one_process_writes(tmp_path: Path) -> None:
    with open_output(tmp_path, REQUEST, FILES) as output:
        with pytest.raises(FoundryError, match="'data/a.bin' is not written yet"):
            output.make(FILES[-1], lambda place: None)
        with pytest.raises(FoundryError, match="no file of the plan"):
            output.make("data/c.bin", lambda place: None)
        with (
            pytest.raises(FoundryError, match="another process is writing"),
            open_output(tmp_path, REQUEST, FILES),
        ):
            pass
    assert not (tmp_path / FILES[-1]).exists()
