"""Gymnasium environments as worlds: their maps, their ends, and rollouts in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foundry_testing.gymnasium_worlds import GANTRY, HILL, Gantry
from foundry_testing.pages import ROOT, run_command
from PIL import Image

from robot_foundry.evaluation.actors import Actor, ActorSpec, Situation
from robot_foundry.evaluation.contact_sheets import save_gif
from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.rollout import GROUP, RolloutSpec, rollout, save
from robot_foundry.evaluation.rollouts.scene import check_words
from robot_foundry.evaluation.world import Outcome, World, WorldInfo
from robot_foundry.evaluation.worlds.gymnasium_world import Column
from robot_foundry.ingest.engine import ingest
from robot_foundry.normalization.space import Dim
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

RANDOM = ActorSpec(run=None)


def go(world: World, *target_A: float) -> Outcome:
    """One period towards one target."""
    world.aim(np.array([target_A]))
    return world.step()


def test_maps_give_roles_and_named_dims_in_their_units() -> None:
    env = Gantry()
    raw, _ = env.reset(seed=8)
    with closing(open_world(GANTRY, "touch", "sim", cameras=("primary",))) as world:
        world.reset(8)
        seen = world.observe()
        np.testing.assert_array_equal(seen.images["primary"], raw["pixels"])
        expected = np.concatenate([raw["robot"]["tip"][0], raw["mark"]]).astype(np.float64) / 100
        np.testing.assert_allclose(seen.state_D, expected, atol=1e-12)
        # A target of 1.7 m is beyond the board of 1 m: the tip goes to its edge, 8 cm a step.
        for _ in range(12):
            raw, *_ = env.step(np.array([100, 50, 50], np.float32))
            go(world, 1.7, 0.5, 0.5)
        np.testing.assert_allclose(world.observe().state_D[:3], raw["robot"]["tip"][0] / 100, atol=1e-7)


@pytest.mark.parametrize(
    ("max_steps", "outcome"),
    # It gives up after 6 steps. Where that is the time there is, it is out of time; before, it has failed.
    [(40, Outcome.FAILURE), (6, Outcome.RUNNING)],
)
def test_an_environment_with_a_limit_of_its_own(max_steps: int, outcome: Outcome) -> None:
    task = replace(GANTRY.tasks["touch"], max_steps=max_steps, options={"patience": 6})
    with closing(open_world(replace(GANTRY, tasks={"touch": task}), "touch", "sim")) as world:
        world.reset(0)
        stay = world.observe().state_D[:3]
        assert [go(world, *stay) for _ in range(6)] == [Outcome.RUNNING] * 5 + [outcome]
        with pytest.raises(FoundryError, match="ended.* 6"):
            go(world, *stay)
        world.reset(1)
        assert go(world, *stay) is Outcome.RUNNING


def test_an_end_that_is_no_success_is_a_failure() -> None:
    with closing(open_world(GANTRY, "touch", "sim")) as world:
        world.reset(0)
        below = world.observe().state_D[:3] * (1, 1, 0)  # straight down, and off the board
        outcomes = []
        while world.observe().state_D[2] >= 0.05:
            outcomes.append(go(world, *below))
        assert outcomes == [Outcome.RUNNING] * (len(outcomes) - 1) + [Outcome.FAILURE]
        assert len(outcomes) > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": (Column("right.gripper_opening", 0, "robot/tp"),)}, "no 'robot/tp', did you mean 'tip'"),
        (
            {"state": (Column("right.gripper_opening", 3, "robot/tip"),)},
            "gripper_opening: 'robot/tip' in .* has no number 3",
        ),
        ({"state": (Column("right.gripper_opening", 0),)}, "opening: the observation of .* has no number 0"),
        ({"state": (Column("right.ee_position", 0, "mark"),)}, "1 columns name 3 dims"),
        ({"state": GANTRY.state[1:]}, "says where it is: that of right.ee_position.x is not in it"),
        ({"action": GANTRY.action[:2]}, r"3 numbers, each of which needs one column; .* \[0, 1\]"),
        ({"cameras": {"primary": "mark"}}, "not an image"),
        ({"cameras": {"primary": None}}, "which is nothing"),
        ({"success": "success"}, "does not say 'success', did you mean 'is_success'"),
        ({"success": "said"}, "says 'yes' for 'said', neither yes nor no"),
        ({"env": "Gantri-v0"}, "Gymnasium does not make the environment 'Gantri-v0'"),
        ({"options": {"patienc": 3}}, "does not make .* unexpected keyword argument 'patienc'"),
        ({"env": "CartPole-v1"}, "not a row of numbers"),
    ],
)
def test_wrong_maps_are_refused(change: dict[str, Any], said: str) -> None:
    of_task = {name: value for name, value in change.items() if name in ("success", "env", "options")}
    of_worlds = {name: value for name, value in change.items() if name not in of_task}
    worlds = replace(GANTRY, tasks={"touch": replace(GANTRY.tasks["touch"], **of_task)}, **of_worlds)
    with pytest.raises(FoundryError, match=said):
        world = open_world(worlds, "touch", "sim")
        world.reset(0)
        go(world, 0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SolverSpec(ActorSpec):
    """An actor that solves the gantry by its state, four equal targets a chunk."""

    run: str | None = None

    def build(self, world: WorldInfo) -> Actor:
        return GantrySolver()


class GantrySolver:
    roles = ("primary",)
    history = 2

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        assert all(situation.images["primary"].shape == (2, 20, 30, 3) for situation in situations)
        return [np.tile([*situation.state_SD[-1, 3:5], 0.5], (4, 1)) for situation in situations]


def test_rollouts_in_a_gymnasium_environment(tmp_path: Path) -> None:
    solved = rollout(RolloutSpec(SolverSpec(), "touch", episodes=11, world=GANTRY), quiet=True)
    assert solved.successes == 11
    assert {episode.told for episode in solved.episodes} == {"touch the red mark"}
    chance = RolloutSpec(RANDOM, "touch", episodes=GROUP + 3, seed=2, world=GANTRY)
    result = rollout(chance, quiet=True)
    assert result.episodes == rollout(chance, quiet=True).episodes
    assert result.successes < 8
    report = save(result, tmp_path / "out")
    assert (report["world"], report["embodiment"], report["trials"]) == ("gantry", "gantry", GROUP + 3)
    assert json.loads((tmp_path / "out" / "rollout.json").read_text())["rate"] == result.successes / 11
    first = next(episode.film for episode in result.episodes if episode.film is not None)
    save_gif(first, tmp_path / "first.gif", result.world.control_hz)
    with Image.open(tmp_path / "first.gif") as film:
        assert film.info["duration"] == 50  # 20 Hz
    with pytest.raises(FoundryError, match="instructions cannot be shuffled.*'touch the red mark'"):
        rollout(replace(chance, shuffle_instructions=True), quiet=True)
    with pytest.raises(FoundryError, match="instructions cannot be shuffled.*'touch the red mark'"):
        check_words(replace(chance, shuffle_instructions=True))


def test_a_built_in_environment_without_pictures(tmp_path: Path) -> None:
    spec = RolloutSpec(RANDOM, "climb", episodes=3, max_steps=60, world=HILL)
    report = save(rollout(spec, quiet=True), tmp_path / "out")
    assert report["outcomes"] == {"running": 3, "success": 0, "failure": 0}
    assert report["files"] == ["rollout.json"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rollout.json"]


def test_the_documented_world_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs" / "worlds.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(page.split("```python\n")[1].split("```")[0], "docs/worlds.md", "exec"), {})
    report = json.loads((tmp_path / "climb" / "rollout.json").read_text())
    assert (report["world"], report["trials"], report["max_steps"]) == ("hill", 4, 100)


def test_the_documented_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("hill.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    told = run_command(page.split("```bash\n")[1].split("```")[0].strip())
    assert "climb (sim), random: " in told and told.rstrip().endswith("hill/rollout.json")


def test_random_motion_goes_straight_or_draws_every_step() -> None:
    for world, task in ((GANTRY, "touch"), (HILL, "climb")):
        info = world.describe(task, "sim")
        actor = RANDOM.build(info)
        state_SD = np.full((1, len(info.state_space)), 0.4)
        first, again, other = actor.act([Situation({}, state_SD, "", seed) for seed in (1, 1, 2)])
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        assert (first >= info.random.low).all() and (first <= info.random.high).all()
        if info.random.speed is None:
            assert len(np.unique(first)) == len(first)
        else:
            way = np.diff(np.concatenate([state_SD[:, :3], first]), axis=0)
            lengths = np.linalg.norm(way, axis=1)
            assert lengths[0] == pytest.approx(0.08) and lengths.max() < 0.08 + 1e-9
            moving = way[lengths > 1e-9] / lengths[lengths > 1e-9, None]
            np.testing.assert_allclose(moving, moving[[0] * len(moving)], atol=1e-9)


SPEC = """
name: gantry
layout: robomimic
content: {cameras: all, encoding: {format: jpeg, quality: 95}, resize: null}
mapping:
  embodiment: {attr: embodiment, default: gantry}
  tool_frame: unknown
  cameras: {board: primary}
  instruction: {attr: instruction}
  state: {right.ee_position: {key: obs/tip}}
  actions:
    command: {right.ee_position: {key: actions}}
"""


def test_a_policy_trained_on_recordings_of_an_environment_acts_in_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "gantry.hdf5", "w") as file:
        for seed in range(4):
            with closing(open_world(GANTRY, "touch", "sim", cameras=("primary",))) as world:
                start, rows = world.reset(seed), []
                outcome = Outcome.RUNNING
                while outcome is Outcome.RUNNING:
                    seen = world.observe()
                    rows.append(
                        (np.array([*seen.state_D[3:5], 0.5]), seen.state_D[:3], seen.images["primary"])
                    )
                    outcome = go(world, *rows[-1][0])
            demo = file.create_group(f"data/demo_{seed}")
            demo.attrs.update(
                {"num_samples": len(rows), "instruction": start.instruction, "embodiment": "gantry"}
            )
            for name, values in zip(
                ("actions", "obs/tip", "obs/board_image"), zip(*rows, strict=True), strict=True
            ):
                demo[name] = np.stack(values)
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
    (tmp_path / "gantry.yaml").write_text(SPEC)
    ingest(str(tmp_path / "gantry.yaml"), tmp_path / "gantry.hdf5", store=tmp_path / "store", name="gantry")
    overrides = [
        "data.mix=gantry",
        "data.window={stream: command, representation: absolute, horizon: 4, image: [16, 16]}",
        "data.global_batch=4",
        "model.backbone.vision={patch: 4, width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
        "model.backbone.decoder={width: 16, depth: 2, heads: 2, kv_heads: 1, mlp_hidden: 32}",
        "model.head={width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
        "model.taps=2",
        "model.tap_width=16",
        "run.steps=2",
        f"data.store={tmp_path / 'store'}",
        f"run.dir={tmp_path / 'run'}",
    ]
    run_task(resolve_vla(read_recipe(None, overrides)), quiet=True)
    spec = RolloutSpec(ActorSpec(str(tmp_path / "run")), "touch", episodes=3, max_steps=6, world=GANTRY)
    result = rollout(spec, quiet=True)
    assert [episode.steps for episode in result.episodes] == [6] * 3 and spec.condition == "policy"
    # What it aims at is what the policy answers to the same picture and dims; the mark is no dim of its own.
    policy, actor = Policy.load(tmp_path / "run"), spec.actor.build(result.world)
    image, state_D = (
        np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8),
        np.arange(1.0, 6.0) / 10,
    )
    (target_TA,) = actor.act([Situation({"primary": image[None]}, state_D[None], "touch it", seed=4)])
    tip = {f"right.ee_position.{axis}": state_D[k] for k, axis in enumerate("xyz")}
    answer = policy.act({"images": {"primary": image}, "state": tip}, "touch it", seed=4)
    assert target_TA.shape == (4, 3)
    np.testing.assert_allclose(target_TA, answer.values_TA, atol=1e-6)
    deltas = tuple(
        replace(column, dim=Dim(str(column.dim), "m", "position", "delta")) for column in GANTRY.action
    )
    with pytest.raises(FoundryError, match="representation 'delta' in one space and 'absolute' in another"):
        spec.actor.build(replace(GANTRY, action=deltas).describe("touch", "sim"))
