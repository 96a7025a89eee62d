"""The settings that the scale checks print mend what they found, and give the right values again.

Legend: N frames.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest.remapping import run, spec_of
from robot_foundry.ingest.robot.version_tables import warnings_of

FPS, EPISODES, N = 20, 4, 200
GAIN = 0.3  # of the displacements that are asked, as an impedance controller makes of them
DEGREE = np.pi / 180
OPENING = "right.gripper_opening"
SPEC = """
layout: hdf5
content: {hdf5: {episodes: takes/*, length: d, time: {key: clock, unit: s}}}
mapping:
  embodiment: arm
  state:
    right.ee_position: {key: p_cm, scale: 0.01}
    right.ee_rotation: {key: quaternion, from: quaternion, order: xyzw}
    right.gripper_opening: {key: width, from: width, closed: 0, open: 0.08}
    right.joint_position: {key: q}
    right.joint_velocity: {key: qd}
    right.ee_linear_velocity: {key: v}
    right.ee_angular_velocity: {key: w}
  actions:
    command:
      right.ee_position: {key: d, from: delta, scale: 0.01}
      right.ee_rotation: {key: r_deg, from: delta, scale: 0.0174532925}
      right.gripper_opening: {key: g, from: command, closed: 1, open: -1}
      right.joint_position: {key: dq, from: delta}
    target:
      right.ee_position: {key: p_next}
      right.joint_position: {key: q_next}
      right.joint_velocity: {key: qd_next}
      right.ee_linear_velocity: {key: v}
"""


def smooth(rng: Any, width: int, scale: float) -> Any:
    kernel = np.ones(12) / 12
    walk = rng.normal(size=(N + 49, width))
    for _ in range(2):
        walk = np.stack([np.convolve(column, kernel, mode="same") for column in walk.T], axis=1)
    return scale * np.sqrt(12) * walk[24 : 24 + N + 1]


def write(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for episode in range(EPISODES):
            rng = np.random.default_rng(episode)
            p = np.array([0.5, 0.1, 0.3]) + smooth(rng, 3, 0.1)
            rotation = Rotation.from_euler("xyz", [3.0, 0.1, 0.4]) * Rotation.from_rotvec(
                smooth(rng, 3, 0.25)
            )
            q = np.array([0.3, -0.8, 0.2, 1.9, -0.5, 0.9]) + smooth(rng, 6, 0.4)
            turned = (rotation[1:] * rotation[:-1].inv()).as_rotvec()
            g = np.where((np.arange(N) // 50) % 2, 1.0, -1.0)
            width = np.convolve(np.r_[[g[0]] * 6, g], np.ones(6) / 6, mode="valid")[:N]
            asked = (np.diff(p, axis=0) + rng.normal(0, 2e-4, (N, 3))) / GAIN
            arrays = {
                "p_cm": 100 * p[:-1], "quaternion": rotation[:-1].as_quat(), "q": q[:-1], "d": 100 * asked,
                "shares": np.clip(asked / 0.02, -1, 1),
                "qd": np.gradient(q, 1 / FPS, axis=0)[:-1], "v": np.gradient(p, 1 / FPS, axis=0)[:-1],
                "w": turned * FPS, "r_deg": turned / GAIN / DEGREE, "dq": np.diff(q, axis=0) / GAIN,
                "width": 0.04 - 0.04 * width, "g": g, "clock": 5.0 + np.arange(N) / FPS,
                "p_next": p[1:], "q_next": q[1:], "qd_next": np.diff(q, axis=0) * FPS,
            }  # fmt: skip
            for name, values in arrays.items():
                file[f"takes/{episode}/{name}"] = values


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remedies")
    (folder / "lab.yaml").write_text(SPEC)
    write(folder / "takes.hdf5")
    assert foundry(folder, "ingest", str(folder / "lab.yaml"), str(folder / "takes.hdf5"), "--as", "lab") == 0
    return folder


def foundry(folder: Path, *arguments: str) -> int:
    return run_command(group, "foundry-data", [*arguments, "--store", str(folder / "store")])


def tables(folder: Path, reference: str) -> dict[str, Any]:
    store = Store(str(folder / "store"))
    version = resolve(store, reference)
    manifest = read_manifest(store, version)
    assert manifest.schema is not None
    columns = ["state", *(f"action.{stream}" for stream in manifest.schema.streams)]
    frames = [OpenVersion(store, version).table(f"frames/{shard.key}") for shard in manifest.shards]
    found = {name: np.concatenate([column_matrix(table, name) for table in frames]) for name in columns}
    return {**found, "timestamp": np.concatenate([table["timestamp"].to_numpy() for table in frames])}


def remapped(folder: Path, reference: str, overrides: Sequence[str]) -> tuple[str, list[dict[str, Any]]]:
    """The version that the overrides make, and what is found in it."""
    store = str(folder / "store")
    version = run(reference, spec_of(reference, None, overrides, store=store), store=store).version
    assert version is not None
    return str(version), read_manifest(Store(store), version).provenance["checks"]["findings"]


def test_the_right_spec_has_no_finding(recorded, capsys):
    assert foundry(recorded, "validate", "lab@v1") == 0


def test_the_printed_command_is_one_that_runs(recorded, capsys):
    joint = "mapping.actions.target.right.joint_position.scale=[1, 1, 1, 57.295779513, 1, 1]"
    wrong, _ = remapped(recorded, "lab@v1", [joint])
    assert foundry(recorded, "validate", wrong) == 3
    [command] = set(re.findall(r"next: foundry-data (remap .*)", capsys.readouterr().out))
    assert foundry(recorded, *shlex.split(command)) == 0
    assert "scale: correct" not in capsys.readouterr().err


FAULTS = [
    # Displacements: 100 times too large is what `scale: 1` makes of centimetres.
    ("actions.command.right.ee_position.scale=1", "scale"),
    ("actions.command.right.ee_position.scale=10", "scale"),
    ("actions.command.right.ee_position.scale=0.0001", "scale"),
    ("actions.command.right.ee_rotation.scale=0.000304617", "scale"),
    ("actions.command.right.joint_position.scale=57.295779513", "scale"),
    ("actions.command.right.joint_position.scale=0.01745329252", "scale"),
    # Targets, and the state that they are of.
    ("actions.target.right.ee_position.scale=1000", "magnitude"),
    ("actions.target.right.ee_position.scale=100", "magnitude"),
    ("actions.target.right.ee_position.scale=0.001", "scale"),
    ("actions.target.right.joint_position.scale=57.295779513", "magnitude"),
    ("actions.target.right.joint_position.scale=0.01745329252", "scale"),
    ("actions.target.right.joint_position.scale=[1, 1, 1, 57.295779513, 1, 1]", "scale"),
    ("state.right.ee_position.scale=1", "magnitude"),
    ("state.right.ee_position.scale=0.0001", "scale"),
    ("state.right.joint_position.scale=57.295779513", "magnitude"),
    ("state.right.joint_position.scale=0.01745329252", "scale"),
    # Velocities.
    ("state.right.joint_velocity.scale=57.295779513", "velocity_unit"),
    ("state.right.joint_velocity.scale=0.01745329252", "velocity_unit"),
    ("state.right.ee_linear_velocity.scale=1000", "velocity_unit"),
    ("state.right.ee_angular_velocity.scale=57.295779513", "velocity_unit"),
    ("actions.target.right.joint_velocity.scale=57.295779513", "velocity_unit"),
    ("actions.target.right.ee_linear_velocity.scale=0.01", "velocity_unit"),
    # Grippers.
    (f"actions.command.{OPENING}={{key: g, from: command, closed: -1, open: 1}}", "gripper_polarity"),
    (f"state.{OPENING}={{key: width, from: width, closed: 0.08, open: 0}}", "gripper_polarity"),
    (f"state.{OPENING}={{key: width, from: width, closed: 0, open: 0.8}}", "scale"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "check"), FAULTS)
def test_the_printed_settings_mend_the_fault(fault, check, recorded):
    wrong, found = remapped(recorded, "lab@v1", [f"mapping.{fault}"])
    assert check in {finding["check"] for finding in found}
    overrides = list(dict.fromkeys(override for finding in found for override in finding["overrides"]))
    assert overrides, [(finding["message"], finding["remedy"]) for finding in found]
    mended, found = remapped(recorded, wrong, overrides)
    assert found == []
    right = tables(recorded, "lab@v1")
    for name, values in tables(recorded, mended).items():
        np.testing.assert_allclose(values, right[name], rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        # So far that angles wrap: how far is no longer told by them.
        ("actions.command.right.ee_rotation.scale=1", "0.017453293 for degrees"),
        # Shares of a controller's greatest step, of which only the controller knows it.
        ("actions.command.right.ee_position={key: shares, from: delta, scale: 1}", "which is the scale then"),
        # Neither side is where no robot is.
        ("actions.target.right.ee_position.scale=0.1", "of action.target (10 times too small)"),
    ],
)
def test_what_the_data_do_not_prove_is_told_without_a_setting(fault, told, recorded):
    _, found = remapped(recorded, "lab@v1", [f"mapping.{fault}"])
    assert [finding["check"] for finding in found] == ["scale"]
    assert told in found[0]["remedy"] and found[0]["overrides"] == []


def test_settings_in_warnings_are_words_of_a_shell() -> None:
    """A scale of several columns has spaces and brackets, a list of texts may have anything."""
    overrides = [
        "mapping.state.right.joint_position.scale=[0.017453293, 1.0]",
        "content.skip=[it's]",
        "a.b=1",
    ]
    finding = {"message": "degrees", "remedy": "scale them", "overrides": overrides}
    (told,) = warnings_of({"checks": {"findings": [finding]}})
    start = "degrees: scale them ("
    assert told.startswith(start)
    words = shlex.split(told[len(start) : -1])
    assert words == [word for override in overrides for word in ("--set", override)]
