"""`foundry-eval compare` on reports as rollouts leave them, whole and ugly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.pages import fences, missing_links, run_page

from robot_foundry.cli.foundry_eval import PROGRAM, group
from robot_foundry.cli.output import run

PAGE = "docs/comparison.md"


def report(folder: Path, wins: Sequence[bool], *, task: str = "reach", first: int = 0, **more: Any) -> Path:
    """Leave one as a run's rollout does."""
    scenes = [
        {"index": k, "seed": first + k, "outcome": "success" if won else "running", "steps": 9}
        for k, won in enumerate(wins)
    ]
    values = {"world": "tabletop", "task": task, "variant": "sim", "condition": "policy", "scenes": scenes}
    place = folder / "scorecards" / "rollout" / f"{task}-sim-{more.get('condition', 'policy')}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "rollout.json").write_text(json.dumps({**values, "successes": sum(wins), **more}))
    return folder


def compare(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(group, PROGRAM, ["compare", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_runs_by_task_and_over_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak, strong = tmp_path / "weak", tmp_path / "<b>strong"
    for task in ("reach", "lift"):
        report(weak, [k % 5 == 0 for k in range(60)], task=task)
        report(strong, [k % 5 != 1 for k in range(60)], task=task)
    report(weak, [False] * 60, condition="policy-blank")
    page = tmp_path / "page.html"
    code, out, err = compare(capsys, weak, strong, "--json", "--html", page)
    found = json.loads(out)
    assert code == 0 and "one training seed each" in err
    assert [scope["name"] for scope in found["scopes"]][-1] == "all tasks" and len(found["scopes"]) == 3
    one = found["scopes"][0]
    assert {standing["letters"] for standing in one["standings"]} == {"a", "b"}
    assert one["pairs"][0]["test"] == "McNemar" and one["pairs"][0]["scenes"] == 60
    assert one["pairs"][0]["difference"] == pytest.approx(0.6)
    html = page.read_text("utf-8")
    assert "<b>strong" not in html and "&lt;b&gt;strong" in html and html.count("<svg") == 3
    assert "http" not in html and "<script" not in html
    code, out, _ = compare(capsys, weak, strong, "--sequential")
    assert code == 0 and "may stop: every pair is decided after" in out


def test_too_few_scenes_are_told_beside_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    for number, way, said in (
        (2, (), "2 scenes: too few to show any difference at 0.05, even of 0 % from 100 %"),
        (10, (), "10 scenes: too few to show a difference below 50 points at 0.05"),
        (10, ("--alpha", "0.01"), "10 scenes: too few to show a difference below 70 points at 0.01"),
        (10, ("--sequential",), "10 scenes: too few to show a difference below 90 points at 0.05"),
    ):
        none, some = (
            report(tmp_path / name, [k < won for k in range(number)]) for name, won in (("a", 0), ("b", 2))
        )
        code, out, _ = compare(capsys, none, some, *way, "--html", page)
        assert code == 0 and said in out and said in page.read_text("utf-8")
        assert "foundry-eval compare --plan" in out
    other = report(tmp_path / "other", [True] * 4, first=100)
    assert (
        "2 and 4 episodes: too few to show"
        in compare(capsys, report(tmp_path / "c", [False, True]), other)[1]
    )
    shown = compare(capsys, report(tmp_path / "d", [False] * 9), report(tmp_path / "e", [True] * 9))[1]
    assert "too few" not in shown


def test_policies_in_another_order_are_told_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [report(tmp_path / f"{n}", [k % n == 0 for k in range(60)]) for n in (1, 2, 3, 7)]
    found = []
    for order in (places, places[::-1]):
        scope = json.loads(compare(capsys, *order, "--json")[1])["scopes"][0]
        adjusted = {frozenset((p["first"], p["second"])): p["p_adjusted"] for p in scope["pairs"]}
        found.append(({s["name"]: (s["letters"], s["rate"]) for s in scope["standings"]}, adjusted))
    assert found[0] == found[1]


def test_recipes_are_compared_by_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [report(tmp_path / f"old{k}", [n % 10 < 4 + k for n in range(50)]) for k in range(3)]
    new = [report(tmp_path / f"new{k}", [n % 10 < 5 + k for n in range(50)]) for k in range(3)]
    groups = f"old={','.join(map(str, old))}", f"new={','.join(map(str, new))}"
    code, out, err = compare(capsys, *groups, "--json")
    found = json.loads(out)
    assert code == 0 and found["of"] == "recipes" and "one training seed" not in err
    assert found["scopes"][0]["pairs"][0]["p"] > 0.05
    assert found["scopes"][0]["standings"][0]["rates_of_runs"] == pytest.approx([0.4, 0.5, 0.6])
    code, _, err = compare(capsys, groups[0], new[0])
    assert code == 2 and "how much training seeds of it differ is not known" in err
    code, _, err = compare(capsys, *groups, "--sequential")
    assert code == 2 and "--sequential is of single runs" in err


def test_other_scenes_are_not_paired_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = report(tmp_path / "one", [k % 2 == 0 for k in range(30)])
    other = report(tmp_path / "other", [True] * 30, first=10)
    fewer = report(tmp_path / "fewer", [True] * 20)
    motion = [report(tmp_path / n, [True, False], condition="random") for n in ("motion", "more")]
    assert "training seed" not in compare(capsys, *motion, "--condition", "random")[2]
    code, out, err = compare(capsys, one, other)
    assert code == 0 and "Barnard" in out and "not paired, as their scenes differ" in err
    assert "McNemar, 20 scenes" in compare(capsys, one, fewer)[1]
    code, _, err = compare(capsys, one, other, "--sequential")
    assert code == 2 and "needs the same scenes" in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"world": ', "cannot be read"),
        ("[]", "is no report of a rollout"),
        ('{"bits_per_byte": 1}', "lacks world, task, variant or scenes"),
        ('{"world": "w", "task": "t", "variant": "v", "scenes": []}', "has no scenes"),
        ('{"world": "w", "task": "t", "variant": "v", "scenes": [{"seed": "1"}]}', "is damaged: scene 0"),
        (
            '{"world": "w", "task": "t", "variant": "v", "successes": 3, '
            '"scenes": [{"seed": 1, "outcome": "success"}]}',
            "it says 3 successes, its scenes have 1",
        ),
        (
            '{"world": "w", "task": "t", "variant": "v", '
            '"scenes": [{"seed": 1, "outcome": "success"}, {"seed": 1, "outcome": "success"}]}',
            "two scenes have the seed 1",
        ),
        (
            '{"world": "w", "task": "t", "variant": "v", "scenes": [{"seed": 1, "outcome": "succes"}]}',
            "scene 0 ended in 'succes', did you mean 'success'?",
        ),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_report_that_is_not_whole(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = report(tmp_path / "whole", [True, False])
    (tmp_path / "bad.json").write_text(text)
    code, out, err = compare(capsys, whole, tmp_path / "bad.json")
    assert code == 1 and told in err and "bad.json" in err and not out


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = report(tmp_path / "one", [True, False])
    of_another = report(tmp_path / "another", [True, False], world="pusht")
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ([one], "two policies or more"),
        ([one, one], "have one name"),
        ([one, of_another], "no task was rolled out with every policy"),
        ([one, tmp_path / "oen"], "did you mean 'one'"),
        ([one, tmp_path / "empty"], "has no rollouts"),
        ([one, of_another, "--condition", "policy-blnk"], "no rollouts of condition 'policy-blnk'"),
        ([f"x={one},{one}", of_another], "twice"),
        ([one, of_another, "--alpha", "0"], "alpha must lie between 0 and 1"),
        ([one, of_another, "--alpha", "nan"], "alpha must lie between 0 and 1"),
        ([one, of_another, "--alpha", "1e-300"], "alpha must lie between 0 and 1"),
        ([one, "--plan", "0.5", "0.7"], "give no policies with it"),
        (["--plan", "0.5", "0.7", "--alpha", "1e-17"], "alpha must lie between 0 and 1"),
        (["--plan", "0", "1e-200"], "takes about 8e+200 episodes of each, 4,000 at most"),
    ):
        code, _, err = compare(capsys, *arguments)
        assert code == 2 and told in err, err


def test_settings_and_steps_of_any_kind_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reports of other hands, or damaged: what no setting should be is told as it stands."""
    one = report(tmp_path / "one", [True, False], max_steps=[1], step="x")
    report(one, [True, False], task="lift", step=3)
    code, _, err = compare(capsys, one, report(tmp_path / "other", [True, False], max_steps={}))
    assert code == 0 and "max_steps is not the same" in err and "unlike steps: 3, x" in err


def test_scenes_that_did_not_begin_alike_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for name in ("one", "same", "other"):
        run = report(tmp_path / name, [True, False])
        (path,) = run.glob("scorecards/rollout/*/rollout.json")
        values = json.loads(path.read_text())
        for scene in values["scenes"]:
            scene["start"] = f"{scene['seed']}{name == 'other' and scene['seed'] == 1}"
        path.write_text(json.dumps(values))
        runs.append(run)
    assert "did not begin alike" not in compare(capsys, *runs[:2])[2]
    assert "did not begin alike though their seeds are the same (1)" in compare(capsys, *runs)[2]


def test_one_checkpoint_is_no_two_training_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [report(tmp_path / f"old{k}", [True, False], weights_id="0123") for k in range(2)]
    new = [report(tmp_path / f"new{k}", [True, False], weights_id=f"{k}") for k in range(2)]
    both = f"new={new[0]},{new[1]}"
    code, _, err = compare(capsys, f"old={old[0]},{old[1]}", both)
    assert code == 2 and "one checkpoint twice" in err and "old1" in err
    assert compare(capsys, f"old={old[0]},{new[1]}", both)[0] == 0


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, {}, monkeypatch) == fences(PAGE)
    assert not missing_links(PAGE)
