"""Single frames that stand alone are found and named; clocks of another unit are found with the right one.

Legend: N frames.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from foundry_testing.recorded_episodes import checks, judged, made

from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec


@pytest.mark.parametrize("frame", [0, 1, 117, 239])
@pytest.mark.parametrize("far", [0.5, 2.0, 500.0])
def test_one_bad_frame_is_found_and_named(frame, far):
    episodes = made()
    episodes[2].position[frame, 0] += far
    found = judged(episodes)
    assert [(f.check, f.where, f.episodes, f.frame) for f in found if f.check == "magnitude"] == [
        ("magnitude", "state right.ee_position", ("demo-2",), frame)
    ]
    [one] = [f for f in found if f.check == "magnitude"]
    assert f"frame {frame} of demo-2" in one.message and one.overrides == ()


def test_one_bad_frame_of_displacements_is_told_of_the_state_alone():
    def osc(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 3 * step

    episodes = made(osc)
    episodes[1].position[50, 2] -= 1.0
    episodes[1].command["ee_position"][50, 2] -= 1.0
    found = [f for f in judged(episodes) if f.check == "magnitude"]
    assert [f.where for f in found] == ["state right.ee_position"]


def test_a_bad_target_is_found_beside_a_right_state():
    episodes = made()
    episodes[0].command["joint_position"][80, 4] = 3.0
    [one] = [f for f in judged(episodes) if f.check == "magnitude"]
    assert one.where == "action.command right.joint_position" and "frame 80 of demo-0" in one.message
    assert "right.joint_position.4 of" in one.message


def test_quick_motions_and_noise_are_no_outliers():
    def restless(episode):
        rng = np.random.default_rng(0)
        episode.position += rng.normal(0, 0.003, episode.position.shape)
        episode.joints[100:] += 0.4  # a step is no outlier: it stays
        episode.joints[200:206] += np.array([0.1, 0.3, 0.5, 0.5, 0.3, 0.1])[:, None]

    assert "magnitude" not in checks(judged(made(restless), with_command=False))


SPEC = """
layout: hdf5
content: {hdf5: {length: q, time: {key: clock, unit: UNIT}}}
mapping:
  embodiment: arm
  state: {right.joint_position: {key: q}, right.joint_velocity: {key: qd}}
  actions: {next_state: {right.joint_position: {from: next_state}}}
"""
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@pytest.mark.parametrize(
    ("right", "wrong"), [("s", "ms"), ("ms", "s"), ("ns", "s"), ("s", "ns"), ("us", "ms"), ("ms", "us")]
)
@pytest.mark.parametrize("hertz", [10.0, 80.0])
def test_a_clock_of_another_unit_is_found_and_its_setting_mends_it(right, wrong, hertz, tmp_path, capsys):
    with h5py.File(tmp_path / "take.hdf5", "w") as file:
        t = np.arange(60) / hertz
        file["clock"] = 3.0 / SECONDS[right] + t / SECONDS[right]
        phase = t[:, None] * 3 + np.arange(3)
        file["q"], file["qd"] = 0.5 * np.sin(phase), 1.5 * np.cos(phase)
    (tmp_path / "lab.yaml").write_text(SPEC.replace("UNIT", wrong))
    store = tmp_path / "store"

    def ingested(overrides):
        spec = load_spec(tmp_path / "lab.yaml", overrides)
        version = run(spec, tmp_path / "take.hdf5", store=store, name="lab").version
        assert version is not None
        return read_manifest(Store(str(store)), version).provenance["checks"]["findings"]

    found = ingested([])
    assert [(f["check"], f["overrides"]) for f in found] == [("rate", [f"content.hdf5.time.unit={right}"])], [
        f["message"] for f in found
    ]
    assert run_command(group, "foundry-data", ["validate", "lab", "--store", str(store)]) == 3
    printed = capsys.readouterr().out
    assert f"next: foundry-data ingest … --as lab --set content.hdf5.time.unit={right}" in printed
    assert ingested(found[0]["overrides"]) == []
