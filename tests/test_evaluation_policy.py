"""A trained policy in closed loop: from recording to rollout, the same with one process and with four."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.gymnasium_worlds import HILL
from foundry_testing.rollout_worlds import assert_alike
from foundry_testing.trainer_runs import TINY

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.actors import ActorSpec, Situation
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.recorders.formats import FORMATS
from robot_foundry.evaluation.rollout import GROUP, RolloutSpec, rollout
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.ingest.engine import ingest
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.actions import Actions
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a recording of each variant and runs of a few steps: `both`, and two at other rates."""
    root = tmp_path_factory.mktemp("policy")
    for variant in ("sim", "real"):
        made = collect(
            Request("reach_pair", variant, 8, seed=0, cameras=("primary",), size=32),
            root / f"{variant}.hdf5",
            quiet=True,
        )
        ingest("tabletop", made.path, store=root / "store", name=variant)
    shared = [*TINY, f"data.store={root / 'store'}", "data.window.stream=command"]
    for name, overrides in (
        ("both", ["data.mix=sim=0.5,real=0.5", "data.window.history=2"]),
        ("strided", ["data.mix=sim", "data.window.stride=2", "data.window.history=2", "run.steps=1"]),
        ("fine", ["data.mix=sim", "data.window.control_hz=15", "data.window.history=0.2s", "run.steps=1"]),
    ):
        run_task(resolve_vla(read_recipe(None, [*shared, f"run.dir={root / name}", *overrides])), quiet=True)
    return root


def test_processes_change_nothing(four_workers: int, folder: Path, tmp_path: Path) -> None:
    """Rollouts of a policy, and recordings: equal with four processes and inline."""
    spec = RolloutSpec(
        ActorSpec(str(folder / "both"), dataset="sim"),
        "reach_pair",
        episodes=3 * GROUP + 3,
        size=32,
        max_steps=10,
    )
    inline, parallel = (rollout(spec, workers=count, quiet=True) for count in (0, four_workers))
    assert_alike(inline, parallel)
    request = Request("reach_single", "real", 20, seed=5, cameras=("primary",), size=16)
    for to in FORMATS:
        for workers in (0, four_workers):
            collect(request, tmp_path / str(workers) / to, to=to, workers=workers, quiet=True)
    one, other = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "0", tmp_path / str(four_workers))
    )
    assert one == other
    assert {path.parts[0] for path in one} == set(FORMATS)


def test_one_policy_drives_both_arms(folder: Path) -> None:
    """Trained on both, it targets a pose in one world and a position in the other; it sees and is told."""
    for variant, dims in (("sim", 10), ("real", 4)):
        info = get_world("tabletop").describe("reach_pair", variant)
        actor = ActorSpec(str(folder / "both"), dataset=variant).build(info)
        world = Tabletop("reach_pair", variant=variant, cameras=actor.roles, size=32)
        observation, _ = world.reset(seed=0)
        images = {role: np.stack([image] * 2) for role, image in observation["images"].items()}
        seen = Situation(images, np.stack([observation["state"]] * 2), world.instruction, seed=1)
        blank = replace(seen, images={role: np.zeros_like(image) for role, image in images.items()})
        told = replace(seen, instruction="go away")
        chunk, without_pictures, other_words, again = actor.act([seen, blank, told, seen])
        assert chunk.shape == (4, dims)
        np.testing.assert_array_equal(chunk, again)
        for other in (without_pictures, other_words):
            assert (chunk != other).any()
        spec = RolloutSpec(
            ActorSpec(str(folder / "both"), dataset=variant),
            "reach_pair",
            variant,
            episodes=1,
            size=32,
            max_steps=4,
        )
        film = rollout(spec, quiet=True).episodes[0].film
        assert film is not None and (film.frames[-1] != film.frames[0]).any()


def test_the_command_line_runs_a_policy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["rollout", str(folder / "both"), "--task", "reach_pair", "--dataset", "sim", "--size", "32"]
    line += ["--episodes", "3", "--max-steps", "4", "--execute", "2", "--json"]
    assert run(group, "foundry-eval", line) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trials"] == 3 and report["condition"] == "policy"
    assert Path(report["run"]) == folder / "both" / "checkpoints" / "step-00000006"  # which one it was
    kept = folder / "both" / "scorecards" / "rollout" / "reach_pair-sim-policy"
    assert Path(report["out"]) == kept and (kept / "contact_sheet.png").is_file()


@pytest.mark.parametrize(
    ("name", "hz", "moments", "steps"),
    [("strided", 5, 3, 7), ("fine", 15, 3, 3)],  # 4 steps of 0.2 s, and 4 of 1/15 s, in tenths of a second
)
def test_a_policy_keeps_its_own_rate_in_a_loop_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, hz: float, moments: int, steps: int
) -> None:
    """It sees the past at its own steps, and what it predicts for a time is commanded at that time."""
    policy = Policy.load(folder / name)
    spec = ActorSpec(str(folder / name))
    actor, seen, said = spec.build(get_world("tabletop").describe("reach_pair", "sim")), [], []
    act_batch = Policy.act_batch

    def watched(self: Policy, observations: Any, *args: Any, **kwargs: Any) -> list[Actions]:
        chunks = act_batch(self, observations, *args, **kwargs)
        seen.extend(observations)
        said.extend(chunks)
        return chunks

    monkeypatch.setattr(Policy, "act_batch", watched)
    world = Tabletop("reach_pair", cameras=actor.roles, size=32)
    world.reset(seed=0)
    assert actor.history == moments
    state_SD = np.stack([world.state()] * moments)
    state_SD[:, 0] += 0.01 * np.arange(moments)  # a centimetre each tenth of a second
    images = {"primary": np.arange(moments, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2)}
    images["primary"] = images["primary"].repeat(3, 3)
    (target_TA,) = actor.act([Situation(images, state_SD, "reach", seed=1)])
    history = policy.steps(0).history
    ago = np.arange(history - 1, -1, -1) / hz
    column = policy.spaces.datasets[0].state.index("right.ee_position.x")
    np.testing.assert_allclose(
        seen[0]["state"][:, column], np.maximum(state_SD[-1, 0] - 0.1 * ago, state_SD[0, 0]), atol=1e-9
    )
    assert (
        seen[0]["images"]["primary"][:, 0, 0, 0].tolist()
        == np.maximum(np.floor(moments - 1 - 10 * ago + 1e-9), 0).astype(int).tolist()
    )
    (chunk,) = said
    assert chunk.dt == pytest.approx(1 / hz) and len(target_TA) == steps
    x_T = chunk.values_TA[:, chunk.space.index("right.ee_position.x")]
    expected = np.interp(np.arange(steps) / 10, np.arange(4) / hz, x_T)
    np.testing.assert_allclose(target_TA[:, 0], expected, atol=1e-9)
    film = rollout(RolloutSpec(spec, "reach_pair", episodes=1, size=32, max_steps=6), quiet=True)
    assert film.episodes[0].steps == 6


def test_learning_where_it_was_in_place_of_what_it_was_told_is_said(folder: Path) -> None:
    settings = [*TINY, f"data.store={folder / 'store'}", "data.mix=sim", f"run.dir={folder / 'none'}"]
    [told] = resolve_vla(read_recipe(None, settings)).notes
    assert "next_state" in told and told.endswith("data.window.stream=command")
    assert resolve_vla(read_recipe(None, [*settings, "data.window.stream=command"])).notes == ()


def test_what_a_policy_cannot_do_is_said(folder: Path) -> None:
    spec = RolloutSpec(ActorSpec(str(folder / "both"), dataset="simm"), "reach_pair", episodes=1, size=32)
    with pytest.raises(FoundryError, match="did you mean 'sim'"):
        rollout(spec, quiet=True)
    elsewhere = replace(spec, actor=replace(spec.actor, dataset="sim"), task="climb", world=HILL)
    with pytest.raises(FoundryError, match=r"'hill' needs targets that the policy does not give \(base.thro"):
        rollout(elsewhere, quiet=True)
    seen = get_world("tabletop").describe("reach_pair", "sim")
    blind = replace(
        seen, state_space=ActionSpace(["right.gripper_opening"]), random=replace(seen.random, speed=None)
    )
    with pytest.raises(
        FoundryError, match=r"does not measure what the policy's targets are relative to \(right.ee"
    ):
        ActorSpec(str(folder / "both"), dataset="sim").build(blind)
