"""What `foundry-data show` says of success: of how many episodes it is known, and never 0 where none says."""

from __future__ import annotations

import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import arm, spec_file, write_bag

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run


@pytest.mark.parametrize(
    ("marks", "line"),
    [
        ((None, None), "success not told"),
        ((True, None), "1 marked successful of 1 that say"),
        ((True, False), "1 marked successful"),
    ],
)
def test_success_is_counted_among_the_episodes_that_say(marks, line, tmp_path, capsys):
    for number, mark in enumerate(marks):
        write_bag(tmp_path / "in" / f"take{number}", arm(0.5), "bag")
        if mark is not None:
            (tmp_path / "in" / f"take{number}.txt").write_text(str(mark).lower())
    spec = spec_file(tmp_path, {"beside": {"success": "{bag}.txt"}}, {"success": {"attr": "success"}})
    made = Ingested(spec, tmp_path / "in", tmp_path / "store")
    assert len(made.rows) == 2, made.reasons
    assert run(group, "foundry-data", ["show", "made", "--store", str(tmp_path / "store")]) == 0
    (episodes,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("episodes ")]
    assert episodes.endswith(f", {line}")
