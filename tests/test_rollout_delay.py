"""Answers that take time: what a scene executes meanwhile, and policies that continue their own chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.trainer_runs import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.execution import Execution
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.ingest.engine import ingest
from robot_foundry.policy import Actions, Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla


@given(execute=st.integers(1, 8), data=st.data())
@settings(deadline=None, max_examples=40)
def test_every_target_is_executed_at_its_own_time_by_the_newest_chunk_that_is_there(
    execute: int, data: st.DataObject
) -> None:
    """A chunk asked for at period p holds (p, p), (p, p + 1), …: which chunk, and meant for when."""
    delay = data.draw(st.integers(0, execute))
    execution, done = Execution(execute, delay), []
    for asked in range(0, 5 * execute, execute):
        chunk = np.stack([np.full(16, asked), asked + np.arange(16)], axis=-1)
        done.extend(execution.follow(chunk).tolist())
        assert execution.executed == execute
    for period, (chunk_of, meant_for) in enumerate(done):
        assert meant_for == period
        there = [asked for asked in range(0, 5 * execute, execute) if asked == 0 or asked + delay <= period]
        assert chunk_of == max(there)


def test_a_chunk_that_ends_too_early_is_refused() -> None:
    short = np.zeros((8, 3))
    assert len(Execution(12).follow(short)) == 8  # without a delay it is asked again at its end
    with pytest.raises(FoundryError, match="a chunk is 8 periods: it ends before the next one is there"):
        Execution(6, 3).follow(short)
    with pytest.raises(FoundryError, match=r"delay must lie in 0 … execute \(4\), got 5"):
        RolloutSpec(ActorSpec(None), "reach_single", execute=4, delay=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, a run of its rate and one of half of it, both of a few steps."""
    root = tmp_path_factory.mktemp("delay")
    request = Request("reach_single", "sim", 6, seed=0, cameras=("primary",), size=32)
    ingest("tabletop", collect(request, root / "sim.hdf5", quiet=True).path, store=root / "store", name="sim")
    shared = [*TINY, f"data.store={root / 'store'}", "data.window.stream=command", "data.mix=sim"]
    for name, overrides in (("even", ["data.window.horizon=8"]), ("strided", ["data.window.stride=2"])):
        config = read_recipe(None, [*shared, f"run.dir={root / name}", *overrides, "run.steps=2"])
        run_task(resolve_vla(config), quiet=True)
    return root


@pytest.mark.parametrize(("name", "steps"), [("even", 2.0), ("strided", 1.0)])
def test_each_scene_continues_its_own_chunk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, steps: float
) -> None:
    """The policy is told of the answer before, in its own steps; without rtc it is told nothing."""
    act_batch, calls = Policy.act_batch, []

    def watched(self: Policy, *args: Any, underway: Any = (), **kwargs: Any) -> list[Actions]:
        chunks = act_batch(self, *args, underway=underway, **kwargs)
        calls.append((list(underway), chunks))
        return chunks

    monkeypatch.setattr(Policy, "act_batch", watched)
    actor = ActorSpec(str(folder / name))
    shape: dict[str, Any] = {"episodes": 2, "size": 32, "max_steps": 6, "execute": 2, "delay": 2}
    naive = rollout(RolloutSpec(actor, "reach_single", **shape), quiet=True)
    assert len(calls) == 3 and not any(told for told, _ in calls)
    calls.clear()
    guided = rollout(RolloutSpec(actor, "reach_single", rtc=True, **shape), quiet=True)
    assert calls[0][0] == [None] * 8  # a group of scenes, at their start
    for (_, before), (told, _) in zip(calls, calls[1:], strict=False):
        assert [one.actions for one in told] == before
        assert {(one.executed, one.delay) for one in told} == {(steps, steps)}
    for one, other in zip(naive.episodes, guided.episodes, strict=True):
        assert one.film is not None and other.film is not None and one.steps == other.steps == 6
        frames = [(a != b).any() for a, b in zip(one.film.frames, other.film.frames, strict=True)]
        assert not any(frames[:5])  # the first chunk, and what of it goes on during the delay


def test_the_command_line_says_what_was_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["rollout", str(folder / "even"), "--task", "reach_single", "--size", "32", "--episodes", "2"]
    line += ["--max-steps", "4", "--execute", "3", "--delay", "1", "--rtc", "--json"]
    assert run(group, "foundry-eval", line) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["condition"], report["delay"], report["rtc"]) == ("policy-delay1-rtc", 1, True)
    assert (
        Path(report["out"])
        == folder / "even" / "scorecards" / "rollout" / "reach_single-sim-policy-delay1-rtc"
    )
    short = [*line, "--execute", "7", "--delay", "2"]  # the last one given counts
    assert run(group, "foundry-eval", short) == 2
    assert "a chunk is 8 periods: it ends before the next one" in capsys.readouterr().err
    random = ["rollout", "--random", "--task", "reach_single", "--out", str(tmp_path)]
    assert run(group, "foundry-eval", [*random, "--rtc"]) == 2
    assert "random motion has no chunks to continue" in capsys.readouterr().err
    whole = [*random, "--size", "32", "--episodes", "8", "--max-steps", "18", "--execute", "17"]
    assert run(group, "foundry-eval", whole) == 0
    assert "are 16 steps long: it was asked again after these, not after 17" in capsys.readouterr().err
    late = [*random, "--episodes", "2", "--max-steps", "4", "--delay", "3", "--json"]
    assert run(group, "foundry-eval", late) == 0
    assert json.loads(capsys.readouterr().out)["condition"] == "random-delay3"
