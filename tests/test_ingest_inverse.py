"""Source action -> canonical target -> command: every form, every packaged spec, every sample.

Expected values are the source's own numbers, clipped by NumPy, or their canonical representative by SciPy.
Legend: N frames, d columns.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.mapped_rows import POSITION, spec_of, survey_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.manifest import Manifest, TableFile
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.robot.forms import FORMS, width_of
from robot_foundry.ingest.robot.interface import (
    Interface,
    interface_of,
    observed_pixels,
    observed_state,
)
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.quantities import quantity_kind
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
N = 5
QUANTITY = {
    "position": "right.ee_position", "rotation": "right.ee_rotation", "gripper": "right.gripper_opening",
    "joint": "right.joint_position", "numbers": "base.linear_velocity", "own": "robot.value",
}  # fmt: skip
OSC = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], "output_min": [-0.05, -0.04, -0.05, -0.5, -0.5, -0.5],
}  # fmt: skip
TAIT_BRYAN = ["xyz", "zyx", "XYZ", "ZYX", "yxz", "XZY"]
number = st.floats(0.05, 2).flatmap(lambda x: st.sampled_from([x, -x]))
SETTINGS = {
    "scale": number,
    "clip": st.none() | st.floats(0.3, 1),
    "order": st.sampled_from(["xyzw", "wxyz"]),
    "sequence": st.sampled_from([*TAIT_BRYAN, "zxz", "XYX"]),
    "rotation": st.sampled_from(["axis_angle", *TAIT_BRYAN]),
    "degrees": st.booleans(),
    "closed": st.floats(-1, -0.1),
    "open": st.floats(0.1, 1),
}
directions = st.sampled_from([([0, 0, 1], [0, 1, 0]), ([1, 0, 0], [0, 0, -2]), ([0, -1, 0], [1, 0, 0])])


def manifest_for(spec, found):
    names = ("episodes", "annotations", "leaves")
    return Manifest(
        "d", "0" * 32, found.schema, "robot", tables=dict.fromkeys(names, "1" * 32),
        files=dict.fromkeys(names, TableFile.of(b"")),
        provenance={
            "spec": spec.to_json(),
            "arrays": {key: [list(shape) for shape in shapes] for key, shapes in found.arrays.items()},
            "controllers": {name: list(own) for name, own in found.controllers.items()},
        },
    )  # fmt: skip


def interface_for(spec, found):
    """As a version of such episodes would say it, through JSON."""
    manifest = manifest_for(spec, found)
    interface = interface_of(Manifest.from_json(manifest.to_json()))
    return Interface.from_json(json.loads(json.dumps(interface.to_json())), "test")


def there_and_back(spec, arrays, environment=None, **how):
    """The commands of every stream that the canonical rows of these arrays give, and the canonical state."""
    item = survey_of(arrays, environment=environment)
    found = resolve(spec.mapping, [item])
    assert not found.problems, found.problems
    rows = canonical(found.mapping, found.schema, item.episode, {**arrays, "timestamp": np.arange(N) / 20.0})
    interface = interface_for(spec, found)
    state = ActionSpace(found.schema.state)
    shown = {field.key: arrays[field.key] for field in found.mapping.state.values()}
    assert np.array_equal(observed_state(interface, shown, state), rows.state_ND)

    def commands(stream):
        space = ActionSpace(found.schema.streams[stream])
        return source_actions(interface, stream, rows.streams[stream], rows.state_ND, space, state, **how)

    return commands


def rotations_as(form, values, rotation):
    """The numbers of a rotation in a form, by SciPy."""
    matrix_N33 = rotation.as_matrix()
    if form == "quaternion":
        xyzw_N4 = rotation.as_quat(canonical=True)
        return xyzw_N4 if values["order"] == "xyzw" else np.roll(xyzw_N4, 1, axis=1)
    if form == "euler":
        return rotation.as_euler(values["sequence"], degrees=values["degrees"])
    return {
        "axis_angle": lambda: rotation.as_rotvec(),
        "rot6d_columns": lambda: np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1),
        "rot6d_rows": lambda: matrix_N33[:, :2].reshape(-1, 6),
        "matrix": lambda: matrix_N33.reshape(-1, 9),
    }[form]()


def source_of(kind, form, values, rng, width):
    """Numbers of the source [N, d], some of them beyond the clip, and what comes back of them."""
    sent = rng.uniform(-1.4, 1.4, (N, width))
    if form in ("osc", "next_state"):
        return sent, np.clip(sent, -1, 1)
    if form == "delta":
        clip = values.get("clip")
        return sent, sent if clip is None else np.clip(sent, -clip, clip)
    if kind == "rotation":
        sent = rotations_as(form, values, Rotation.from_rotvec(rng.uniform(-1.2, 1.2, (N, 3))))
        return sent, sent
    if kind == "gripper":
        gap = np.clip(sent[:, :1], values["closed"], values["open"])
        return (sent[:, :1], gap) if form != "fingers" else (np.hstack([gap, -gap]) / 2,) * 2
    return sent, sent


ALL_FORMS = [(kind, form) for kind, forms in FORMS.items() for form in forms]


@pytest.mark.parametrize(("kind", "form"), ALL_FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_form_comes_back(kind, form, data):
    quantity, shape = QUANTITY[kind], FORMS[kind][form]
    drawn = {name: data.draw(SETTINGS[name], label=name) for name in shape.settings}
    if kind == "rotation" and "scale" in drawn:
        drawn["scale"] = abs(drawn["scale"]) / 2  # turns of less than half a turn
        if drawn["rotation"] != "axis_angle":
            drawn["scale"] /= 2
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    width = width_of(quantity, shape) or 4
    start = data.draw(st.sampled_from([0, 1])) if form != "osc" else 3 if kind == "rotation" else 0
    sent, expected = source_of(kind, form, drawn, rng, width)
    arrays = {
        "p": rng.uniform(-1, 1, (N, 3)), "q": Rotation.random(N, random_state=1).as_quat(),
        "j": rng.uniform(-1, 1, (N, 4)), "g": rng.uniform(0, 1, (N, 1)), "v": rng.uniform(-1, 1, (N, 2)),
        "o": rng.uniform(-1, 1, (N, 4)),
        "a": np.hstack([rng.normal(size=(N, start)), sent]),
    }  # fmt: skip
    state = {
        "right.ee_position": {"key": "p"}, "right.joint_position": {"key": "j"},
        "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"},
        "right.gripper_opening": {"key": "g", "from": "value"}, "base.linear_velocity": {"key": "v"},
        "robot.value": {"key": "o", "names": list("dbac")},
    }  # fmt: skip
    field = {
        "from": form,
        **({"key": "a", "columns": [start, start + width]} if shape.needs_key else {}),
        **({"names": list("cadb")} if kind == "own" and shape.needs_key else {}),
        **drawn,
    }
    approach, lateral = data.draw(directions)
    offset = data.draw(st.sampled_from([[0, 0, 0], [0.1, -0.02, 0.1]]))
    spec = spec_of(
        state, {"command": {quantity: field}},
        tool_frame={"approach": approach, "lateral": lateral, "position": offset},
    )  # fmt: skip
    environment = {"env_args": {"env_kwargs": {"controller_configs": OSC}}}
    commands = there_and_back(spec, arrays, environment, rest=0.5)
    if not shape.needs_key:
        with pytest.raises(FoundryError, match="is the state that follows, which no robot is sent"):
            commands("command")
        return
    back = commands("command")["a"]
    assert np.all(back[:, :start] == 0.5)
    np.testing.assert_allclose(back[:, start:], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def synthetic(spec, rng):
    """Arrays of a spec's fields: rotations that are some, columns in -1 … 1, of as many joints as it says."""
    needed, arrays = {}, {}
    fields = [(quantity, field) for quantity, field in spec.mapping.state.items()]
    fields += [item for stream in spec.mapping.actions.values() for item in stream.items()]
    for quantity, field in fields:
        if field.key is not None:
            start, stop = field.columns or (0, None)
            width = width_of(quantity, FORMS[quantity_kind(quantity)][field.kind]) or 7
            stop = stop if stop is not None else max(start, 0) + width if start >= 0 else 6 + width
            needed[field.key] = max(needed.get(field.key, 0), stop)
    for key, width in needed.items():
        arrays[key] = rng.uniform(-0.9, 0.9, (N, width))
    for quantity, field in fields:
        if field.kind == "quaternion":
            arrays[field.key] = Rotation.random(N, random_state=1).as_quat(canonical=True)
        if quantity.endswith("gripper_opening") and field.kind == "value":
            at = slice(*(field.columns or (0, None)))
            arrays[field.key][:, at] = rng.uniform(0, 1, arrays[field.key][:, at].shape)
    return arrays


@pytest.mark.parametrize(
    "name", [name for name in builtin_specs() if name not in ("text", "pairs", "lerobot")]
)
def test_every_packaged_spec_comes_back(name):
    spec = load_spec(name)
    arrays = synthetic(spec, np.random.default_rng(2))
    environment = {"env_args": {"env_kwargs": {"controller_configs": OSC}}}
    commands = there_and_back(spec, arrays, environment)
    told = 0
    for stream, fields in spec.mapping.actions.items():
        if any(field.key is None for field in fields.values()):
            with pytest.raises(FoundryError, match="is the state that follows") as error:
                commands(stream)
            assert name == "robosuite" or "stream='command'" in error.value.hint
            continue
        for key, values in commands(stream).items():
            np.testing.assert_allclose(values, arrays[key], rtol=0, atol=1e-5)
            told += 1
    assert told or name == "robosuite"  # its recordings have joints and no command of joints


SAMPLES_OF = {
    "aloha": "hdf5_aloha/episode_0.hdf5",
    "bridge": "rlds/bridge_dataset",
    "droid": "rlds/droid_like",
    "droid_raw": "droid_raw",
    "robomimic": "hdf5/lift_human_replay_robomimic_image84.hdf5",
}


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
@pytest.mark.parametrize("name", SAMPLES_OF)
def test_every_sample_comes_back(name, tmp_path):
    """From the stored rows and the source's arrays in the tars; state by state, as they were recorded."""
    options = Options(limit=2)
    report = run(load_spec(name), Path(SAMPLES) / SAMPLES_OF[name], store=tmp_path, name="d", options=options)
    folder = tmp_path / "datasets/d" / report.version.version_id
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    interface = interface_of(manifest)
    state = manifest.schema.state_space()
    compared = 0
    for shard in manifest.shards:
        frames = pa.ipc.open_file(folder / f"frames/{shard.key}.arrow").read_all()
        arrays = source_arrays_of(tmp_path / f"shards/d/{shard.key}.tar")
        matrix = {
            c: np.array(frames[c].to_pylist()) for c in frames.column_names if c.startswith(("state", "act"))
        }
        valid_N = (frames["flags"].to_numpy() & (8 | 16)) == 0
        for stream, fields in interface.mapping.actions.items():
            if any(field.key is None for field in fields.values()):
                continue
            back = source_actions(
                interface, stream, matrix[f"action.{stream}"], matrix["state"],
                manifest.schema.space(stream), state, rest=0.0,
            )  # fmt: skip
            for quantity, field in fields.items():
                own = slice(*(field.columns or (0, None)))
                sent = arrays[field.key].reshape(len(valid_N), -1)[valid_N, own].astype(float)
                found = back[field.key].reshape(len(valid_N), -1)[valid_N, own]
                compare(quantity, field, sent, found)
                compared += 1
    assert compared


def source_arrays_of(path):
    """The arrays of all episodes of a tar, one behind the other."""
    parts = {}
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".source.npz"):
                with np.load(io.BytesIO(tar.extractfile(member).read()), allow_pickle=False) as arrays:
                    for key in arrays:
                        parts.setdefault(key, []).append(arrays[key])
    return {
        key: np.concatenate(values)
        for key, values in parts.items()
        if values[0].ndim and len({v.shape[1:] for v in values}) == 1
    }


def compare(quantity, field, sent, found):
    if field.kind == "euler":  # the same rotation, whatever the three angles
        ours, theirs = (Rotation.from_euler(field.parameters["sequence"], a) for a in (found, sent))
        assert (ours.inv() * theirs).magnitude().max() < 1e-5
        return
    limits = {"osc": (-1, 1)}.get(field.kind, (-np.inf, np.inf))
    if quantity.endswith("gripper_opening"):
        limits = sorted((field.parameters["closed"], field.parameters["open"]))
    np.testing.assert_allclose(found, np.clip(sent, *limits), rtol=0, atol=1e-5)


POSE = {
    "right.ee_position": {"key": "p"},
    "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"},
}


def pose_arrays(rng, **more):
    return {"p": rng.uniform(-1, 1, (N, 3)), "q": Rotation.random(N, random_state=3).as_quat(), **more}


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
