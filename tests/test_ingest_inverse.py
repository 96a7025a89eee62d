"""Source action -> canonical target -> command: every form, every packaged spec, every sample.

Expected values are the source's own numbers, clipped by NumPy, or their canonical representative by SciPy.
Legend: N frames, d columns.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.mapped_rows import spec_of
from foundry_testing.there_and_back import OSC, N, there_and_back
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.robot.forms import FORMS, form_of, width_of
from robot_foundry.ingest.robot.interface import interface_of
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
QUANTITY = {
    "position": "right.ee_position", "rotation": "right.ee_rotation", "gripper": "right.gripper_opening",
    "joint": "right.joint_position", "numbers": "base.linear_velocity", "own": "robot.value",
}  # fmt: skip
TAIT_BRYAN = ["xyz", "zyx", "XYZ", "ZYX", "yxz", "XZY"]
number = st.floats(0.05, 2).flatmap(lambda x: st.sampled_from([x, -x]))
SETTINGS = {
    "scale": number,
    "clip": st.none() | st.floats(0.3, 1),
    "order": st.sampled_from(["xyzw", "wxyz"]),
    "sequence": st.sampled_from([*TAIT_BRYAN, "zxz", "XYX"]),
    "rotation": st.sampled_from(["axis_angle", "xyzw", "wxyz", *TAIT_BRYAN]),
    "frame": st.sampled_from(["base", "tool"]),
    "threshold": st.floats(0.1, 0.5),
    "degrees": st.booleans(),
    "closed": st.floats(-1, -0.1),
    "open": st.floats(0.1, 1),
}
directions = st.sampled_from([([0, 0, 1], [0, 1, 0]), ([1, 0, 0], [0, 0, -2]), ([0, -1, 0], [1, 0, 0])])


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
        "rot6d_exact": lambda: np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1),
        "rot6d_rows": lambda: matrix_N33[:, :2].reshape(-1, 6),
        "matrix": lambda: matrix_N33.reshape(-1, 9),
    }[form]()


def source_of(kind, form, values, rng, width):
    """Numbers of the source [N, d], some of them beyond the clip, and what comes back of them."""
    sent = rng.uniform(-1.4, 1.4, (N, width))
    if form in ("osc", "next_state"):
        return sent, np.clip(sent, -1, 1)
    if form == "relative":  # commands to the ends come back; that nothing changes is said by what it is
        ends = np.array([values["closed"], values["open"]])
        return (ends[rng.integers(0, 2, (N, 1))],) * 2
    if form == "delta" and width == 4 and kind == "rotation":
        xyzw_N4 = Rotation.from_rotvec(rng.uniform(-1, 1, (N, 3))).as_quat(canonical=True)
        return (xyzw_N4 if values["rotation"] == "xyzw" else np.roll(xyzw_N4, 1, axis=1),) * 2
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


ALL_FORMS = [
    (kind, name) for kind, forms in FORMS.items() for name, form in forms.items() if not form.is_of_state
]


@pytest.mark.parametrize(("kind", "form"), ALL_FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_form_comes_back(kind, form, data):
    quantity, shape = QUANTITY[kind], FORMS[kind][form]
    drawn = {name: data.draw(SETTINGS[name], label=name) for name in shape.settings}
    if kind == "rotation" and "scale" in drawn:
        drawn["scale"] = abs(drawn["scale"]) / 2  # turns of less than half a turn
        if drawn["rotation"] in ("xyzw", "wxyz"):
            drawn |= {"scale": 1.0, "clip": None}
        elif drawn["rotation"] != "axis_angle":
            drawn["scale"] /= 2
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    width = width_of(quantity, shape, drawn) or 4
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
        **({"names": list("cadb")} if kind == "own" and not shape.needs_state else {}),
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
            width = width_of(quantity, form_of(quantity, field), field.parameters) or 7
            stop = stop if stop is not None else max(start, 0) + width if start >= 0 else 6 + width
            needed[field.key] = max(needed.get(field.key, 0), stop)
    for key, width in needed.items():
        arrays[key] = rng.uniform(-0.9, 0.9, (N, width))
    for quantity, field in fields:
        if field.kind == "quaternion":
            at = slice(*(field.columns or (0, None)))
            arrays[field.key][:, at] = Rotation.random(N, random_state=1).as_quat(canonical=True)
        if quantity.endswith("gripper_opening") and field.kind == "value":
            at = slice(*(field.columns or (0, None)))
            arrays[field.key][:, at] = rng.uniform(0, 1, arrays[field.key][:, at].shape)
    return arrays


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in builtin_specs()
        if "/" not in name and name not in ("text", "pairs", "lerobot", "diffusion_policy")
    ],
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
