"""foundry-data validate on recordings: wrong mappings are found and told, right recordings are clean."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import h5py
import pytest
from foundry_testing import reach_stores
from foundry_testing.reach_stores import found

from robot_foundry.catalog.kind import all_kinds
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.ingest import ingest
from robot_foundry.ingest.spec.spec_files import load_spec

# Fixtures.
made = reach_stores.made
SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
LIFT = "hdf5/lift_human_replay_robomimic_image84.hdf5"


def test_the_command_prints_sentences_and_next_commands_and_ends_with_3(made, tmp_path, capsys):
    store = tmp_path / "store"
    arguments = ["validate", "reach", "--store", str(store)]
    ingest("robomimic", made / "source", store=store, name="reach")
    assert run_command(group, "foundry-data", arguments) == 0
    assert "reach@v1: nothing found (2 shards, 4 episodes, 160 frames" in capsys.readouterr().out

    with (
        h5py.File(made / "source" / "part_0.hdf5", "r") as file,
        h5py.File(tmp_path / "bad.hdf5", "w") as bad,
    ):
        file.copy("data", bad)
        for demo in bad["data"].values():
            demo["actions"][:, 6] *= -1
    ingest("robomimic", tmp_path / "bad.hdf5", store=store, name="reach")
    assert run_command(group, "foundry-data", arguments) == 3
    out, err = capsys.readouterr()
    of_streams = [f"gripper_polarity:action.{s} right.gripper_opening" for s in ("command", "next_state")]
    ignore = [part for name in of_streams for part in ("--ignore", name)]
    assert "validate reach --ignore 'gripper_polarity:action.command right.gripper_opening' --ignore" in err
    assert "[gripper_polarity] reach@v2: right.gripper_opening of action.command goes against" in out
    assert run_command(group, "foundry-data", [*arguments, *ignore[:2]]) == 3
    assert run_command(group, "foundry-data", [*arguments, *ignore, "--ignore", "lag"]) == 0
    told, err = capsys.readouterr()
    assert "[gripper_polarity, ignored] reach@v2: right.gripper" in told and "'lag' is of nothing" in err
    assert run_command(group, "foundry-data", [*arguments, "--ignore", "tra"]) == 2
    assert "there is no check 'tra' of the data" in capsys.readouterr().err
    override = "mapping.actions.command.right.gripper_opening.closed=-1"
    assert f"next: foundry-data remap reach@v2 --set {override}" in out
    sets = ["--set", override, "--set", override.replace("closed=-1", "open=1")]
    sets += [value.replace("command", "next_state") for value in sets]
    assert run_command(group, "foundry-data", ["remap", "reach@v2", *sets, "--store", str(store)]) == 0
    capsys.readouterr()
    assert run_command(group, "foundry-data", [*arguments, "--json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["versions"]
    assert one["version"] == "reach@v3"
    follow = one["following"]["action.command right.ee_position"]
    assert follow["lag"] == 0 and follow["gain"] == pytest.approx(0.2, abs=0.01)  # as the file was made
    assert run_command(group, "foundry-data", ["validate", "raech", "--store", str(store)]) == 1


def test_every_check_is_documented_by_its_name():
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text(encoding="utf-8")
    data = page[page.index("## Data") : page.index("## The store")]
    of_kinds = [check for kind in all_kinds() for check in kind.doubts]
    assert re.findall(r"^\| `(\w+)` \|", data, re.MULTILINE) == of_kinds


@pytest.mark.parametrize(("task", "variant"), [("pick_place", "sim"), ("push", "real")])
def test_recordings_of_the_simulated_world_are_clean(task, variant, tmp_path):
    file = tmp_path / f"{task}.hdf5"
    collect(Request(task, variant, 4, 3, None, 16), file, quiet=True)
    ingest("tabletop", file, store=tmp_path / "store", name="demos")
    assert found(tmp_path / "store", "demos", deep=True) == []


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
@pytest.mark.parametrize(
    ("spec", "file", "wrong", "check"),
    [
        ("robomimic", LIFT, "state.right.ee_rotation.order=wxyz", "motion"),
        (
            "robomimic",
            LIFT,
            "actions.command.right.ee_position={key: actions, columns: [3, 6], from: delta, scale: 0.5}",
            "motion",
        ),
        ("robomimic", LIFT, "state.right.ee_position.scale=1000", "magnitude"),
        (
            "robosuite",
            "hdf5/robosuite141_lift_demo.hdf5",
            "state.right.joint_position.scale=57.3",
            "magnitude",
        ),
        ("bridge", "rlds/bridge_dataset", "state.right.ee_rotation.sequence=ZYX", "motion"),
    ],
)
def test_a_wrong_mapping_of_a_real_recording_is_found(spec, file, wrong, check, tmp_path):
    path = Path(str(SAMPLES)) / file
    ingest(load_spec(spec, [f"mapping.{wrong}"]), path, store=tmp_path, name="real")
    assert check in {finding.check for finding in found(tmp_path, "real")}


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("robomimic", LIFT),
        ("robosuite", "hdf5/robosuite141_lift_demo.hdf5"),
        ("robosuite", "hdf5/robosuite101_stack_demo.hdf5"),
        ("aloha", "hdf5_aloha"),
        ("bridge", "rlds/bridge_dataset"),
    ],
)
def test_real_recordings_are_clean(spec, file, tmp_path):
    ingest(spec, Path(str(SAMPLES)) / file, store=tmp_path, name="real")
    assert found(tmp_path, "real", deep=True) == []
