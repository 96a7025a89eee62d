"""Suites and controls: what is run beside what, what a policy does not show, and figures of many tasks."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.trainer_runs import TINY

from robot_foundry.catalog.query.snapshot import Catalog
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.comparison.outcomes import read_policy
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.rollouts.demonstrated import data_store, tell_unlike_pictures
from robot_foundry.evaluation.rollouts.keeping import Keeper, name_of
from robot_foundry.evaluation.scorecards.reports import FILES, ROLLOUT, Subject, place, write
from robot_foundry.evaluation.scorecards.rollout_controls import control_of, on_the_same, sentences
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.suites.suite import packaged_suites, read_suite
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS
from robot_foundry.evaluation.worlds.tabletop.goals import TASKS
from robot_foundry.ingest.engine import ingest
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryWarning, UsageError
from robot_foundry.runtime.parallel import Workers
from robot_foundry.trainer.checkpoints.checkpoint import find
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

LESS = ["--episodes", "2", "--size", "32", "--max-steps", "4", "--execute", "3"]
SUITE = """
episodes: 2
size: 32
controls: [blank, shuffled, random]
words: suite
tasks:
  reach: {category: reach, max_steps: 4}
  short: {category: reach, task: reach_single, variant: real, episodes: 3, max_steps: 3}
  push: {category: push, max_steps: 4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording in a store, and a run of two steps."""
    root = tmp_path_factory.mktemp("suites")
    for variant in ("sim", "real"):
        request = Request("reach_single", variant, 4, seed=0, cameras=("primary",), size=32)
        made = collect(request, root / f"{variant}.hdf5", quiet=True)
        ingest("tabletop", made.path, store=root / "store", name=variant)
    where = [f"data.store={root / 'store'}", f"run.dir={root / 'run'}", "data.mix={sim: 0.5, real: 0.5}"]
    run_task(resolve_vla(read_recipe(None, [*TINY, *where, "data.window.stream=command"])), quiet=True)
    return root


def evaluated(capsys: pytest.CaptureFixture[str], *line: str | Path) -> dict[str, Any]:
    assert run(group, "foundry-eval", ["rollout", *map(str, line), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_controls_run_beside_on_the_same_scenes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [folder / "run", "--task", "reach_single", *LESS, "--dataset", "sim"]
    alone = evaluated(capsys, *line)
    assert alone["controls"] == [] and "was not measured; do so with" in alone["says"][0]
    assert "--controls blank,shuffled,random" in alone["says"][1]
    beside = evaluated(capsys, *line, "--controls", "blank,random")
    assert [control["name"] for control in beside["controls"]] == ["blank", "random"]
    assert "this policy does not show that it looks: with blank pictures" in beside["says"][0]
    assert beside["says"][-1].endswith("--controls shuffled")
    assert alone["scenes"] == beside["scenes"]
    kept = evaluated(capsys, *line)  # the controls that are with the run are shown
    assert {control["name"] for control in kept["controls"]} == {"blank", "random"}
    report = json.loads((folder / "run/scorecards/rollout/reach_single-sim-policy/rollout.json").read_text())
    assert report["scenes"] == alone["scenes"] and "episodes.jsonl" in report["files"]
    rows = Catalog(folder / "store").sql(
        "SELECT r.record->>'$.condition' AS condition, e.seed, e.ended FROM runs r, unnest(from_json("
        'r.record->\'$.episodes\', \'[{"seed": "UBIGINT", "ended": "VARCHAR"}]\')) AS t(e) ORDER BY 1, 2'
    )
    assert rows.num_rows == 6
    assert {row["condition"] for row in rows.to_pylist()} == {"policy", "policy-blank", "random"}
    assert {row["seed"] for row in rows.to_pylist()} == {scene_seed("rollout", 0, i) for i in range(2)}


def test_pictures_of_another_size_than_in_the_demonstrations_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["rollout", str(folder / "run"), "--task", "reach_single", "--dataset", "sim", *LESS]
    line += ["--episodes", "1", "--out", str(tmp_path / "out")]
    assert run(group, "foundry-eval", [*line, "--size", "16"]) == 0
    told = "the camera 'primary' is shown at 16 × 16 pixels, and in the demonstrations it had 32 × 32"
    assert f"{told}; --size 32 shows it so" in capsys.readouterr().err
    checkpoint = str(find(folder / "run"))
    asked = RolloutSpec(ActorSpec(checkpoint), "reach_single", size=16)
    store = data_store(Path(checkpoint))
    with pytest.warns(FoundryWarning, match=told):
        tell_unlike_pictures(asked, store)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FoundryWarning)
        for silent in (replace(asked, size=32), replace(asked, blank=True), asked.control("random")):
            tell_unlike_pictures(silent, store)
        tell_unlike_pictures(asked, data_store(None, str(tmp_path / "nowhere")))


def test_a_suite_runs_all_tasks_and_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loads = Policy.load, []
    monkeypatch.setattr(Policy, "load", lambda *given: loads.append(given) or load(*given))
    (tmp_path / "three.yaml").write_text(SUITE)
    line = [folder / "run", "--suite", tmp_path / "three.yaml", "--dataset", "sim", "--out", tmp_path / "out"]
    assert run(group, "foundry-eval", ["rollout", *map(str, line), "--dry-run"]) == 0
    assert "would run 7 scenes of 3 tasks" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    report = evaluated(capsys, *line)
    assert len(loads) <= 1  # none where a test before has left it
    assert {name: of["policy"]["trials"] for name, of in report["tasks"].items()} == {
        "reach": 2, "short": 3, "push": 2,
    }  # fmt: skip
    assert list(report["categories"]) == ["reach", "push"] and report["over_all"]["random"]["trials"] == 7
    rates = [of["policy"]["rate"] for of in report["tasks"].values()]
    assert report["over_all"]["policy"]["rate"] == pytest.approx(sum(rates) / 3)
    low, high = report["over_all"]["blank"]["difference_95"]
    assert low <= report["over_all"]["blank"]["difference"] <= high
    assert len(report["says"]) == 3 and "this policy does not show that it looks" in report["says"][0]
    told = json.loads((tmp_path / "out/push-policy-shuffled/rollout.json").read_text())["scenes"]
    assert all(scene["told"] != scene["asked"] for scene in told)
    written = json.loads((tmp_path / "out" / "suite.json").read_text())
    with_run = json.loads((folder / "run/scorecards/suite/three/suite.json").read_text())
    assert report == {**written, "out": str(tmp_path / "out")} == with_run
    (tmp_path / "out/push-random/rollout.json").unlink()  # as if it had been stopped there
    assert evaluated(capsys, *line) == report
    assert run(group, "foundry-eval", ["rollout", *map(str, line)]) == 0
    shown = capsys.readouterr()
    assert "28 of 28 scenes had been run before" in shown.err
    assert "two_arms" not in shown.out and "push" in shown.out and "all" in shown.out


def test_worlds_that_share_a_name_of_a_task_keep_reports_apart(tmp_path: Path) -> None:
    names = []
    for world in ("tabletop", "metaworld"):
        spec = RolloutSpec(ActorSpec(None), "push", world=world)
        report = report_of("policy", "sf", world=world, task="push")
        write(place(tmp_path, ROLLOUT, name_of(spec)), FILES[ROLLOUT], report)
        names.append(name_of(spec))
    assert names == ["push-sim-random", "metaworld-push-sim-random"]
    assert read_policy(str(tmp_path), "policy").tasks == [
        ("metaworld", "push", "sim"), ("tabletop", "push", "sim"),
    ]  # fmt: skip


def test_every_problem_of_a_suite_is_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "episods: 3\nexecute: many\ncontrols: [blnk]\nwords: none\nseed: -1\n"
        "tasks: {raech: {}, push: {categry: x}, reach: 3, stack: {variant: rael}, handover: {episodes: 0}}\n"
    )
    with pytest.raises(UsageError) as raised:
        read_suite(str(path))
    for said in (
        "has 10 problems", "episods: is not a key, did you mean 'episodes'?", "execute: needs",
        "controls: 'blnk' is none, did you mean 'blank'?", "words: needs one of task, suite",
        "seed: must be at least 0", "tasks.raech: the tabletop has no task 'raech', did you mean 'reach'?",
        "tasks.push.categry: is not a key, did you mean 'category'?", "tasks.reach: needs keys of its own",
        "tasks.stack: ", "tasks.handover: episodes must be at least 1",
    ):  # fmt: skip
        assert said in raised.value.message


def test_a_task_of_a_suite_may_say_whose_words_it_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("words: suite\ntasks: {reach: {}, stack: {words: []}, push: {words: [reach]}}\n")
    suite = read_suite(str(path))
    assert suite.spec("stack", ActorSpec(None)).words_of == ()
    assert suite.spec("push", ActorSpec(None)).words_of == ("reach",)
    assert suite.spec("reach", ActorSpec(None)).words_of == ("push", "stack")
    path.write_text("tasks: {push: {words: [reach, push]}}\n")
    with pytest.raises(UsageError, match=r"tasks.push.words: push is the task itself, name others"):
        read_suite(str(path))
    path.write_text("tasks: {push: {words: [raech]}}\n")
    with pytest.raises(
        UsageError, match="tasks.push: the tabletop has no task 'raech', did you mean 'reach'"
    ):
        read_suite(str(path))


def test_two_entries_of_one_task_would_share_a_place(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(
        "tasks: {reach: {}, long: {task: reach, max_steps: 9}, real: {task: reach, variant: real}}\n"
    )
    with pytest.raises(UsageError, match=r"1 problem:\n  tasks.long: is the same task .* as tasks.reach"):
        read_suite(str(path))


def test_packaged_suites_are_read_and_the_nearest_is_named() -> None:
    assert set(packaged_suites()) >= {"tabletop", "metaworld5", "metaworld50"}
    suite = read_suite("tabletop")
    assert set(suite.tasks) == set(TASKS) and set(suite.categories) == {"reach", "push", "grasp", "two_arms"}
    for name in packaged_suites():
        read_suite(name)
    assert set(read_suite("metaworld50").tasks) == set(INSTRUCTIONS)
    with pytest.raises(UsageError, match="there is no suite 'tabltop', did you mean 'tabletop'"):
        read_suite("tabltop")


def test_words_may_come_from_other_tasks() -> None:
    spec = RolloutSpec(ActorSpec(None), "push", episodes=6, max_steps=1, shuffle_instructions=True)
    own, other = (
        rollout(RolloutSpec(**{**vars(spec), "words_of": words}), quiet=True, films=0).episodes
        for words in ((), ("push", "stack"))
    )
    assert [episode.asked for episode in own] == [episode.asked for episode in other]
    assert [episode.told for episode in own] != [episode.told for episode in other]
    again = rollout(RolloutSpec(**{**vars(spec), "words_of": ("push", "stack")}), quiet=True, films=0)
    assert again.episodes == other


def report_of(condition: str, outcomes: str, **settings: Any) -> dict[str, Any]:
    """A report of scenes with these outcomes: s or f."""
    num, good = len(outcomes), outcomes.count("s")
    scenes = [{"seed": k, "outcome": {"s": "success", "f": "failure"}[c]} for k, c in enumerate(outcomes)]
    ends = [max(0.0, good / num - 0.3), min(1.0, good / num + 0.3)]
    about = {"world": "w", "task": "t", "variant": "sim", "execute": 8, "max_steps": None, "size": 64}
    about |= {"episodes": num, "seed": 0, "delay": 0, "rtc": False, "ensemble": None, "run": "run"}
    counts = {"rate": good / num, "trials": num, "successes": good, "interval_95": ends, "scenes": scenes}
    return {**about, **counts, "condition": condition, **settings}


def test_what_is_said_of_a_control() -> None:
    policy = report_of("policy", "s" * 15 + "f" * 5)
    blind = report_of("policy-blank", "f" + "s" * 14 + "f" * 5)
    lost = report_of("policy-shuffled", "f" * 20)
    [looks, reads, chance, how] = sentences(policy, [blind, lost], "runs/a b")
    assert looks == (
        "blank: this policy does not show that it looks: with blank pictures 14/20 against 15/20, difference "
        "+5 points [-30, +32]"
    )
    assert reads.startswith("shuffled: it reads: with the words of other scenes 0/20 against 15/20")
    assert chance == "whether it does better than chance was not measured; do so with"
    assert "rollout 'runs/a b' --world w" in how and how.endswith("--controls random")
    for scenes, is_said in ((5, True), (6, False)):
        alike = [report_of(condition, "s" * scenes) for condition in ("policy", "policy-blank")]
        assert next(sentences(alike[0], alike[1:], "r")).endswith("no difference at all") is is_said
    named = report_of("policy", "s" * 20, dataset="sim", device="cuda:1")
    assert "--dataset sim --device cuda:1 --controls" in list(sentences(named, [], "r"))[-1]
    other = report_of("policy-blank", "f" * 20, execute=2)
    for scene in policy["scenes"]:
        scene["asked"] = "reach the goal"
    *_, how, where = sentences(policy, [blind], "r", "my worlds.yaml")
    assert "--world 'my worlds.yaml'" in how and how.endswith("--controls shuffled,random --words-of TASK")
    assert "all scenes of this one say 'reach the goal'" in where
    assert "not comparable: measured with another execute" in next(sentences(policy, [other], "r"))
    elsewhere = report_of("policy-blank", "f" * 20)
    for scene in elsewhere["scenes"]:
        scene["seed"] += 20
    assert on_the_same(policy, elsewhere) is None and control_of(policy, elsewhere).is_beaten is True
    averaged = report_of("policy-ensemble0.01", "s" * 20, execute=1, ensemble=0.01)
    assert control_of(averaged, report_of("random", "f" * 20, run=None)).is_beaten is True


def test_a_report_that_is_none_is_passed_over(tmp_path: Path) -> None:
    policy, blind = report_of("policy", "s" * 20), report_of("policy-blank", "f" * 20)
    keeper = Keeper(Subject(tmp_path / "checkpoint", tmp_path, 1, "weights"), None, Workers())
    places = {name: place(tmp_path, ROLLOUT, "t" * 130 + name) for name in ("whole", "empty", "half")}
    reports = (blind, {}, {name: blind[name] for name in blind if name != "interval_95"})
    for folder, report in zip(places.values(), reports, strict=True):
        write(folder, FILES[ROLLOUT], report)
    with pytest.warns(FoundryWarning, match="is passed over") as warned:
        assert keeper.beside(policy) == [blind]
    told = {str(one.message).partition("/rollout.json")[0] for one in warned}
    assert told == {str(places["empty"]), str(places["half"])}


def test_wrong_requests_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(folder / "run")
    for line, said in (
        ([where], "say what to run: --task TASK, or --suite"),
        ([where, "--suite", "tabletop", "--task", "reach"], "--task is said by the suite"),
        ([where, "--suite", "tabletp"], "did you mean 'tabletop'"),
        (
            [where, "--task", "reach", "--controls", "blnk"],
            "there is no control 'blnk', did you mean 'blank'",
        ),
        ([where, "--task", "reach", "--blank", "--controls", "random"], "nothing was taken"),
        ([where, "--task", "reach", "--ensemble", "0.1", "--rtc"], "ensemble and rtc exclude each other"),
        (["--random", "--task", "reach", "--ensemble", "--out", str(tmp_path)], "--ensemble is of policies"),
        (["--random", "--suite", "tabletop", "--out", str(tmp_path)], "--suite is of policies"),
    ):
        assert run(group, "foundry-eval", ["rollout", *line]) == 2, line
        assert said in capsys.readouterr().err
