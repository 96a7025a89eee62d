"""foundry-data stats --plot: what the picture says, in every format, from statistics alone."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
from make_robomimic import make

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest import ingest

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two datasets, of which one has no gripper."""
    folder = tmp_path_factory.mktemp("plot")
    for name, gripper in (("grips", True), ("wipes", False)):
        make(folder / f"{name}.hdf5", seed=len(name), episodes=3, frames=40, size=16, gripper=gripper)
        ingest("robomimic", folder / f"{name}.hdf5", store=folder / "store", name=name)
    return folder / "store"


def stats(store, *arguments):
    return run_command(group, "foundry-data", ["stats", *map(str, arguments), "--store", str(store)])


def texts(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_every_dim_of_a_mixture_is_drawn_with_its_mask_rule_and_clipped_share(store, tmp_path, capsys):
    picture = tmp_path / "mix.svg"
    assert stats(store, "grips=0.5,wipes=0.5", "-r", "relative_tool", "--plot", picture) == 0
    said = capsys.readouterr()
    assert "right.ee_position.x" in said.out and f"Drawn in {picture}" in said.err
    drawn = texts(picture)
    for dim in ("right.ee_position.x [m]", "right.ee_rot6d.5", "right.gripper_opening"):
        assert drawn.count(dim) == 2, "once in the state and once in the chunks"
    assert drawn.count("absent in wipes") == 2 and "absent in grips" not in drawn
    assert {"grips", "wipes", "state", "next_state", "identity", "range", "percentiles"} <= set(drawn)
    assert any(re.fullmatch(r"clipped \d+\.\d\d%", text) for text in drawn)


def test_absolute_values_are_drawn_from_the_leaves_without_any_row(store, tmp_path):
    rowless = shutil.copytree(store, tmp_path / "store")
    for folder in [rowless / "shards", *rowless.glob("datasets/*/*/frames")]:
        shutil.rmtree(folder)
    assert stats(rowless, "grips", "--plot", tmp_path / "one.svg") == 0
    assert {"state", "command", "next_state", "right.ee_position.z [m]"} <= set(texts(tmp_path / "one.svg"))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_the_suffix_decides_the_format_and_equal_statistics_give_equal_bytes(store, tmp_path, suffix, magic):
    pictures = [tmp_path / name / f"p{suffix}" for name in "ab"]
    for picture in pictures:
        assert stats(store, "grips", "--stream", "state", "--plot", picture) == 0
    assert pictures[0].read_bytes()[:5].startswith(magic)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_another_format_is_refused_before_any_work(store, tmp_path, capsys):
    assert stats(store, "nothing", "--plot", tmp_path / "p.jpg") == 2
    assert "does not end in .png, .svg, .pdf" in capsys.readouterr().err


def test_without_matplotlib_the_error_names_the_extra(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert stats(store, "grips", "--plot", tmp_path / "p.png") == 1
    said = capsys.readouterr().err
    assert "matplotlib" in said and "pip install 'robot-foundry[plot]'" in said
