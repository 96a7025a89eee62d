"""A stranger's robot: what it reports becomes an observation, what a policy answers a command it takes.

Second sources are the recording itself and robosuite's own rule for a command, written out here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import make_version
from make_robomimic import make
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.open import open as open_dataset
from robot_foundry.loader.robot.dataset import Dataset
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy import Actions, Policy
from robot_foundry.runtime.errors import FoundryError

STATE = ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos")
TOOL = np.stack([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], axis=1)  # the tool frame of CONTENT in the source's
REACH = np.array([0.05, 0.05, 0.05, 0.5, 0.5, 0.5])  # of a full command, m and rad
CONTENT = ["content.flip=vertical", "content.channel_order=bgr", "content.rename={agentview: front}",
           "mapping.cameras={front: primary, robot0_eye_in_hand: wrist_right}", "content.resize=[16, 24]",
           "mapping.tool_frame={lateral: [0, 1, 0], position: [0, 0, 0.05]}"]  # fmt: skip


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "lift.hdf5"
    make(path, episodes=4, frames=12, size=32)
    return path


@pytest.fixture(scope="module")
def store(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'lift' and 'more', of one robot and one recording; 'plain', whose pictures and poses are unchanged."""
    folder = tmp_path_factory.mktemp("store")
    run(load_spec("robomimic", CONTENT), recording, store=folder, name="lift")
    run(
        load_spec("robomimic", [*CONTENT, "mapping.instruction=[{text: more}]"]),
        recording,
        store=folder,
        name="more",
    )
    run(load_spec("robomimic"), recording, store=folder, name="plain")
    return Store(folder)


@pytest.fixture(scope="module")
def policy(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Of the stream `command` of 'lift', history 2."""
    folder = tmp_path_factory.mktemp("run")
    trainer_runs.run(store, folder, "data.window.stream=command", "data.window.history=2", "run.steps=2")
    return Policy.load(folder)


@pytest.fixture(scope="module")
def mixed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Of the stream `next_state` of all three."""
    folder = tmp_path_factory.mktemp("mixed")
    trainer_runs.run(store, folder, "data.mix=lift=1,more=1,plain=1", "run.steps=1", "run.save_every=1")
    return Policy.load(folder)


def recorded(recording: Path, episode: int) -> dict[str, np.ndarray]:
    with h5py.File(recording) as file:
        group = file[f"data/demo_{episode}"]
        names = ("actions", *STATE, "obs/agentview_image", "obs/robot0_eye_in_hand_image")
        return {name: group[name][()] for name in names}


def episodes_of(dataset: Dataset, recording: Path) -> Any:
    for i in range(4):
        yield dataset.episode(f"demo_{i}"), recorded(recording, i)


def test_what_the_robot_reports_is_what_the_dataset_stores(
    policy: Policy, store: Store, recording: Path
) -> None:
    for episode, source in episodes_of(open_dataset("lift", store), recording):
        for i in (0, 7):
            raw = {
                "images": {"agentview": source["obs/agentview_image"][i],
                           "robot0_eye_in_hand": source["obs/robot0_eye_in_hand_image"][i]},
                "state": {key: source[key][i] for key in STATE},
            }  # fmt: skip
            seen = policy.observe(raw)
            assert np.array_equal(seen["state"], episode.rows["state"][i])
            assert list(seen["images"]) == ["primary"]  # the policy has no other
            raw["images"]["robot0_eye_in_hand"] = None  # so that is not looked at
            assert np.array_equal(policy.observe(raw)["images"]["primary"], seen["images"]["primary"])
            stored = episode[i]["image.primary"]
            assert seen["images"]["primary"].shape == stored.shape == (16, 24, 3)
            assert np.abs(seen["images"]["primary"].astype(int) - stored).mean() < 3  # its JPEG
            assert policy.act(seen, "lift", seed=0).values_TA.shape == (4, 10)


def test_moments_of_the_robot_are_a_history(policy: Policy, store: Store, recording: Path) -> None:
    source = recorded(recording, 1)
    raw = {
        "images": {"agentview": source["obs/agentview_image"][3:5]},
        "state": {key: source[key][3:5] for key in STATE},
    }
    seen = policy.observe(raw)
    episode = open_dataset("lift", store).episode("demo_1")
    assert np.array_equal(seen["state"], episode.rows["state"][3:5])
    assert seen["images"]["primary"].shape == (2, 16, 24, 3)
    assert np.isfinite(policy.act(seen, "lift", seed=0).values_TA).all()
    for wrong, message in (
        ({**raw, "pictures": {}}, "an observation has no 'pictures', only images and state"),
        ({"images": {"agentvew": 0}}, "the robot has no camera 'agentvew', did you mean 'agentview'"),
        ({"images": {}}, "the observed state lacks the arrays obs/robot0_eef_pos"),
        ([], "the observation is of type list, not a dict of images and state"),
        (None, "the observation is None, not a dict"),
        ({**raw, "images": [0]}, "the images are of type list, not pictures by the name of the camera"),
        ({**raw, "state": np.zeros(10)}, "the state is of type ndarray, not arrays by key"),
    ):
        with pytest.raises(FoundryError, match=message):
            policy.observe(wrong)  # type: ignore[arg-type]
    with pytest.raises(FoundryError, match="the instruction is None, not a text"):
        policy.act(seen, None, seed=0)  # type: ignore[arg-type]
    with pytest.raises(FoundryError, match="the observation is of type list, not a dict"):
        policy.act([], "lift", seed=0)  # type: ignore[arg-type]


def test_recorded_targets_are_the_recorded_commands(policy: Policy, store: Store, recording: Path) -> None:
    """Closed loop: every step from the state that was measured at it."""
    for episode, source in episodes_of(open_dataset("lift", store), recording):
        targets, states = episode.rows["action.command"], episode.rows["state"]
        for i in range(len(episode)):
            sent = policy.command(targets[i], states[i])
            assert sent.shape == (7,) and sent.dtype == np.float64
            np.testing.assert_allclose(sent, np.clip(source["actions"][i], -1, 1), rtol=0, atol=1e-5)
            by_name = dict(zip(policy.spaces.datasets[0].state.names, states[i], strict=True))
            assert np.array_equal(policy.command(targets[i : i + 1], by_name), sent[None])


def replayed(position: Any, rotation: Rotation, command: Any) -> tuple[Any, Rotation]:
    """robosuite's goal, the command by the controller's scale added, rotations from the left, and reached."""
    moved = np.clip(command[:6], -1, 1) * REACH
    return position + moved[:3], Rotation.from_rotvec(moved[3:]) * rotation


def test_a_chunk_sent_open_loop_passes_its_targets(policy: Policy, store: Store, recording: Path) -> None:
    """Targets of the next states, in the form of commands: step k starts where step k - 1 leads."""
    episode = open_dataset("lift", store).episode("demo_2")
    source = recorded(recording, 2)
    targets, states = episode.rows["action.next_state"], episode.rows["state"]
    chunk = policy.command(
        Actions(targets[:6].astype(float), policy.spaces.datasets[0].action, 0.05), states[0]
    )
    assert chunk.shape == (6, 7)
    position, rotation = source[STATE[0]][0], Rotation.from_quat(source[STATE[1]][0])
    for k in range(6):
        position, rotation = replayed(position, rotation, chunk[k])
        np.testing.assert_allclose(position, source[STATE[0]][k + 1], rtol=0, atol=1e-6)
        assert (rotation.inv() * Rotation.from_quat(source[STATE[1]][k + 1])).magnitude() < 1e-5
    far = targets[:1].copy()
    far[0, :3] += 1.0
    assert np.array_equal(policy.command(far, states[0])[0, :3], np.ones(3))  # at the controller's limit


def test_what_follows_is_no_command_but_can_be_told_as_one(
    mixed: Policy, store: Store, recording: Path
) -> None:
    policy = replace(mixed, spaces=replace(mixed.spaces, datasets=mixed.spaces.datasets[:1]))
    assert policy.config.data.window.stream == "next_state"
    episode = open_dataset("lift", store).episode("demo_0")
    raw = recorded(recording, 0)
    observation = policy.observe({"images": {}, "state": {key: raw[key][0] for key in STATE}})
    actions = policy.act(observation, "lift", seed=0)
    with pytest.raises(FoundryError, match="ee_rotation of 'next_state' is the state that follows") as error:
        policy.command(actions, observation["state"])
    assert error.value.hint == "say it in the form of another stream: stream='command'"
    sent = policy.command(actions, observation["state"], stream="command")
    assert sent.shape == (4, 7) and np.abs(sent).max() <= 1
    assert np.array_equal(
        sent[0], policy.command(actions.values_TA[0], episode.rows["state"][0], stream="command")
    )
    with pytest.raises(FoundryError, match="has the shape|do not have 10 dims"):
        policy.command(actions.values_TA[:, :9], observation["state"], stream="command")
    with pytest.raises(FoundryError, match="the observation has no state"):
        policy.command(actions, None, stream="command")
    other = Actions(actions.values_TA[:, :3], ActionSpace(["right.ee_position"]), None)
    with pytest.raises(FoundryError, match="the actions are not of 'lift'"):
        policy.command(other, observation["state"], stream="command")


def test_a_checkpoint_without_the_robot_says_so(store: Store, tmp_path: Path) -> None:
    stranger = Store(tmp_path / "store")
    make_version(stranger, "lift", [[12, 15]], images=True)
    trainer_runs.run(stranger, tmp_path / "run", "run.steps=1", "run.save_every=1")
    policy = Policy.load(tmp_path / "run")
    for ask in (lambda: policy.observe({"state": {}}), lambda: policy.command(np.zeros(10), np.zeros(10))):
        with pytest.raises(FoundryError, match="does not say how 'lift' was made of its source") as error:
            ask()
        assert "ingest it again" in (error.value.hint or "")


def test_a_dataset_is_named_only_where_robots_differ(mixed: Policy, recording: Path) -> None:
    raw = {"state": {key: recorded(recording, 0)[key][0] for key in STATE}}
    seen = mixed.observe(raw, dataset="lift")
    chunk = mixed.act(seen, "lift", seed=0)
    for name in mixed.datasets:
        assert np.array_equal(chunk.values_TA, mixed.act(seen, "lift", seed=0, dataset=name).values_TA)
    own = mixed.spaces.datasets
    for changes in (
        {"embodiment": "ur5"}, {"fps": 10.0}, {"cameras": ("primary",)},
        {"state": ActionSpace(own[0].state.dims[:9])}, {"action": ActionSpace(own[0].action.dims[:9])},
    ):  # fmt: skip
        unlike = replace(mixed, spaces=replace(mixed.spaces, datasets=(own[0], replace(own[1], **changes))))
        with pytest.raises(FoundryError, match="trained on 2 datasets: say which one"):
            unlike.act(seen, "lift", seed=0)
    scaled = replace(mixed, scales=replace(mixed.scales, action=mixed.scales.action * 3))
    with pytest.raises(FoundryError, match="trained on 3 datasets: say which one"):
        scaled.act(seen, "lift", seed=0)


def test_a_source_is_named_only_where_sources_differ(mixed: Policy, recording: Path) -> None:
    """'plain' has equal dims, but its pictures and poses are not changed on the way."""
    raw = {"state": {key: recorded(recording, 0)[key][0] for key in STATE}}
    seen = mixed.observe(raw, dataset="more")
    chunk = mixed.act(seen, "lift", seed=0)
    for ask in (lambda: mixed.observe(raw), lambda: mixed.command(chunk, seen["state"], stream="command")):
        with pytest.raises(FoundryError, match="'lift' and 'plain' were made of unlike sources"):
            ask()
    plain = mixed.observe(raw, dataset="plain")
    assert not np.array_equal(seen["state"], plain["state"])
    alike = replace(mixed, spaces=replace(mixed.spaces, datasets=mixed.spaces.datasets[:2]))
    assert np.array_equal(alike.observe(raw)["state"], seen["state"])
    assert alike.command(chunk, seen["state"], stream="command").shape == (4, 7)


def test_a_state_may_be_told_in_any_form(policy: Policy, store: Store) -> None:
    states = open_dataset("lift", store).episode("demo_3").rows["state"]
    names = policy.spaces.datasets[0].state.names
    one, two = states[4], states[3:5]

    def act(state: Any) -> Any:
        return policy.act({"state": state, "images": {}}, "lift", seed=0).values_TA

    assert np.array_equal(act(one), act(dict(zip(names, one, strict=True))))
    assert np.array_equal(act(one), act(np.stack([one, one])))
    assert np.array_equal(act(two), act(dict(zip(names, two.T, strict=True))))
    assert np.array_equal(act(two), act({name: list(two[:, i]) for i, name in enumerate(names)}))
    assert not np.allclose(act(two), act(two[::-1]))
    # A dim that is left out is masked like one that is NaN.
    opening = names.index("right.gripper_opening")
    unknown = two.copy()
    unknown[:, opening] = np.nan
    left_out = {name: two[:, i] for i, name in enumerate(names) if i != opening}
    assert np.array_equal(act(left_out), act(unknown))
    for state in (left_out, unknown):
        (mask,) = policy.batch([{"state": state}], [""], 0).state_mask_BD
        assert np.flatnonzero(~mask).tolist() == [opening]
    for wrong, message in (
        ({"right.gripper_openin": 1.0}, "no 'right.gripper_openin', did you mean 'right.gripper_opening'"),
        (
            {**left_out, "right.gripper_opening": np.zeros(3)},
            r"has the shape \(3,\), neither one number nor \(2,\)",
        ),
        (
            {name: two[:, i] for i, name in enumerate(names) if "position" not in name},
            "right.ee_position.x must be known",
        ),
    ):
        with pytest.raises(FoundryError, match=message):
            act(wrong)


class Replica:
    """An arm that obeys robosuite's rule to the letter, from the first row of a recording."""

    def __init__(self, source: dict[str, np.ndarray], steps: int) -> None:
        self._source, self._last = source, steps
        self.steps = 0
        self.sent: list[np.ndarray] = []
        self.poses: list[tuple[np.ndarray, Rotation]] = []
        self.position, self.rotation = source[STATE[0]][0], Rotation.from_quat(source[STATE[1]][0])

    @property
    def done(self) -> bool:
        return self.steps >= self._last

    def images(self) -> dict[str, np.ndarray]:
        return {"agentview": self._source["obs/agentview_image"][0]}

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            STATE[0]: self.position, STATE[1]: self.rotation.as_quat(), STATE[2]: self._source[STATE[2]][0],
        }  # fmt: skip

    def send(self, command: np.ndarray) -> None:
        self.poses.append((self.position, self.rotation))
        self.sent.append(command)
        self.position, self.rotation = replayed(self.position, self.rotation, command)
        self.steps += 1


def test_the_loop_of_the_page_runs(
    policy: Policy, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own code: every command leads from where the robot is to the target, as far as it goes."""
    page = (Path(__file__).parent.parent / "docs" / "robot.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    robot = Replica(recorded(recording, 0), steps=6)
    monkeypatch.setattr(Policy, "load", lambda folder: policy)
    told: dict[str, Any] = {"robot": robot}
    exec(compile(code, "docs/robot.md", "exec"), told)
    assert robot.steps == 8 and np.shape(robot.sent) == (8, 7)  # two chunks of four
    for command, (position, rotation), target in zip(
        robot.sent[-4:], robot.poses[-4:], told["actions"].values_TA, strict=True
    ):
        tool = np.column_stack([target[3:6], target[6:9], np.cross(target[3:6], target[6:9])])
        flange = Rotation.from_matrix(tool @ TOOL.T)
        moved = target[:3] - flange.apply([0, 0, 0.05]) - position
        asked = np.concatenate([moved, (flange * rotation.inv()).as_rotvec()]) / REACH
        np.testing.assert_allclose(command[:6], np.clip(asked, -1, 1), rtol=0, atol=1e-4)


def test_a_version_whose_spec_is_not_understood_any_more_is_trained_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:  # a release without that layout
        later.setattr("robot_foundry.ingest.robot.spec.spec_reader.LAYOUTS", {"hdf5": LAYOUTS["hdf5"]})
        trainer_runs.run(store, tmp_path / "run", "data.mix=plain=1", "run.steps=1", "run.save_every=1")
    policy = Policy.load(tmp_path / "run")
    assert policy.robots == {}
    with pytest.raises(FoundryError, match="does not say how 'plain' was made of its source") as error:
        policy.command(np.zeros(10), np.zeros(10))
    assert "its spec is not understood any more" in (error.value.hint or "")
