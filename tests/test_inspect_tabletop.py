"""Drafts of what the tabletop world records, in its four formats, beside the specs that read it rightly."""

from __future__ import annotations

import pytest
from foundry_testing.draft_verdicts import HIT, MISS, verdicts

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run

SPECS = {"hdf5": "tabletop", "mcap": "tabletop_mcap", "rlds": "tabletop_rlds", "lerobot": "tabletop_lerobot"}


@pytest.mark.parametrize("form", SPECS)
def test_no_guess_is_wrong_and_poses_are_right(form, tmp_path, capsys):
    out = tmp_path / ("demos.hdf5" if form == "hdf5" else "demos")
    arguments = [
        "collect",
        "tabletop",
        "--task",
        "pick_place",
        "--episodes",
        "4",
        "--to",
        form,
        "--out",
        str(out),
    ]
    assert run(group, "foundry-eval", arguments) == 0
    told = {quantity: verdict for quantity, verdict, _ in verdicts(out, SPECS[form])}
    poses = [
        f"{column} right.{name}"
        for column in ("state", "action.command")
        for name in ("ee_position", "ee_rot6d")
    ]
    assert MISS not in told.values() and {told[name] for name in poses} == {HIT}
