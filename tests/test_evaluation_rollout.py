"""Closed-loop rollouts: counting, controls, pictures, and the same result whatever the processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom, binomtest

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation import contact_sheets
from robot_foundry.evaluation.actors import Actor, ActorSpec, RandomActor, Situation
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.rollout import GROUP, RolloutSpec, rollout, save
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import WorldInfo
from robot_foundry.evaluation.worlds.tabletop.commands import (
    action_space,
    canonical_state,
    canonical_to_commands,
)
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.evaluation.worlds.tabletop.experts import Expert
from robot_foundry.runtime.errors import FoundryError, UsageError

RANDOM = ActorSpec(run=None)


@dataclass(frozen=True)
class ScriptedSpec(ActorSpec):
    """An actor that knows its scenes by their starting state and answers with the expert's whole plan."""

    run: str | None = None
    seed: int = 0
    task: str = "reach_pair"
    history: int = 2

    def build(self, world: WorldInfo) -> Actor:
        return Scripted(self)


class Scripted:
    roles = ("primary",)

    def __init__(self, spec: ScriptedSpec) -> None:
        self.spec, self.history = spec, spec.history
        self.plans: dict[bytes, np.ndarray] = {}
        self.seen: list[Situation] = []
        for index in range(4 * GROUP):
            world = Tabletop(spec.task, cameras=())
            world.reset(seed=scene_seed("rollout", spec.seed, index))
            start = world.state().tobytes()
            expert = Expert(world.task, world.goal)
            steps = []
            while not expert.done(world.physics):
                steps.append(expert.command(world.physics))
                world.advance(steps[-1])
            self.plans[start] = np.stack([canonical_state(step) for step in steps])

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        self.seen += situations
        return [self.plans[situation.state_SD[-1].tobytes()] for situation in situations]


@pytest.mark.parametrize(
    "successes,trials", [(0, 10), (10, 10), (1, 1), (0, 1), (81, 100), (243, 300), (3, 7)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_interval_agrees_with_scipys_exact_test(successes: int, trials: int, confidence: float) -> None:
    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert clopper_pearson(successes, trials, confidence) == pytest.approx(
        (interval.low, interval.high), abs=1e-9
    )


@given(trials=st.integers(1, 25), rate=st.floats(0.01, 0.99))
def test_interval_covers_the_true_rate_often_enough(trials: int, rate: float) -> None:
    """Its law: over all outcomes the interval holds the true rate with at least its confidence."""
    covered = 0.0
    for successes in range(trials + 1):
        low, high = clopper_pearson(successes, trials)
        covered += float(binom.pmf(successes, trials, rate)) if low <= rate <= high else 0.0
    assert covered >= 0.95 - 1e-9


def test_impossible_counts_are_refused() -> None:
    for arguments in ((5, 4, 0.95), (-1, 4, 0.95), (1, 4, 1.0)):
        with pytest.raises(FoundryError):
            clopper_pearson(*arguments)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_a_right_plan_succeeds_and_a_scene_does_not_depend_on_how_many_there_are() -> None:
    spec = RolloutSpec(ScriptedSpec(), "reach_pair", episodes=11, execute=40)
    result = rollout(spec, quiet=True)
    assert result.successes == 11
    assert [episode.index for episode in result.episodes] == list(range(11))
    assert [episode.seed for episode in result.episodes] == [scene_seed("rollout", 0, i) for i in range(11)]
    fewer = rollout(replace(spec, episodes=5), quiet=True)
    assert fewer.episodes == result.episodes[:5]


def test_the_wrong_object_fails_and_stops_the_episode() -> None:
    """Random motion among several objects ends in all three ways, and all are counted."""
    result = rollout(RolloutSpec(RANDOM, "reach", episodes=48), quiet=True)
    outcomes = {episode.outcome for episode in result.episodes}
    assert outcomes == {"success", "failure", "running"}
    report = result.to_json()
    assert sum(report["outcomes"].values()) == report["trials"] == 48
    assert report["rate"] < 0.35
    assert all(episode.steps == 32 for episode in result.episodes if episode.outcome == "running")
    assert all(episode.steps <= 32 for episode in result.episodes)


def commands(chunk: np.ndarray, world: Tabletop) -> np.ndarray:
    """A chunk of canonical targets as commands of the world's arm."""
    arms, rotates = world.task.arms, world.variant.rotates
    return canonical_to_commands(chunk, action_space(arms, rotates), arms, rotates)


def situations_of(spec: RolloutSpec) -> list[Situation]:
    """The situations that an actor meets while it runs `spec`."""
    scripted = Scripted(ScriptedSpec())

    @dataclass(frozen=True)
    class Watched(ActorSpec):
        def build(self, world: WorldInfo) -> Actor:
            return scripted

    rollout(replace(spec, actor=Watched(None)), quiet=True)
    return scripted.seen


def test_what_the_actor_is_shown() -> None:
    situations = situations_of(RolloutSpec(ScriptedSpec(), "reach_pair", episodes=GROUP, execute=40))
    assert len(situations) == GROUP
    for situation in situations:
        images = situation.images["primary"]
        assert (images.shape, images.dtype) == ((2, 64, 64, 3), np.uint8)
        np.testing.assert_array_equal(images[0], images[1])  # before the first step there is no past
        assert images.std() > 10
    assert len({situation.seed for situation in situations}) == GROUP


def test_blank_takes_the_pictures_and_shuffle_the_words() -> None:
    spec = RolloutSpec(ScriptedSpec(), "reach_pair", episodes=GROUP, execute=40)
    blank = situations_of(replace(spec, blank=True))
    assert all(not situation.images["primary"].any() for situation in blank)
    shuffled = rollout(replace(spec, shuffle_instructions=True), quiet=True)
    world = Tabletop("reach_pair", cameras=())
    for episode in shuffled.episodes:
        world.reset(seed=episode.seed)
        assert world.instruction == episode.asked != episode.told
        colour = world.physics.scene.solids[world.goal.target].colour
        assert colour in episode.asked and colour not in episode.told
    assert replace(spec, actor=ActorSpec("run"), blank=True).condition == "policy-blank"


def test_the_history_is_what_the_world_showed_step_by_step() -> None:
    """Against a second run of the first scene, stepped one by one and rendered at every step."""
    watched: list[tuple[Situation, np.ndarray]] = []

    class Watched(RandomActor):
        roles = ("primary", "wrist_right")
        history = 3

        def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
            chunks = super().act(situations)
            watched.append((situations[0], chunks[0]))
            return chunks

    @dataclass(frozen=True)
    class WatchedSpec(ActorSpec):
        def build(self, world: WorldInfo) -> Actor:
            return Watched(world)

    spec = RolloutSpec(WatchedSpec(None), "reach_single", "real", episodes=1, execute=5, max_steps=15)
    episode = rollout(spec, quiet=True).episodes[0]
    assert (episode.outcome, episode.steps) == ("running", 15)
    world = Tabletop("reach_single", variant="real", cameras=("primary", "wrist_right"))
    observation, _ = world.reset(seed=episode.seed)
    seen = [observation] * 3
    for situation, chunk in watched[:3]:
        for moment in range(3):
            np.testing.assert_array_equal(situation.state_SD[moment], seen[moment - 3]["state"])
            for role, image in seen[moment - 3]["images"].items():
                np.testing.assert_array_equal(situation.images[role][moment], image)
        seen += [world.step(command)[0] for command in commands(chunk[:5], world)]
    assert (watched[1][0].images["primary"][0] != watched[1][0].images["primary"][2]).any()


def without_av() -> None:
    raise UsageError("the package that encodes videos is not installed")


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_report_and_pictures(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ending == ".gif":
        monkeypatch.setattr(contact_sheets, "av_package", without_av)
    result = rollout(RolloutSpec(RANDOM, "reach", episodes=24, seed=4), quiet=True)
    report = save(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "rollout.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["files"]) == {path.name for path in (tmp_path / "out").iterdir()}
    assert [scene["seed"] for scene in report["scenes"]] == [scene_seed("rollout", 4, i) for i in range(24)]
    low, high = report["interval_95"]
    assert low <= report["rate"] <= high
    sizes = []
    for kind in ("", "_success", "_failure"):
        with Image.open(tmp_path / "out" / f"contact_sheet{kind}.png") as sheet:
            sizes.append(sheet.size)
            assert len(sheet.convert("RGB").getcolors(2**24)) > 500
    assert sizes[0][0] > 1000 and sizes[0][1] > 600 and sizes[1][1] < sizes[0][1]
    films = [name for name in report["files"] if name.endswith(ending)]
    assert [("success" in name) for name in films] == [True, True, False, False]
    for name in films:
        scene = report["scenes"][int(name.split("_")[1])]
        assert ("success" in name) == (scene["outcome"] == "success")
        frames = num_frames(tmp_path / "out" / name)
        rest = 10 if ending == ".mp4" else 0  # a second on the last frame
        # Pillow joins equal pages: an arm that stands still makes fewer of them.
        assert 1 < frames <= scene["steps"] + 1 + rest
        assert ending == ".gif" or frames == scene["steps"] + 1 + rest
    save(rollout(RolloutSpec(RANDOM, "reach_single", episodes=1), quiet=True), tmp_path / "out")
    assert not (tmp_path / "out" / "contact_sheet_success.png").exists()


def num_frames(path: Path) -> int:
    if path.suffix == ".gif":
        with Image.open(path) as film:
            return film.n_frames
    import av

    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["rollout", "--random", "--task", "reach_single", "--episodes", "9", "--json"]
    assert run(group, "foundry-eval", line) == 2
    assert "--out" in capsys.readouterr().err
    line += ["--out", str(tmp_path / "out")]
    assert run(group, "foundry-eval", [*line, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 9
    assert not (tmp_path / "out").exists()
    assert run(group, "foundry-eval", line) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["trials"] == 9 and printed["condition"] == "random"
    for wrong, code, said in (
        (["rollout", "--task", "reach"], 2, "--random"),
        ([*line, "--episodes", "0"], 2, "episodes must be at least 1"),
        ([*line, "--variant", "reel"], 2, "did you mean 'real'"),
    ):
        assert run(group, "foundry-eval", wrong) == code
        assert said in capsys.readouterr().err
