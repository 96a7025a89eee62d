"""The data checks on episodes made wrong in one way each, and on right ones, which must stay silent.

Legend: N frames.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_foundry.normalization.checks import findings
from robot_foundry.normalization.checks_motion import following
from robot_foundry.normalization.evidence import Column, EpisodeRows, Evidence
from robot_foundry.normalization.measures import measure
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.normalization.statistics import Statistics

FPS = 20.0
POSE = ["right.ee_position", "right.ee_rot6d", "right.gripper_opening"]
STATE = ActionSpace(
    [*POSE, *dims_for("right.joint_position", count=6), *dims_for("right.joint_velocity", count=6)]
)
ACTION = ActionSpace([*POSE, *dims_for("right.joint_position", count=6)])


def rot6d(rotation):
    matrix_N33 = rotation.as_matrix()
    return np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1)


def smooth(rng, n, width, scale, slowness=12):
    """Random motion of a few Hz: a walk, filtered twice."""
    kernel = np.ones(slowness) / slowness
    walk = rng.normal(size=(n + 4 * slowness, width))
    for _ in range(2):
        walk = np.stack([np.convolve(column, kernel, mode="same") for column in walk.T], axis=1)
    return scale * walk[2 * slowness : 2 * slowness + n] * math.sqrt(slowness)


class Episode:
    """A right recording whose parts a test may spoil before `rows()`; targets come `lag` frames early."""

    def __init__(self, seed, n=240, lag=0):
        rng = np.random.default_rng(seed)
        self.key = f"demo-{seed}"
        ahead = lag + 1
        total = n + ahead
        self.position = np.array([0.5, 0.0, 0.3]) + smooth(rng, total, 3, 0.1)
        self.rotation = Rotation.from_euler("xyz", [math.pi, 0.0, 0.4]) * Rotation.from_rotvec(
            smooth(rng, total, 3, 0.25)
        )
        self.joints = smooth(rng, total, 6, 0.5)
        self.velocity = np.gradient(self.joints, 1 / FPS, axis=0)
        asked = (np.arange(total) // 60) % 2 == 0
        self.asked = asked.astype(float)
        opening = np.empty(total)
        opening[0] = 1.0
        for t in range(1, total):  # 0.4 s for the whole way
            opening[t] = opening[t - 1] + np.clip(self.asked[t - 1] - opening[t - 1], -0.125, 0.125)
        self.opening = np.clip(opening + rng.normal(0, 1e-3, total), 0, 1)
        self.time = np.arange(n) / FPS
        self.images = {"front": rng.integers(1 << 40, size=n)}
        noise = rng.normal(0, 2e-4, (total, 3))
        self.command = {
            "ee_position": (self.position + noise)[ahead:],
            "ee_rot6d": rot6d(self.rotation)[ahead:],
            "gripper_opening": self.asked[:n, None],
            "joint_position": self.joints[ahead:].copy(),
        }
        for name in ("position", "joints", "velocity", "opening"):
            setattr(self, name, getattr(self, name)[:n].copy())
        self.rotation = self.rotation[:n]
        self.fps = FPS

    def rows(self, with_command=True):
        columns = [self.position, rot6d(self.rotation), self.opening[:, None]]
        state = np.concatenate([*columns, self.joints, self.velocity], axis=1).astype(np.float32)
        following_state = np.concatenate([state[1:], state[-1:]])[:, : len(ACTION)]
        following_state[:, 9] = self.command["gripper_opening"][:, 0]
        valid = np.ones(len(state), bool)
        streams = {"action.next_state": following_state}
        if with_command:
            names = ("ee_position", "ee_rot6d", "gripper_opening", "joint_position")
            command = np.concatenate([self.command[name] for name in names], axis=1)
            streams["action.command"] = command.astype(np.float32)
        columns = {"state": Column(state, valid, STATE)}
        columns |= {name: Column(values, valid, ACTION) for name, values in streams.items()}
        return EpisodeRows(self.key, self.fps, self.time, columns, self.images)


def judged(episodes, mapping=None, **how):
    evidence = Evidence.merge_all([measure(episode.rows(**how)) for episode in episodes])
    return findings(evidence, {}, mapping)


def checks(found):
    return {finding.check for finding in found}


def made(spoil=None, lag=0, count=4):
    episodes = [Episode(seed, lag=lag) for seed in range(count)]
    for episode in episodes:
        if spoil is not None:
            spoil(episode)
    return episodes


def test_right_recordings_give_no_finding():
    assert judged(made()) == []
    assert judged(made(), with_command=False) == []
    assert judged(made(lag=2)) == []


@pytest.mark.parametrize("side", ["command", "state"])
def test_an_inverted_gripper_is_found_on_either_side(side):
    def invert(episode):
        if side == "command":
            episode.command["gripper_opening"] = 1 - episode.command["gripper_opening"]
        else:
            episode.opening = 1 - episode.opening

    settings = {"from": "command", "closed": 1.0, "open": -1.0}
    mapping = {"actions": {"command": {"right.gripper_opening": settings}}}
    found = judged(made(invert), mapping)
    assert checks(found) == {"gripper_polarity"}
    command = next(f for f in found if f.where == "action.command right.gripper_opening")
    assert command.value < -0.8
    assert command.overrides == (
        "mapping.actions.command.right.gripper_opening.closed=-1",
        "mapping.actions.command.right.gripper_opening.open=1",
    )


def test_a_command_that_opposes_the_stream_beside_it_is_found():
    episodes = made()
    rows = [episode.rows() for episode in episodes]
    for row in rows:
        row.columns["action.command"].values_ND[:, 9] = 1 - row.columns["action.command"].values_ND[:, 9]
    found = findings(Evidence.merge_all(measure(row) for row in rows))
    assert any("against action.next_state" in finding.message for finding in found)


def test_an_opening_outside_its_range_is_found():
    def in_millimetres(episode):
        episode.opening = 80 * episode.opening

    found = judged(made(in_millimetres))
    assert checks(found) == {"gripper_range"} and found[0].num_episodes == 4


def test_joints_in_degrees_are_found_with_the_scale_that_mends_them():
    def degrees(episode):
        for values in (episode.joints, episode.command["joint_position"]):
            values *= 180 / math.pi

    mapping = {"state": {"right.joint_position": {"from": "value", "scale": 1.0}}}
    found = judged(made(degrees), mapping)
    assert checks(found) == {"magnitude", "velocity_unit"}
    magnitude = next(f for f in found if f.where == "state right.joint_position")
    assert magnitude.overrides == (f"mapping.state.right.joint_position.scale={math.pi / 180:.8g}",)


def test_one_joint_in_degrees_among_radians_is_named():
    def mixed(episode):
        episode.command["joint_position"][:, 2] *= 180 / math.pi

    found = [f for f in judged(made(mixed)) if f.check == "scale"]
    assert [f.where for f in found] == ["action.command right.joint_position"]
    assert "right.joint_position.2 of action.command" in found[0].message
    assert "degrees for radians" in found[0].message
    assert found[0].value == pytest.approx(math.pi / 180, rel=0.1)


def test_one_episode_in_degrees_is_named():
    episodes = made()
    episodes[2].joints *= 180 / math.pi
    found = [f for f in judged(episodes, with_command=False) if f.check == "magnitude"]
    assert {f.episodes for f in found} == {("demo-2",)}


@pytest.mark.parametrize("stream", ["state", "command"])
def test_millimetres_for_metres_are_found(stream):
    def millimetres(episode):
        if stream == "state":
            episode.position = 1000 * episode.position
        else:
            episode.command["ee_position"] = 1000 * episode.command["ee_position"]

    found = judged(made(millimetres))
    assert {"magnitude", "scale"} <= checks(found)
    where = "state right.ee_position" if stream == "state" else "action.command right.ee_position"
    assert where in {f.where for f in found if f.check == "magnitude"}
    scale = next(f for f in found if f.check == "scale" and f.where == "action.command right.ee_position")
    assert scale.value == pytest.approx(1000 if stream == "state" else 1e-3, rel=0.1)
    assert "millimetres for metres" in scale.message


@pytest.mark.parametrize("lag", [0, 2, 3, 6])
def test_lag_and_gain_are_measured_and_three_steps_are_a_finding(lag):
    episodes = made(lag=lag)
    evidence = Evidence.merge_all(measure(episode.rows()) for episode in episodes)
    measured = following(evidence)
    for quantity in ("right.ee_position", "right.ee_rot6d", "right.joint_position"):
        assert measured["action.command", quantity].lag == lag
        assert measured["action.command", quantity].correlation > 0.9
        assert measured["action.next_state", quantity].lag == 0
        assert measured["action.next_state", quantity].gain == pytest.approx(1, abs=1e-3)
    found = findings(evidence)
    assert checks(found) == ({"lag"} if lag >= 3 else set())
    if lag == 3:
        assert "3 frames (0.15 s)" in found[0].message


def test_a_command_that_repeats_the_state_is_found():
    def reading(episode):
        episode.command["ee_position"] = episode.position - np.array([0.0, 0.0, 0.01])

    found = judged(made(reading))
    assert [(f.check, f.value) for f in found] == [("lag", -1)]


def test_displacements_of_the_state_have_their_lag_and_gain():
    """As robosuite's OSC: targets are the state plus what is asked, of which the arm makes a fifth."""

    def osc(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 5 * step

    episodes = made(osc)
    evidence = Evidence.merge_all(measure(episode.rows()) for episode in episodes)
    measured = following(evidence)["action.command", "right.ee_position"]
    assert measured.lag == 0 and measured.gain == pytest.approx(0.2, rel=1e-3)
    assert findings(evidence) == []


def osc_rotation(episode):
    """Targets turn the state about base axes by five times what the arm then turns."""
    turned = (episode.rotation[1:] * episode.rotation[:-1].inv()).as_rotvec()
    return np.concatenate([turned, np.zeros((1, 3))]) * 5


def test_displacements_in_other_axes_than_the_state_moves_are_found():
    def rotated(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 5 * step[:, [1, 2, 0]]

    found = judged(made(rotated))
    assert [(f.check, f.where) for f in found] == [("motion", "action.command right.ee_position")]


def test_a_wrong_quaternion_order_is_found_although_targets_start_from_the_state():
    def right(episode):
        target = Rotation.from_rotvec(osc_rotation(episode)) * episode.rotation
        episode.command["ee_rot6d"] = rot6d(target)

    def swapped(episode):
        asked = Rotation.from_rotvec(osc_rotation(episode))
        episode.rotation = Rotation.from_quat(episode.rotation.as_quat()[:, [1, 2, 3, 0]])
        episode.command["ee_rot6d"] = rot6d(asked * episode.rotation)

    assert judged(made(right)) == []
    mapping = {"state": {"right.ee_rotation": {"from": "quaternion", "order": "wxyz"}}}
    found = judged(made(swapped), mapping)
    assert [(f.check, f.where) for f in found] == [("motion", "action.command right.ee_rot6d")]
    assert found[0].overrides == ("mapping.state.right.ee_rotation.order=xyzw",)


def test_displacements_a_thousand_times_too_small_are_found():
    def tiny(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 0.01 * step

    found = [f for f in judged(made(tiny)) if f.check == "scale"]
    assert [f.where for f in found] == ["action.command right.ee_position"]
    assert found[0].value == pytest.approx(100, rel=0.1)


def test_a_quaternion_order_that_is_wrong_in_the_state_disagrees_with_the_command():
    def swapped(episode):
        xyzw = episode.rotation.as_quat()
        episode.rotation = Rotation.from_quat(xyzw[:, [1, 2, 3, 0]])

    mapping = {"state": {"right.ee_rotation": {"from": "quaternion", "order": "wxyz"}}}
    found = judged(made(swapped), mapping)
    assert checks(found) == {"rotation_agreement"}
    assert found[0].overrides == ("mapping.state.right.ee_rotation.order=xyzw",)


def test_an_order_swap_keeps_angles_so_no_jump_can_show_it():
    """A permutation of a quaternion is orthogonal: steps keep their angle, and a flip of sign is no jump."""
    rotations = Rotation.random(1000, random_state=0)
    xyzw = rotations.as_quat() * np.where(np.arange(1000) % 3 == 0, -1, 1)[:, None]
    swapped = Rotation.from_quat(xyzw[:, [3, 0, 1, 2]])
    steps = [(r[1:] * r[:-1].inv()).magnitude() for r in (rotations, swapped)]
    np.testing.assert_allclose(*steps, atol=1e-7)


def test_two_tool_frames_are_told_from_two_conventions():
    def other_tool(episode):
        matrix_N33 = episode.rotation.as_matrix()
        episode.rotation = Rotation.from_matrix(matrix_N33) * Rotation.from_euler("z", 90, degrees=True)

    found = judged(made(other_tool))
    assert checks(found) == {"rotation_agreement"} and "two tool frames" in found[0].message


def test_euler_degrees_read_as_radians_jump():
    def degrees(episode):
        angles = episode.rotation.as_euler("xyz", degrees=True)
        episode.rotation = Rotation.from_euler("xyz", angles)

    found = judged(made(degrees), with_command=False)
    assert "rotation_jump" in checks(found)


def test_a_flip_of_the_quaternions_sign_is_no_jump():
    def flipped(episode):
        quaternions = episode.rotation.as_quat()
        quaternions[::7] *= -1
        episode.rotation = Rotation.from_quat(quaternions)

    assert judged(made(flipped)) == []


def test_rows_that_are_no_rotation_are_found():
    rows = [episode.rows() for episode in made()]
    for row in rows:
        row.columns["state"].values_ND[5:9, 3:9] *= 1.3
    found = findings(Evidence.merge_all(measure(row) for row in rows))
    assert "rotation_orthonormal" in checks(found)
    assert next(f for f in found if f.check == "rotation_orthonormal").value == pytest.approx(4 / 240)


def test_a_declared_rate_that_the_timestamps_contradict_is_found():
    def faster(episode):
        episode.fps = 30.0

    found = judged(made(faster))
    assert checks(found) == {"rate"} and "20 … 20 Hz, the declared rate is 30 Hz" in found[0].message


def test_dropped_frames_are_counted_and_their_episodes_named():
    episodes = made()
    kept = np.ones(240, bool)
    kept[[30, 31, 90, 150, 151, 152]] = False
    spoilt = episodes[1]
    for name in ("position", "joints", "velocity", "opening", "time"):
        setattr(spoilt, name, getattr(spoilt, name)[kept])
    spoilt.rotation = spoilt.rotation[kept]
    spoilt.command = {name: values[kept] for name, values in spoilt.command.items()}
    spoilt.images = {}
    found = judged(episodes)
    assert [(f.check, f.value, f.episodes) for f in found] == [("gaps", 6.0, ("demo-1",))]


def test_jitter_and_a_clock_that_goes_back_are_found():
    def shaken(episode):
        episode.time = episode.time + np.random.default_rng(0).uniform(-0.49, 0.49, 240) / FPS

    def back(episode):
        episode.time[100] = episode.time[98]

    assert "jitter" in checks(judged(made(shaken)))
    assert any("not later" in f.message for f in judged(made(back)))


def test_a_joint_that_stands_still_is_found():
    def dead(episode):
        episode.joints[:, 3] = 0.25
        episode.velocity[:, 3] = 0.0

    found = judged(made(dead), with_command=False)
    assert [(f.check, f.where) for f in found] == [("frozen", "state right.joint_position.3")]
    assert "frozen" in checks(judged(made(dead)))


def test_a_reading_that_stops_while_the_command_goes_on_is_found_in_its_episode():
    episodes = made()
    episodes[3].position[100:160] = episodes[3].position[100]
    quaternions = episodes[3].rotation.as_quat()
    quaternions[100:160] = quaternions[100]
    episodes[3].rotation = Rotation.from_quat(quaternions)
    found = judged(episodes)
    assert [(f.check, f.where, f.episodes) for f in found] == [
        ("frozen", "state right.ee_position", ("demo-3",))
    ]
    assert found[0].value == pytest.approx(2.95)


def test_a_gripper_that_is_not_read_is_found():
    def stuck(episode):
        episode.opening = np.full(240, 1.0)

    found = judged(made(stuck))
    assert {(f.check, f.where) for f in found} == {("frozen", "state right.gripper_opening")}


def test_a_frozen_camera_is_found_and_a_still_scene_is_not():
    episodes = made()
    episodes[0].images["front"][50:90] = 7
    found = judged(episodes)
    assert [(f.check, f.where, f.episodes) for f in found] == [("frozen_camera", "camera front", ("demo-0",))]
    still = made()
    for episode in still:
        episode.position[50:90] = episode.position[50] + np.random.default_rng(1).normal(0, 1e-5, (40, 3))
        episode.joints[50:90] = episode.joints[50] + np.random.default_rng(2).normal(0, 1e-5, (40, 6))
        episode.images["front"][50:90] = 7
    assert "frozen_camera" not in checks(judged(still))


def test_what_normalisation_would_clip_and_rows_without_values_are_found():
    space = ActionSpace(dims_for("right.joint_velocity", count=2))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10_000, 2))
    values[1000:3000, :] = np.nan
    values[500:570, 0], values[600:670, 0] = 30.0, -30.0
    found = findings(Evidence(0, {}), {"state": Statistics.of(values, None, space)})
    assert {(f.check, f.where) for f in found} == {
        ("outside_band", "state right.joint_velocity.0"),
        ("invalid_rows", "state"),
    }


def test_evidence_has_the_same_bits_in_any_order_and_through_json():
    leaves = [measure(Episode(seed, n=60).rows()) for seed in range(4)]
    whole = Evidence.merge_all(leaves)
    for order in itertools.permutations(range(4)):
        assert Evidence.merge_all([leaves[i] for i in order]) == whole
    assert Evidence.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_short_and_broken_episodes_are_measured_without_complaint(recwarn):
    short = Episode(0, n=2)
    short.images = {}
    broken = Episode(1, n=40)
    rows = broken.rows()
    rows.columns["state"].valid_N[:] = False
    evidence = Evidence.merge_all([measure(short.rows()), measure(rows)])
    assert isinstance(findings(evidence), list) and not recwarn.list
