"""Meta-World's demonstrations from the expert to the dataset and back, and pictures with words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

import robot_foundry
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.metaworld.demonstrations import MetaWorldDemonstrator
from robot_foundry.evaluation.worlds.metaworld.sawyer import Sawyer
from robot_foundry.evaluation.worlds.metaworld.scenes import BINS, MetaWorldScenes
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS
from robot_foundry.evaluation.worlds.metaworld.views import get_look
from robot_foundry.evaluation.worlds.metaworld.world import MetaWorlds
from robot_foundry.ingest import ingest
from robot_foundry.runtime.errors import FoundryError

pytestmark = pytest.mark.skipif(find_spec("metaworld") is None, reason="needs the extra metaworld")
TASKS = ("reach", "push", "drawer-close", "button-press", "window-close")


def replayed(task: str, folder: Path, episodes: int) -> tuple[set[str], set[str]]:
    """The episodes that the expert solved, and those that the canonical actions of the dataset solve."""
    file = folder / f"{task}.hdf5"
    collect(Request(task, "sim", episodes, 3, (), 16, "metaworld"), file, quiet=True)
    with h5py.File(file) as recorded:
        demos = {name: dict(demo.attrs) for name, demo in recorded["data"].items()}
    ingest("metaworld", file, store=folder / "store", name=task)
    dataset = robot_foundry.open(task, folder / "store")
    world = MetaWorlds().build(task, "sim", (), 64)
    assert dataset.space("command").names == world.info.action_space.names
    solved, first = set(), 0
    for episode in dataset.episodes().to_pylist():
        rows = range(first, first + episode["num_frames"])
        first = rows.stop
        world.reset(int(demos[episode["id"]]["seed"]))
        world.aim(np.stack([dataset[row]["action.command"] for row in rows]))
        outcomes = (world.step() for _ in rows)
        if any(outcome is Outcome.SUCCESS for outcome in outcomes):
            solved.add(episode["id"])
    return {name for name, attrs in demos.items() if attrs["success"]}, solved


@pytest.mark.parametrize("task", TASKS[:3])
def test_canonical_actions_solve_again_what_the_expert_solved(task: str, tmp_path: Path) -> None:
    by_expert, by_replay = replayed(task, tmp_path, 2)
    assert by_expert and by_expert <= by_replay


@pytest.mark.soak
@pytest.mark.parametrize("task", TASKS)
def test_canonical_actions_solve_twenty_episodes_again(task: str, tmp_path: Path) -> None:
    by_expert, by_replay = replayed(task, tmp_path, 20)
    assert len(by_expert) >= 19 and by_expert <= by_replay


def test_a_recording_says_what_was_seen_and_told() -> None:
    demonstrator = MetaWorldDemonstrator("reach", "sim", ("wrist_right", "primary"), 32)
    recording, again = demonstrator.record(4), demonstrator.record(4)
    assert recording.success and recording.instruction == "reach the goal"
    for name, array in recording.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name], err_msg=name)
    count = len(recording.arrays["actions"])
    shapes = {name: array.shape for name, array in recording.arrays.items()}
    assert shapes == {
        "actions": (count, 4),
        "obs/eef_pos": (count, 3),
        "obs/gripper": (count, 1),
        "obs/front_image": (count, 32, 32, 3),
        "obs/wrist_image": (count, 32, 32, 3),
    }
    world = MetaWorlds().build("reach", "sim", ("primary",), 32)
    world.reset(4)
    first = world.observe()
    np.testing.assert_array_equal(first.state_D[:3], recording.arrays["obs/eef_pos"][0])
    np.testing.assert_array_equal(first.images["primary"], recording.arrays["obs/front_image"][0])


def test_places_are_where_the_picture_shows_things() -> None:
    """The second source is the picture: the goal of reach is bright and red."""
    view = get_look("sim+primary=topview").views["primary"]
    sawyer = Sawyer("reach", False)
    for seed in range(3):
        sawyer.begin(seed, np.array([-0.35, 0.5, 0.3]))
        before = sawyer.image(view, 128).astype(int)
        place = sawyer.eye(view).place(sawyer.goal_3)
        assert place is not None
        red = (before[..., 0] > 180) & (before[..., 1] < 60) & (before[..., 2] < 60)
        rows, columns = np.nonzero(red)
        near = np.hypot(columns + 0.5 - 128 * place[0], rows + 0.5 - 128 * place[1]) < 6
        assert near.sum() > 3
        middle = columns[near].mean() + 0.5, rows[near].mean() + 0.5
        np.testing.assert_allclose(middle, [128 * part for part in place], atol=1.5)


def test_scenes_say_places_in_bins_and_ways_that_lead_there() -> None:
    scenes = MetaWorldScenes("sim", 32, ("reach",))
    asked: dict[str, list[str]] = {}
    for index in range(12):
        described, again = scenes.describe("held_out", 1, index), scenes.describe("held_out", 1, index)
        np.testing.assert_array_equal(described.picture_HWC, again.picture_HWC)
        assert described.questions == again.questions and described.facts["task"] == "reach"
        for question in described.questions:
            asked.setdefault(question.kind, []).append(question.answer)
    assert set(asked) == {"position", "way", "distance", "side", "height"}
    places = [tuple(map(int, answer.split())) for answer in asked["position"]]
    assert all(0 <= number < BINS for place in places for number in place) and len(set(places)) > 12
    for way in asked["way"]:
        words = way.split()
        assert (
            words[0] in ("right", "left") and words[2] in ("forward", "back") and words[4] in ("up", "down")
        )
    kinds = {
        question.kind for index in range(12) for question in scenes.describe("train", 1, index).questions
    }
    assert "list" in kinds and "position" in kinds


def test_scenes_are_of_the_tasks_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--pictures", "3", "--held-out", "1", "--size", "16", "--out", str(tmp_path / "scenes")]
    code = run(
        group, "foundry-eval", ["collect", "scenes", "--world", "metaworld", "--tasks", "push", *options]
    )
    assert code == 0 and "train: 3 pictures" in capsys.readouterr().out
    for tasks, said in ((("pusch",), "did you mean 'push'"), (("dial-turn",), "there are no scenes")):
        with pytest.raises(FoundryError, match=said):
            MetaWorldScenes("sim", 32, tasks)
    with pytest.raises(FoundryError, match="of no task"):
        from robot_foundry.evaluation.worlds.tabletop.scenes import TabletopScenes

        TabletopScenes("sim", 32, ("push",))


def test_an_unknown_task_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["collect", "metaworld", "--task", "buton-press", "--episodes", "1", "--out"]
    assert run(group, "foundry-eval", [*arguments, str(tmp_path / "a.hdf5")]) == 2
    assert "did you mean 'button-press'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()) and "buton-press" not in INSTRUCTIONS
