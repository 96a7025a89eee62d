"""Pictures of scenes and what is said of them: true of what was drawn, equal bytes, held-out combinations."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.appearing import appearing
from robot_foundry.evaluation.scenes import HELD_OUT, TRAIN, ScenesRequest, collect_scenes
from robot_foundry.evaluation.worlds.tabletop.objects import Solid
from robot_foundry.evaluation.worlds.tabletop.scenes import NEVER_TRAINED, TabletopScenes, bins
from robot_foundry.runtime.errors import FoundryError


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]


def pairs(folder: Path) -> list[dict]:
    return [
        json.loads(data)
        for tar in sorted(folder.glob("*.tar"))
        for name, data in members(tar).items()
        if name.endswith(".json")
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def items_of(caption: str) -> list[tuple[str, str]]:
    """(colour, shape) of all that a caption names."""
    listed = caption.removesuffix(" on a table").replace(" and ", ", ").split(", ")
    return [(words.split()[1], words.split()[2]) for words in listed]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "out"
    collect_scenes(ScenesRequest(250, 120, seed=5), out, quiet=True)
    return out


def test_tars_are_those_of_img2dataset(collected: Path) -> None:
    found = members(collected / "train" / "00000.tar")
    assert list(found)[:4] == ["000000000.jpg", "000000000.json", "000000001.jpg", "000000001.json"]
    assert len(found) == 500
    assert Image.open(io.BytesIO(found["000000249.jpg"])).size == (64, 64)
    for pair in pairs(collected / "train"):
        sides = [turn["from"] for turn in pair["conversations"]]
        assert sides == ["human", "gpt"] * len(pair["kinds"])
        assert pair["kinds"] == ["list"] or ("list" not in pair["kinds"] and len(sides) == 2 * pair["items"])
        assert pair["split"] == TRAIN and pair["items"] == len(items_of(pair["caption"]))


def test_the_text_is_that_of_the_pictures_to_train_on(collected: Path) -> None:
    lines = [json.loads(line)["text"] for line in (collected / "text.jsonl").read_text("utf-8").splitlines()]
    trained = pairs(collected / "train")
    assert len(lines) == len(trained) == 250
    for text, pair in zip(lines, trained, strict=True):
        assert text.split("\n") == [pair["caption"], *(turn["value"] for turn in pair["conversations"])]


def test_held_out_tables_alone_have_the_combinations_of_theirs(collected: Path) -> None:
    trained = Counter(item for pair in pairs(collected / "train") for item in items_of(pair["caption"]))
    assert not trained.keys() & set(NEVER_TRAINED) and len(trained) == 6 * 4 - len(NEVER_TRAINED)
    held_out = pairs(collected / "held_out")
    for pair in held_out:
        (combination,) = set(items_of(pair["caption"])) & set(NEVER_TRAINED)
        question, answer = (turn["value"] for turn in pair["conversations"])
        asked_of = answer if pair["kinds"] == ["colour"] else question
        assert combination[0] in asked_of or pair["kinds"] == ["count"]
    assert {kind for pair in held_out for kind in pair["kinds"]} == {
        "position",
        "colour",
        "side",
        "depth",
        "count",
    }


def answers(folder: Path) -> dict[int, dict[str, str]]:
    """Of each scene its questions with their answers."""
    found: dict[int, dict[str, str]] = {}
    for pair in pairs(folder):
        turns = [turn["value"] for turn in pair["conversations"]]
        found.setdefault(pair["scene"], {}).update(zip(turns[::2], turns[1::2], strict=True))
    return found


def listed(scene: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Where each colour is by the list of a scene, if it was asked for one."""
    entries = [
        entry.split()
        for question, answer in scene.items()
        if question in ("Where is each colour?", "What colour is at each place?")
        for entry in answer.split(", ")
    ]
    by_colour = [[*entry[-1:], *entry[:-1]] if entry[0].isdigit() else entry for entry in entries]
    return {colour: (int(column), int(row)) for colour, column, row in by_colour}


@pytest.mark.parametrize("split", [TRAIN, HELD_OUT])
def test_answers_agree_with_each_other(collected: Path, split: str) -> None:
    """What is said of one thing in several ways must be the same: place, colour, grid and relations."""
    compared = Counter()
    grids = {pair["scene"]: pair["grid_caption"].split() for pair in pairs(collected / split)}
    for number, scene in answers(collected / split).items():
        places = {
            question.removeprefix("Where is the ").rstrip("?"): tuple(map(int, answer.split()))
            for question, answer in scene.items()
            if question.startswith("Where is the")
        }
        at = {
            answer: tuple(map(int, question.rstrip("?").split()[-2:]))
            for question, answer in scene.items()
            if question.startswith("What colour is the")
        } | listed(scene)
        compared["list"] += bool(listed(scene))
        assert len(grids[number]) == 25 and all(0 <= part < 14 for place in places.values() for part in place)
        said = {name.split()[0]: place for name, place in places.items()}
        assert all(said.get(colour, place) == place for colour, place in at.items())
        said |= at
        for colour, (column, row) in said.items():
            assert grids[number][row * 5 // 14 * 5 + column * 5 // 14] != "none"
            compared["grid"] += grids[number][row * 5 // 14 * 5 + column * 5 // 14] == colour
        cells = {colour: divmod(cell, 5) for cell, colour in enumerate(grids[number])}
        for question, answer in scene.items():
            for middle, axis in ((" left or right of the ", 1), (" in front of or behind the ", 0)):
                if middle in question:
                    a, b = question.removeprefix("Is the ").rstrip("?").split(middle)
                    a, b = a.split()[0], b.split()[0]
                    if a in cells and b in cells and cells[a][axis] != cells[b][axis]:
                        less = cells[a][axis] < cells[b][axis]
                        assert answer == (("behind", "front"), ("left", "right"))[axis][not less]
                        compared["relation"] += 1
    assert compared["grid"] > 20 and compared["relation"] > 50
    assert compared["list"] > 80 or split == HELD_OUT


def test_lists_name_all_items_in_any_order(collected: Path) -> None:
    """With the place right behind the colour or the other way, so that no order is to be learnt."""
    orders = Counter()
    for pair in pairs(collected / "train"):
        if pair["kinds"] == ["list"]:
            question, answer = (turn["value"] for turn in pair["conversations"])
            places = listed({question: answer})
            named = {colour for colour, _ in items_of(pair["caption"])}
            assert named == places.keys() and len(answer.split(", ")) == pair["items"]
            orders[question, list(places.values()) == sorted(places.values())] += pair["items"] > 2
    assert all(orders[question, False] > orders[question, True] for question, _ in orders) and len(orders) > 2


def test_a_bin_is_where_the_picture_shows_the_item() -> None:
    """Columns go to the right of the picture and rows towards its lower edge."""
    scenes = TabletopScenes("sim", 64)
    centres: dict[str, list[tuple[float, float]]] = {"column": [], "row": []}
    for index in range(200):
        described = scenes.describe(TRAIN, 9, index)
        if described.facts["items"] != 1:
            continue
        (asked,) = described.questions
        if asked.kind not in ("position", "colour"):
            continue
        text = asked.text if asked.kind == "colour" else asked.answer
        column, row = (int(word) for word in text.rstrip("?").split()[-2:])
        # The item is the only thing with colour on a grey table.
        spread_HW = np.ptp(described.picture_HWC.astype(int), axis=2)
        y, x = np.argwhere(spread_HW > 60).mean(axis=0)
        centres["column"].append((column, x))
        centres["row"].append((row, y))
    for found in centres.values():
        assert len(found) > 20
        assert np.corrcoef(np.array(found).T)[0, 1] > 0.97
    assert bins(Solid("cube", "red", 0.03, x=-0.21, y=0.209, yaw=0.0)) == (13, 0)


def test_the_same_bytes_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_workers: int
) -> None:
    monkeypatch.setattr("robot_foundry.evaluation.scenes.PICTURES_PER_TAR", 8)
    collect_scenes(ScenesRequest(20, 8, seed=5), tmp_path / "once", quiet=True)
    collect_scenes(ScenesRequest(20, 8, seed=5), tmp_path / "again", workers=2, quiet=True)
    assert tree(tmp_path / "again") == tree(tmp_path / "once")
    assert len(list((tmp_path / "again").glob("*/*.tar"))) == 3 + 1
    collect_scenes(ScenesRequest(3, 0, seed=6), tmp_path / "other", quiet=True)
    first, other = (members(tmp_path / name / "train" / "00000.tar") for name in ("once", "other"))
    assert first["000000000.jpg"] != other["000000000.jpg"]
    # What is asked for first does not depend on how much is asked for.
    collect_scenes(ScenesRequest(3, 0, seed=5), tmp_path / "few", quiet=True)
    few = members(tmp_path / "few" / "train" / "00000.tar")
    assert few.items() <= first.items() and len(few) == 6


def test_many_pictures_go_into_several_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_foundry.evaluation.scenes.PICTURES_PER_TAR", 4)
    made = collect_scenes(ScenesRequest(9, 5, seed=0, size=16), tmp_path / "out", quiet=True)
    assert made.pictures == {TRAIN: 9, HELD_OUT: 5}
    tars = sorted(path.name for path in (tmp_path / "out" / "train").iterdir())
    assert tars == ["00000.tar", "00001.tar", "00002.tar"]
    names = [name for tar in tars for name in members(tmp_path / "out" / "train" / tar)]
    assert all(a < b for a, b in pairwise(names)) and names[-1] == "000020000.json"
    assert [pair["scene"] for pair in pairs(tmp_path / "out" / "train")] == list(range(9))


def test_the_command_says_what_it_wrote_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "collect",
        "scenes",
        "--pictures",
        "4",
        "--held-out",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    assert run(group, "foundry-eval", [*line, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    with appearing(tmp_path / "out", lambda: None, is_folder=True):
        assert run(group, "foundry-eval", line) == 1
        assert f"another command writes {tmp_path / 'out'} at this moment" in capsys.readouterr().err
    (tmp_path / "out").rmdir()
    assert run(group, "foundry-eval", line) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["pictures"] == {"train": 4, "held_out": 2}
    assert said["pairs"]["held_out"] == sum(said["kinds"]["held_out"].values())
    assert said["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").glob("*/*.tar"))
    before = tree(tmp_path / "out")
    for way in (["--dry-run"], []):
        assert run(group, "foundry-eval", [*line, *way]) == 2
        assert "is there already" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before and list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_an_unknown_world_or_look_is_named(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="tabeltop.*did you mean"):
        collect_scenes(ScenesRequest(1, 0, 0, world="tabeltop"), tmp_path / "out")
    with pytest.raises(FoundryError, match="no variant 'rael'"):
        collect_scenes(ScenesRequest(1, 0, 0, variant="rael"), tmp_path / "out")
    assert not list(tmp_path.iterdir())
