"""Checkpoints are evaluated as they come, also those that their run removes, and the best is kept."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from foundry_testing.trainer_runs import TINY

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.watching.held import hold as hold_checkpoint
from robot_foundry.evaluation.watching.watch import Watch, Watched
from robot_foundry.ingest.engine import ingest
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints.checkpoint import find as checkpoint_of
from robot_foundry.trainer.holding import hold
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

SPEC = RolloutSpec(ActorSpec(None), "reach_single", episodes=3, size=32, max_steps=12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, each of which left a checkpoint."""
    root = tmp_path_factory.mktemp("watched")
    request = Request("reach_single", "sim", 8, seed=0, cameras=("primary",), size=32)
    made = collect(request, root / "demonstrations.hdf5", quiet=True)
    ingest("tabletop", made.path, store=root / "store", name="reach")
    asked = [*TINY, f"data.store={root / 'store'}", "data.mix=reach", "data.window.stream=command"]
    asked += ["run.steps=3", "run.save_every=1", "run.keep_last=3", f"run.dir={root / 'run'}"]
    run_task(resolve_vla(read_recipe(None, asked)), quiet=True)
    return root / "run"


class Training:
    """A run whose checkpoints appear one by one while somebody waits, the one before being removed."""

    def __init__(self, trained: Path, run: Path) -> None:
        self.run, self.left = run, sorted((trained / "checkpoints").iterdir())
        (run / "checkpoints").mkdir(parents=True)
        self.held = ExitStack()
        hold(run, self.held)
        says(run, "forward")

    def goes_on(self) -> None:
        shutil.rmtree(self.run / "checkpoints")
        if not self.left:
            says(self.run, "ended")
            self.held.close()
            return
        shutil.copytree(self.left[0], self.run / "checkpoints" / self.left.pop(0).name)


def says(run: Path, phase: str, host: str | None = None, old: timedelta = timedelta()) -> None:
    """The heartbeat of a run, as its trainer writes it."""
    told = {"step": 2, "phase": phase, "time": (datetime.now(UTC) - old).isoformat(timespec="seconds")}
    told |= {"host": host or socket.gethostname(), "pid": os.getpid(), "rank": 0, "ranks": 1}
    (run / "heartbeat.json").write_text(json.dumps(told))


def followed(run: Path, wait: Callable[[], None] | None) -> list[Watched]:
    return list(Watch(run, SPEC, quiet=True).follow(wait))


def test_each_checkpoint_is_evaluated_once_and_the_best_outlives_its_run(
    trained: Path, tmp_path: Path
) -> None:
    training = Training(trained, tmp_path / "run")
    found = followed(training.run, training.goes_on)
    assert [one.step for one in found] == [1, 2, 3]
    for one, checkpoint in zip(found, sorted((trained / "checkpoints").iterdir()), strict=True):
        plain = rollout(RolloutSpec(ActorSpec(str(checkpoint)), **asked()), quiet=True)
        report = json.loads(one.report.read_text())
        assert [scene["outcome"] for scene in report["scenes"]] == [e.outcome for e in plain.episodes]
        assert (report["successes"], report["step"]) == (plain.successes, one.step)
    best = max(found, key=lambda one: (one.rate, -one.step))
    folder = Watch(training.run, SPEC).folder
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{best.step:08}"]
    pointed = json.loads((folder / "best.json").read_text())
    assert (pointed["step"], pointed["successes"], pointed["trials"]) == (best.step, best.successes, 3)
    assert checkpoint_of(folder / "best.json").name == f"step-{best.step:08}"
    assert followed(training.run, None) == []


def asked() -> dict[str, object]:
    return {name: value for name, value in vars(SPEC).items() if name != "actor"}


def test_who_begins_late_takes_what_is_there_and_ends_with_a_run_that_has_ended(
    trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert [one.step for one in followed(run, None)] == [1, 2, 3]
    other = Watch(run, RolloutSpec(SPEC.actor, "reach_single", episodes=2, size=32, max_steps=5), quiet=True)

    def never() -> None:
        raise AssertionError("there is nothing to wait for")

    assert [one.trials for one in other.follow(never)] == [2, 2, 2]
    assert other.folder != Watch(run, SPEC).folder


def test_what_a_stopped_watch_held_is_evaluated_though_its_run_has_removed_it(
    trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    held = Watch(run, SPEC).folder / "checkpoints"
    assert hold_checkpoint(run / "checkpoints" / "step-00000002", held) is not None
    shutil.rmtree(run / "checkpoints")
    assert [one.step for one in followed(run, None)] == [2]
    assert checkpoint_of(held.parent / "best.json").name == "step-00000002"


def test_a_run_that_was_killed_is_told_and_ends_the_watch(trained: Path, tmp_path: Path) -> None:
    training = Training(trained, tmp_path / "run")
    training.left = training.left[:1]

    def killed_after_a_step() -> None:
        if training.left:
            training.goes_on()
        else:
            says(training.run, "forward", old=timedelta(minutes=3))
            training.held.close()  # as the system does when a process is killed

    told = (
        "run is taken for killed: its heartbeat, that of process .* at step 2, is 3 min old, and no process"
    )
    with pytest.warns(FoundryWarning, match=told) as warned:
        assert [one.step for one in followed(training.run, killed_after_a_step)] == [1]
    [sentence] = [str(one.message) for one in warned if "killed" in str(one.message)]
    assert "start foundry-train again" in sentence


def test_a_run_of_another_machine_is_waited_for_until_it_was_silent_for_an_hour(tmp_path: Path) -> None:
    ages = [timedelta(minutes=59), timedelta(minutes=61)]

    def grows_older() -> None:
        says(tmp_path, "backward", "elsewhere", ages.pop(0))

    says(tmp_path, "backward", "elsewhere", timedelta(minutes=12))
    with pytest.warns(FoundryWarning) as warned:
        assert followed(tmp_path, grows_older) == []
    first, second, last = (str(one.message) for one in warned)
    assert "12 min old; this watch waits for it until that is 1 h 00 min" in first and "59 min" in second
    assert "taken for killed" in last and "elsewhere is not seen from here" in last


def test_a_run_that_is_started_again_is_waited_for(tmp_path: Path) -> None:
    held, waited = ExitStack(), []

    def ends() -> None:
        waited.append(True)
        held.close()

    says(tmp_path, "ended")
    hold(tmp_path, held)
    assert followed(tmp_path, ends) == [] and waited


def test_another_run_in_the_same_folder_is_named(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for step in (1, 2):
        shutil.rmtree(run / "checkpoints" / f"step-{step:08}")
    assert [one.step for one in followed(run, None)] == [3]
    path = run / "checkpoints" / "step-00000003" / "state.json"
    state = json.loads(path.read_text())
    state["identity"]["optim"]["lr"] = 0.5
    path.unlink()  # what is held is a link to it
    path.write_text(json.dumps(state))
    with pytest.raises(FoundryError, match=r"is another run than .*: optim.lr was .* and is 0.5") as told:
        followed(run, None)
    assert told.value.hint is not None and "move that folder away" in told.value.hint


def test_a_report_that_is_none_is_named(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    report = Watch(run, SPEC).folder / "step-00000001" / "rollout.json"
    report.parent.mkdir(parents=True)
    report.write_text("[]")
    with pytest.raises(FoundryError, match=r"step-00000001/rollout.json is no report"):
        followed(run, None)


@pytest.mark.parametrize(
    "change",
    [
        {"trials": 0, "successes": 0},
        {"successes": 5},
        {"successes": -1},
        {"step": "x"},
        {"step": 7},
        {"trials": float("nan")},
    ],
)
def test_a_report_that_contradicts_itself_is_named(change: dict[str, object], tmp_path: Path) -> None:
    report = Watch(tmp_path, SPEC).folder / "step-00000001" / "rollout.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"step": 1, "successes": 1, "trials": 2}))
    assert Watch(tmp_path, SPEC).best() == Watched(1, 1, 2, report)
    report.write_text(json.dumps({"step": 1, "successes": 1, "trials": 2} | change))
    with pytest.raises(FoundryError, match=r"step-00000001/rollout.json is no report"):
        Watch(tmp_path, SPEC).best()


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", "{}", "[" * 100_000])
def test_a_heartbeat_that_is_damaged_is_named(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "heartbeat.json").write_text(damaged)
    with pytest.raises(FoundryError, match=r"cannot be read from .*heartbeat.json") as told:
        followed(tmp_path, lambda: None)
    assert told.value.hint is not None and "--once" in told.value.hint
    assert followed(tmp_path, None) == []


def test_a_damaged_checkpoint_is_passed_over_and_evaluated_once_it_is_whole(
    trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "step-00000003")
    state = run / "checkpoints" / "step-00000001" / "state.json"
    whole = state.read_bytes()
    state.write_bytes(whole[:10])
    with pytest.warns(FoundryWarning, match="step 1 is passed over: .*step-00000001 is damaged"):
        assert [one.step for one in followed(run, None)] == [2]
    state.write_bytes(whole)
    assert [one.step for one in followed(run, None)] == [1]


def test_two_watches_do_not_write_at_once(tmp_path: Path) -> None:
    def other() -> None:
        with pytest.raises(FoundryError, match="another watch of the same scenes writes to"):
            followed(tmp_path, None)
        (tmp_path / "heartbeat.json").write_text('{"phase": "ended"}')

    with pytest.warns(FoundryWarning, match="has not begun to train: this watch waits for its first"):
        assert followed(tmp_path, other) == []


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="nowhere is not there"):
        followed(tmp_path / "nowhere", None)
    asked = ["watch", str(tmp_path / "nowhere"), "--task", "reach_single", "--dry-run"]
    assert run_command(group, "foundry-eval", asked) == 1
    asked[1] = str(tmp_path)
    assert run_command(group, "foundry-eval", [*asked, "--poll", "nan"]) == 2


def test_the_command_names_the_best_and_the_scenes_to_try_it_on(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    asked = [
        "watch",
        str(run),
        "--task",
        "reach_single",
        "--episodes",
        "2",
        "--max-steps",
        "4",
        "--size",
        "32",
    ]
    assert run_command(group, "foundry-eval", [*asked, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == [1, 2, 3]
    assert run_command(group, "foundry-eval", [*asked, "--once", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert [one["step"] for one in found["checkpoints"]] == [1, 2, 3]
    assert Path(found["best"]["pointer"]).is_file() and "--seed 1 --size 32" in told.err
    assert (
        run_command(group, "foundry-eval", [*asked, "--json"]) == 0
    )  # the run has ended: nothing is waited for
    assert json.loads(capsys.readouterr().out) == found
