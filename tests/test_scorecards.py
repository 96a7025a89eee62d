"""The scorecard of a run: each evaluation leaves its report, and one command reads those of the chain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from foundry_testing import llm_runs, trainer_runs, vlm_runs
from scipy.stats import binomtest

from robot_foundry.cli import foundry_eval
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.scorecards.reports import (
    LLM,
    OPENLOOP,
    ROLLOUT,
    VLM,
    place,
    read_reports,
    write,
)
from robot_foundry.evaluation.scorecards.scorecard import Scorecard, StageCard, scorecard
from robot_foundry.ingest.engine import ingest
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.meters import read_metrics

STEPS = ("run.steps=2", "run.save_every=1")
TASK = ("--task", "reach_pair", "--size", "32", "--episodes", "3", "--max-steps", "4")


def foundry_eval_run(*arguments: object) -> None:
    assert run_command(foundry_eval.group, "foundry-eval", [str(item) for item in arguments]) == 0


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `text`, `pairs` on it and `robot` on that, two steps each, and their reports."""
    root = tmp_path_factory.mktemp("chain")
    words = vlm_runs.make_store(root / "words")
    made = collect(
        Request("reach_pair", "sim", 8, seed=0, cameras=("primary",), size=32), root / "sim.hdf5", quiet=True
    )
    ingest("tabletop", made.path, store=root / "robots", name="sim")
    robots = trainer_runs.Store(root / "robots")
    llm_runs.run(words, root / "text", *STEPS)
    vlm_runs.run(words, root / "pairs", *STEPS, "data.mix=colours", f"init.llm={root / 'text'}")
    trainer_runs.run(
        robots, root / "robot", *STEPS, "data.mix=sim", "data.window.stream=command",
        f"init.vlm={root / 'pairs'}", "model.text_length=48",
    )  # fmt: skip
    foundry_eval_run("llm", root / "text", "--rows", 8)
    foundry_eval_run("vlm", root / "pairs", "colours", "--store", words.url, "--pairs", 12, "--split", "all")
    foundry_eval_run("openloop", root / "robot", "--samples", 32, "--split", "all")
    foundry_eval_run("rollout", root / "robot", *TASK)
    foundry_eval_run("rollout", root / "robot", *TASK, "--blank", "--out", root / "elsewhere")
    foundry_eval_run("rollout", root / "robot", *TASK, "--random")
    return root


@pytest.fixture
def chain(evaluated: Path, tmp_path: Path) -> Path:
    """A copy that may be changed; the runs still tell the first place."""
    copied = tmp_path / "copied"
    for name in ("text", "pairs", "robot"):
        shutil.copytree(evaluated / name, copied / name)
    return copied


def stage(card: Scorecard, name: str) -> StageCard:
    return next(found for found in card.stages if found.stage.name == name)


def test_one_table_from_text_to_success(evaluated: Path) -> None:
    card = scorecard(evaluated / "robot")
    assert [(member.task, Path(member.name).name) for member in card.runs] == [
        ("llm", "text"), ("vlm", "pairs"), ("vla", "robot"),
    ]  # fmt: skip
    [(_, text)] = stage(card, "text").rows
    [spoken] = read_reports(evaluated / "text", LLM)
    assert text.value == spoken.values["bits_per_byte"]["real"] and text.interval is not None
    assert text.stale is None and text.controls[0].value == spoken.values["bits_per_byte"]["alone"]
    rows = [row for _, row in stage(card, "answers").rows]
    [report] = read_reports(evaluated / "pairs", VLM)
    assert [row.what for row in rows] == ["colours (all): answer, right", "colours (all): loss"]
    assert rows[0].value == report.values["kinds"]["answer"]["real"]["exact"]
    assert [control.name for control in rows[0].controls] == ["blank", "shuffled", "chance"]
    [chunks] = read_reports(evaluated / "robot", OPENLOOP)
    position = next(row for _, row in stage(card, "open loop").rows if "position" in row.what)
    found = chunks.values["datasets"]["sim"]
    assert position.value == found["policy"]["position_mm"]
    assert position.controls[0].value == found["hold_still"]["position_mm"]
    assert position.beats == (found["gain"]["position_mm"]["interval_95"][0] > 0)
    [(_, success)] = stage(card, "closed loop").rows
    assert success.number == "3 scenes"
    exact = binomtest(round(3 * success.value), 3).proportion_ci(method="exact")
    assert success.interval == pytest.approx((exact.low, exact.high))
    assert sorted(control.name for control in success.controls) == ["blank", "random"]


def test_a_pointer_names_the_run_as_well(evaluated: Path, tmp_path: Path) -> None:
    newest = checkpoint.latest(evaluated / "robot")
    assert newest is not None
    checkpoint.write_pointer(tmp_path / "policy.json", newest, step=2)
    assert scorecard(tmp_path / "policy.json").to_json() == scorecard(evaluated / "robot").to_json()


def test_reports_say_which_weights_they_are_of(evaluated: Path) -> None:
    newest = checkpoint.latest(evaluated / "robot")
    assert newest is not None
    weights = checkpoint.weights_id(checkpoint.read_json(newest, checkpoint.STATE))
    for what in (OPENLOOP, ROLLOUT):
        for report in read_reports(evaluated / "robot", what):
            is_random = report.values.get("condition") == "random"
            assert report.values.get("weights_id") == (None if is_random else weights)
            assert "seed" in report.values
    blank = next(r for r in read_reports(evaluated / "robot", ROLLOUT) if r.values["blank"])
    assert blank.values["out"] == str(evaluated / "elsewhere")
    assert (evaluated / "elsewhere" / "rollout.json").is_file()


def test_what_is_missing_is_named_with_its_command(evaluated: Path, chain: Path) -> None:
    [command] = stage(scorecard(evaluated / "robot"), "closed loop").missing
    assert command.endswith("--shuffle-instructions") and "--task reach_pair" in command
    shutil.rmtree(chain / "robot" / "scorecards" / OPENLOOP)
    card = scorecard(chain / "robot")
    assert stage(card, "open loop").missing == (f"foundry-eval openloop {chain / 'robot'}",)
    assert stage(card, "open loop").beats is None


def test_without_a_report_text_is_as_the_run_recorded_it(chain: Path) -> None:
    shutil.rmtree(chain / "text" / "scorecards")
    text = stage(scorecard(chain / "text"), "text")
    [(_, row)] = text.rows
    assert row.value == read_metrics(chain / "text")[-1]["bits_per_byte"] and row.interval is None
    assert text.missing == (f"foundry-eval llm {chain / 'text'}",)


def test_reports_of_another_checkpoint_are_stale(chain: Path) -> None:
    older = checkpoint.complete(chain / "robot")[1]
    card = scorecard(older)
    rows = [row for _, row in stage(card, "open loop").rows]
    assert rows and all(row.stale == "step 2" and row.beats is None for row in rows)
    assert stage(card, "open loop").beats is None and stage(card, "open loop").missing
    [(_, text)] = stage(card, "text").rows  # what it began with is as it was
    assert text.stale is None


def test_origins_are_found_by_id_and_said_to_be_gone_or_changed(evaluated: Path, chain: Path) -> None:
    moved = evaluated.with_name("moved")
    evaluated.rename(moved)
    try:
        card = scorecard(chain / "robot")
        assert [Path(member.name) for member in card.runs] == [
            chain.resolve() / "text", chain.resolve() / "pairs", chain / "robot",
        ]  # fmt: skip
        shutil.rmtree(chain / "pairs")
        card = scorecard(chain / "robot")
        [origin] = card.runs[-1].began_with
        assert origin.state == "gone" and origin.why == f"there is no {origin.where}"
        assert [member.task for member in card.runs] == ["vla"]
        assert not stage(card, "answers").has_run
        shutil.copytree(chain / "text", evaluated / "pairs")
        [origin] = scorecard(chain / "robot").runs[-1].began_with
        assert origin.state == "changed" and "is the checkpoint of another run now" in str(origin.why)
        [weights, *_] = (evaluated / "pairs" / "checkpoints").glob("step-00000002/*.distcp")
        shutil.copytree(moved / "pairs", evaluated / "pairs", dirs_exist_ok=True)
        weights.write_bytes(b"")
        [origin] = scorecard(chain / "robot").runs[-1].began_with
        assert origin.state == "changed" and weights.name in str(origin.why)
    finally:
        shutil.rmtree(evaluated, ignore_errors=True)
        moved.rename(evaluated)


def rolled_out(robot: Path, **rates: int) -> Scorecard:
    """The scorecard where of 100 scenes each condition had so many successes."""
    like = read_reports(robot, ROLLOUT)[0].values
    shutil.rmtree(robot / "scorecards" / ROLLOUT)
    for condition, successes in rates.items():
        ends = binomtest(successes, 100).proportion_ci(method="exact")
        of = {"condition": condition.replace("_", "-"), "trials": 100, "rate": successes / 100}
        of |= {"delay": 4 * ("delay4" in condition), "rtc": condition.endswith("rtc")}
        write(place(robot, ROLLOUT, condition), "rollout.json", {**like, **of, "interval_95": list(ends)})
    return scorecard(robot)


@pytest.mark.parametrize(
    ("rates", "beaten", "not_beaten"),
    [
        ({"policy": 90, "policy_blank": 2, "policy_shuffled": 86}, False, ["shuffled"]),
        ({"policy": 90, "policy_blank": 2, "policy_shuffled": 22}, True, []),
        ({"policy": 90}, None, []),
    ],
)
def test_a_stage_beats_its_controls_or_not(
    chain: Path, rates: dict[str, int], beaten: bool | None, not_beaten: list[str]
) -> None:
    closed = stage(rolled_out(chain / "robot", **rates), "closed loop")
    assert closed.beats is beaten
    [(_, row)] = closed.rows
    assert [control.name for control in row.controls if control.is_beaten is False] == not_beaten


def test_a_control_measured_otherwise_is_not_compared(chain: Path) -> None:
    rolled_out(chain / "robot", policy=90, policy_blank=2)
    [path] = (chain / "robot" / "scorecards" / ROLLOUT).glob("policy_blank/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"execute": 1}))
    [(_, row)] = stage(scorecard(chain / "robot"), "closed loop").rows
    assert row.beats is None and row.controls[0].basis == "measured with another execute"


def test_late_answers_are_no_control_and_have_controls_of_their_own(chain: Path) -> None:
    rates = {"policy": 90, "policy_delay4_rtc": 88, "policy_blank": 2, "policy_shuffled": 20, "random": 1}
    closed = stage(rolled_out(chain / "robot", **rates, policy_blank_delay4_rtc=3), "closed loop")
    late, plain = (row for _, row in sorted(closed.rows, key=lambda of: "late" not in of[1].what))
    assert late.what.endswith("success, answers 4 steps late, continued")
    assert [control.name for control in late.controls] == ["blank-delay4-rtc"] and late.beats is True
    assert {control.name for control in plain.controls} == {"blank", "shuffled", "random"}
    assert plain.beats is True and closed.beats is True
    assert [line.partition("--delay ")[2] for line in closed.missing] == [
        "4 --random", "4 --rtc --shuffle-instructions",
    ]  # fmt: skip


def test_the_command_prints_it(evaluated: Path, chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foundry_eval_run("scorecard", evaluated / "robot")
    shown = capsys.readouterr().out
    for text in ("bits a byte", "hold still", "reach_pair (sim): success", "--shuffle-instructions"):
        assert text in shown
    assert "the first stage that is not shown to beat its controls:" in shown
    foundry_eval_run("scorecard", chain / "text", "--json")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [found["stage"] for found in told["stages"]] == ["text", "answers", "open loop", "closed loop"]
    assert [found["has_run"] for found in told["stages"]] == [True, False, False, False]
    write(chain / "text" / "rollouts" / "x", "rollout.json", {"rate": 1.0})
    foundry_eval_run("scorecard", chain / "text")
    assert "1 report of an older version" in capsys.readouterr().err
    torn = place(chain / "text", VLM, "x")
    for content, told in (('{"mix": "a"}', "lacks 'split'"), ("{", "scorecard.json cannot be read")):
        write(torn, "scorecard.json", {})
        (torn / "scorecard.json").write_text(content)
        assert run_command(foundry_eval.group, "foundry-eval", ["scorecard", str(chain / "text")]) == 1
        assert told in capsys.readouterr().err
