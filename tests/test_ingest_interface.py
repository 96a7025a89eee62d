"""What a version says of its robot: shapes of commands, refusals, observed pictures and states.

Legend: N frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from foundry_testing.mapped_rows import POSITION, spec_of, survey_of
from foundry_testing.there_and_back import (
    OSC,
    POSE,
    N,
    interface_for,
    manifest_for,
    pose_arrays,
    there_and_back,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.robot.interface import Interface, interface_of, observed_pixels, observed_state
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError


def test_arrays_keep_the_shape_of_the_source():
    """One number a frame without an axis; several axes, through which columns count row by row."""
    rng = np.random.default_rng(1)
    arrays = pose_arrays(rng, g=rng.uniform(0, 1, N), a=rng.normal(size=(N, 2, 3)))
    actions = {
        "right.ee_position": {"key": "a", "columns": [3, 6]},
        "right.gripper_opening": {"key": "g", "from": "value", "closed": 1, "open": 0},
    }
    spec = spec_of({**POSE, "right.gripper_opening": {"key": "g", "from": "value"}}, {"command": actions})
    back = there_and_back(spec, arrays, rest=-1.0)("command")
    assert back["a"].shape == (N, 2, 3) and back["g"].shape == (N,)
    np.testing.assert_allclose(back["a"][:, 1], arrays["a"][:, 1], atol=1e-5)
    assert np.all(back["a"][:, 0] == -1)
    np.testing.assert_allclose(back["g"], arrays["g"], atol=1e-5)


def test_what_cannot_be_told_says_so_in_a_sentence():
    rng = np.random.default_rng(1)
    arrays = pose_arrays(rng, a=rng.normal(size=(N, 7)))

    def refused(actions, match, **how):
        spec = spec_of(POSE, {"command": actions})
        with pytest.raises(FoundryError, match=match) as error:
            there_and_back(spec, arrays, **how)("command")
        assert "\n" not in error.value.message
        return error.value.hint

    one = {"right.ee_position": {"key": "a", "columns": [1, 4]}}
    hint = refused(one, r"no field of 'command' says the columns 0, 4, 5, 6 of 'a'")
    assert "rest=0.0" in hint
    scaled = {"right.ee_position": {"key": "a", "columns": [0, 3], "from": "delta", "scale": [1, 0, 1]}}
    refused(scaled, "right.ee_position has a scale of 0, which lost what 'a' says", rest=0.0)
    twice = {**one, "right_hand.joint_position": {"key": "a", "columns": [3, 5], "scale": 2.0}}
    spec = spec_of(POSE, {"command": twice})
    assert there_and_back(spec, arrays, rest=0.0)("command")["a"].shape == (N, 7)  # one column, one number
    item = survey_of(arrays)
    found = resolve(spec.mapping, [item])
    rows = canonical(found.mapping, found.schema, item.episode, {**arrays, "timestamp": np.arange(N) / 20.0})
    space, state = ActionSpace(found.schema.streams["command"]), ActionSpace(found.schema.state)
    target = rows.streams["command"].copy()
    target[:, space.index("right_hand.joint_position.0")] += 0.1
    ask = (interface_for(spec, found), "command", target, rows.state_ND, space, state)
    with pytest.raises(FoundryError, match="are the same columns of 'a', and their targets differ"):
        source_actions(*ask, rest=0.0)
    with pytest.raises(FoundryError, match="no action stream 'comand', did you mean 'command'"):
        source_actions(ask[0], "comand", *ask[2:])
    target[:] = np.nan
    with pytest.raises(FoundryError, match="right.ee_position of the actions is not known"):
        source_actions(*ask, rest=0.0)


def test_a_state_that_is_not_known_is_only_asked_for_where_it_counts():
    rng = np.random.default_rng(1)
    arrays = pose_arrays(rng, a=rng.normal(size=(N, 3)))
    state = ActionSpace(["right.ee_position", "right.ee_rot6d"])
    unknown = np.full((N, 9), np.nan)
    for form in ("value", "delta"):
        spec = spec_of(POSE, {"command": {"right.ee_position": {"key": "a", "from": form}}})
        found = resolve(spec.mapping, [survey_of(arrays)])
        ask = (
            interface_for(spec, found),
            "command",
            arrays["a"],
            unknown,
            ActionSpace(state.dims[:3]),
            state,
        )
        if form == "value":
            assert np.array_equal(source_actions(*ask)["a"], arrays["a"])
        else:
            with pytest.raises(FoundryError, match="right.ee_position of the state is not known"):
                source_actions(*ask)


def test_episodes_that_differ_leave_the_robot_s_own_unknown():
    rng = np.random.default_rng(1)
    field = {"key": "a", "columns": [0, 3], "from": "osc"}
    spec = spec_of(POSE, {"command": {"right.ee_position": field}})

    def items(*unlike):
        return [
            survey_of(pose_arrays(rng, a=np.zeros((N, width))), key=f"demo-{i}", environment={
                "env_args": {"env_kwargs": {"controller_configs": {**OSC, "output_max": reach}}}
            })
            for i, (width, reach) in enumerate(unlike)
        ]  # fmt: skip

    def ask(*unlike):
        found = resolve(spec.mapping, items(*unlike))
        space, state = ActionSpace(found.schema.streams["command"]), ActionSpace(found.schema.state)
        rows = np.zeros((1, 3)), np.tile(np.eye(9)[:1] * 0, (1, 1))
        return source_actions(interface_for(spec, found), "command", *rows, space, state, rest=0.0)

    assert ask((7, 0.05), (7, 0.05))["a"].shape == (1, 7)
    with pytest.raises(FoundryError, match=r"the rows of 'a' have the shapes \[7\] and \[8\]"):
        ask((7, 0.05), (8, 0.05))
    with pytest.raises(FoundryError, match="the episodes have 2 unlike controllers of right.ee_position"):
        ask((7, 0.05), (7, 0.06))


def test_a_controller_that_takes_poses_is_told_poses():
    rng = np.random.default_rng(1)
    turns = Rotation.random(N, random_state=4).as_rotvec()
    arrays = pose_arrays(rng, a=np.hstack([rng.normal(size=(N, 3)), turns]))
    actions = {
        "right.ee_position": {"key": "a", "columns": [0, 3], "from": "osc"},
        "right.ee_rotation": {"key": "a", "columns": [3, 6], "from": "osc"},
    }
    configuration = {"controller_configs": {**OSC, "control_delta": False}}
    back = there_and_back(
        spec_of(POSE, {"command": actions}), arrays, {"env_args": {"env_kwargs": configuration}}
    )("command")
    np.testing.assert_allclose(back["a"], arrays["a"], atol=1e-5)


def test_pictures_are_turned_ordered_and_resized_as_the_spec_says():
    content = {
        "flip": {"agentview": "vertical", "*": "both"}, "channel_order": {"agentview": "bgr"},
        "rename": {"agentview": "front"}, "resize": [10, 14],
    }  # fmt: skip
    spec = spec_from_json(
        {"layout": "robomimic", "content": content, "mapping": {"embodiment": "arm", "state": POSE}}, "t"
    )
    interface = Interface(spec, {}, {}, {"agentview": "primary", "side": "secondary"})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 28, 3), dtype=np.uint8)
    for camera, turned in (("agentview", pixels[:, ::-1, :, ::-1]), ("side", pixels[:, ::-1, ::-1])):
        expected = [
            np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize((14, 10), Image.Resampling.LANCZOS))
            for one in turned
        ]
        assert np.array_equal(observed_pixels(interface, camera, pixels), np.stack(expected))
        assert np.array_equal(observed_pixels(interface, camera, pixels[0]), expected[0])
    with pytest.raises(FoundryError, match="no camera 'agentviw', did you mean 'agentview'"):
        observed_pixels(interface, "agentviw", pixels)
    with pytest.raises(FoundryError, match="the picture of 'side' is float64"):
        observed_pixels(interface, "side", pixels / 255)


def test_an_observed_state_is_checked():
    arrays = pose_arrays(np.random.default_rng(1))
    spec = spec_of(POSE, {})
    found = resolve(spec.mapping, [survey_of(arrays)])
    interface, space = interface_for(spec, found), ActionSpace(found.schema.state)
    one = {key: values[0] for key, values in arrays.items()}
    whole = observed_state(interface, arrays, space)
    assert np.array_equal(observed_state(interface, one, space), whole[0]) and whole.shape == (N, 9)
    unknown = observed_state(interface, {**one, "q": np.full(4, np.nan)}, space)
    assert np.array_equal(unknown[:3], whole[0, :3]) and np.isnan(unknown[3:]).all()
    for wrong, message in (
        ({**one, "pp": one["p"]}, "the state is not made of 'pp', did you mean 'p'"),
        ({"p": one["p"]}, "the observed state lacks the arrays q"),
        ({**one, "p": np.zeros(4)}, r"the array 'p' has the shape \[4\], and a row of it has \[3\]"),
        ({**one, "p": np.array(["a", "b", "c"])}, "the array 'p' holds <U1, not numbers"),
        ({**one, "p": arrays["p"][:2]}, r"unlike numbers of moments \(p: 2, q: 1\)"),
    ):
        with pytest.raises(FoundryError, match=message):
            observed_state(interface, wrong, space)


@pytest.mark.parametrize("absent", ["left", "left rotation", "right rotation"])
def test_a_tool_frame_goes_with_the_optional_quantities_that_a_version_lacks(absent):
    state = {}
    for part in ("right", "left"):
        state |= {
            f"{part}.ee_position": {"key": f"{part}_p", "optional": True},
            f"{part}.ee_rotation": {
                "key": f"{part}_q",
                "from": "quaternion",
                "order": "xyzw",
                "optional": True,
            },
        }
    frames = {"right": {"position": [0, 0, 0.1]}, "left": {"approach": [1, 0, 0], "lateral": [0, 1, 0]}}
    frames["left"]["position"] = [0.1, 0, 0]
    spec = spec_of(state, {"command": state}, tool_frame=frames)
    rng = np.random.default_rng(0)
    arrays = {f"{part}_p": rng.uniform(-1, 1, (N, 3)) for part in ("right", "left")}
    arrays |= {f"{part}_q": Rotation.random(N, rng).as_quat(canonical=True) for part in ("right", "left")}
    part, _, name = absent.partition(" ")
    for key in [f"{part}_q"] if name else [f"{part}_p", f"{part}_q"]:
        del arrays[key]
    back = there_and_back(spec, arrays)("command")
    assert back.keys() == arrays.keys()
    for key, values in arrays.items():
        np.testing.assert_allclose(back[key], values, atol=1e-6)


def test_a_version_whose_spec_is_not_understood_tells_no_robot():
    spec = spec_of(POSITION)
    arrays = {"p": np.zeros((N, 3))}
    manifest = manifest_for(spec, resolve(spec.mapping, [survey_of(arrays)]))
    assert interface_of(manifest) is not None
    for told in ({**spec.to_json(), "layout": "of_another_release"}, None):
        assert interface_of(replace(manifest, provenance={**manifest.provenance, "spec": told})) is None
