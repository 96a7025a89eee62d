"""What a spec asks for and no episode has: told with the nearest name, each cause in one sentence.

Legend: N frames.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from foundry_testing import absence_sources
from foundry_testing.absence_sources import FRAMES, QUIET, make, warnings

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec

command = absence_sources.command


# --- rules that match nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "mapping.instruction=[{attr: instrction}, {text: lift}]",
            "no episode has the attribute 'instrction', which mapping.instruction names, did you mean "
            "'instruction'?",
        ),
        (
            "mapping.success=[{key: rewads, at_least: 1}]",
            "no episode has the array 'rewads', which mapping.success names, did you mean 'rewards'?",
        ),
        (
            "mapping.success=[{attr: sucess}]",
            "no episode has the attribute 'sucess', which mapping.success names (there are instruction)",
        ),
        (
            "mapping.intervention=[{key: obs/is_intervetion, is: true}]",
            "no episode has the array 'obs/is_intervetion', which mapping.intervention names, did you mean "
            "'obs/is_intervention'?",
        ),
        (
            "mapping.invalid_action=[{key: valid, is: false}]",
            "no episode has the array 'valid', which mapping.invalid_action names (there are actions, ",
        ),
        (
            "content.skip=['obs/objct*']",
            "content.skip 'obs/objct*' matches no array, did you mean 'obs/object'?",
        ),
        (
            "mapping.embodiment={attr: embodyment, default: arm}",
            "no episode has the attribute 'embodyment', which mapping.embodiment names (there are in",
        ),
        (
            "mapping.state.right.joint_position={key: obs/robot0_joint_ps, optional: true}",
            "right.joint_position of state is left out: no episode has the array 'obs/robot0_joint_ps'",
        ),
        (
            "mapping.instruction=[{by_env: {Custon: lift it}}, {text: do it}]",
            "mapping.instruction.by_env has no text for Custom, did you mean 'Custon'?",
        ),
    ],
)
def test_a_rule_of_the_user_that_matches_nothing_is_a_warning_with_the_nearest_name(
    tmp_path, command, override, expected
):
    arrays = {"obs/is_intervention": np.zeros(FRAMES), "obs/object": np.zeros((FRAMES, 3))}
    path = make(tmp_path / "in.hdf5", {"arrays": arrays})
    (told,) = warnings(command, path, override)
    assert told.startswith(expected)


def test_a_camera_that_no_episode_has_is_told_with_the_one_that_is_meant(tmp_path, command):
    path = make(
        tmp_path / "in.hdf5", {"arrays": {"obs/agentview_image": np.zeros((FRAMES, 8, 9, 3), np.uint8)}}
    )
    assert warnings(command, path, "mapping.cameras={agentveiw: primary}") == [
        "no episode has the camera 'agentveiw', which mapping.cameras names, did you mean 'agentview'?",
    ]
    far = warnings(command, path, "mapping.cameras={wrist: primary}")
    assert "camera 'agentview' has no role in the mapping, so its name is its role" in far


def test_alternatives_of_which_one_is_found_are_in_the_record_only(tmp_path, command):
    arrays = {"obs/agentview_image": np.zeros((FRAMES, 8, 9, 3), np.uint8)}
    path = make(tmp_path / "in.hdf5", {"arrays": arrays, "attributes": QUIET | {"good": True}})
    overrides = [
        "mapping.instruction=[{attr: caption}, {by_env: {Lift: lift it}}, {attr: instruction}]",
        "mapping.success=[{attr: good}, {key: outcome_of_it, at_least: 1}]",
        "mapping.cameras={agentview: primary, zed_front: primary}",
    ]
    assert warnings(command, path, *overrides) == []
    record = command("show", "made", "--json")["provenance"]["absence"]
    assert [(entry["asked"], entry["name"]) for entry in record["not_found"]][:4] == [
        ("mapping.cameras", "zed_front"),
        ("mapping.instruction", "caption"),
        ("mapping.instruction", "by_env"),
        ("mapping.success", "outcome_of_it"),
    ]
    # A camera whose role no other one has is lost.
    lost = [*overrides[:2], "mapping.cameras={agentview: primary, zed: wrist_right}"]
    (told,) = warnings(command, path, *lost)
    assert told == "no episode has the camera 'zed', which mapping.cameras names (there are agentview)"
    command("ingest", "robomimic", path, "--as", "lost", *(word for one in lost for word in ("--set", one)))
    assert "\nnot found    mapping.cameras: zed\n" in command("show", "lost").out


def test_alternatives_for_flags_of_which_one_is_found_are_no_warning(tmp_path, command):
    arrays = {"is_human": np.zeros(FRAMES), "ok": np.ones(FRAMES)}
    path = make(tmp_path / "in.hdf5", {"arrays": arrays})
    rules = "[{{key: {}, is: true}}, {{key: zzz, is: true}}]"
    found = [
        f"mapping.intervention={rules.format('is_human')}",
        f"mapping.invalid_action={rules.format('ok').replace('ok, is: true', 'ok, is: false')}",
    ]
    assert warnings(command, path, *found) == []
    (told,) = warnings(command, path, f"mapping.intervention={rules.format('is_humn')}")[:1]
    assert told.startswith(
        "no episode has the array 'is_humn', which mapping.intervention names, did you mean"
    )


def test_a_rule_is_not_found_though_another_attribute_begins_as_it(tmp_path, command):
    path = make(tmp_path / "in.hdf5", {"attributes": {}}, language_instruction="lift it")
    rules = "mapping.instruction=[{attr: lang}, {attr: language_instruction}]"
    assert warnings(command, path, rules) == []
    record = command("show", "made", "--json")["provenance"]["absence"]
    assert [own["name"] for own in record["not_found"] if own["asked"] == "mapping.instruction"] == ["lang"]


# --- a spec under the name of a packaged one --------------------------------------------------------------


def test_names_in_an_edited_copy_of_a_packaged_spec_are_the_users_own(tmp_path, command):
    packaged = load_spec("robomimic")
    values = packaged.to_json()
    values["mapping"]["success"] = [{"key": "rewads", "at_least": 1}]
    copy = tmp_path / "copy.yaml"
    copy.write_text(json.dumps(values))
    path = make(tmp_path / "in.hdf5")
    expected = ["no episode has the array 'rewads', which mapping.success names, did you mean 'rewards'?"]
    assert values["name"] == "robomimic" and warnings(command, path, spec=copy) == expected
    # The same from Python, and what was loaded before is not changed by it.
    mapping = replace(packaged.mapping, success=tuple(values["mapping"]["success"]))
    report = run(replace(packaged, mapping=mapping), path, store=tmp_path / "other", name="made")
    assert list(report.warnings) == expected
    assert warnings(command, path) == []


# --- one cause, one sentence ------------------------------------------------------------------------------


def test_a_gripper_whose_array_is_misspelt_is_told_once(tmp_path, command):
    path = make(tmp_path / "in.hdf5")
    field = "{from: command, key: actons, columns: [6, 7], closed: 1, open: -1, optional: true}"
    told = warnings(command, path, f"mapping.actions.command.right.gripper_opening={field}")
    assert told == ["right.gripper_opening of command is left out: no episode has the array 'actons'"]


def test_success_that_cannot_be_read_is_told_once_and_what_is_absent_is_counted(tmp_path, command):
    odd = {"attributes": QUIET | {"success": "perhaps"}}
    success = "mapping.success=[{attr: success}]"
    (told,) = warnings(command, make(tmp_path / "a.hdf5", odd, odd), success)
    assert "2 of 2 episodes" in told and "success is unknown" in told
    told, counted = warnings(command, make(tmp_path / "b.hdf5", odd, {}), success)
    assert "1 of 2 episodes" in told
    assert counted.startswith(
        "2 of 2 episodes do not say whether they succeeded (b.hdf5#demo_0, b.hdf5#demo_1)"
    )


def test_an_instruction_in_an_unknown_encoding_has_one_remedy(tmp_path, command):
    encoded = {"attributes": {"instruction": np.bytes_("抓住杯子".encode("gbk"))}}
    rule = "mapping.instruction=[{attr: instruction}]"
    (told,) = warnings(command, make(tmp_path / "a.hdf5", encoded), rule)
    assert "encoding: …" in told and "text: …" not in told
    told, counted = warnings(command, make(tmp_path / "b.hdf5", encoded, {}), rule)
    assert "encoding: …" in told
    assert counted == "1 of 2 episodes have no instruction (b.hdf5#demo_0)"
    told, counted = warnings(command, make(tmp_path / "c.hdf5", encoded, {"attributes": {}}), rule)
    assert "encoding: …" in told and counted == "no episode has an instruction"


def test_a_misspelt_instruction_is_told_once(tmp_path, command):
    path = make(tmp_path / "in.hdf5")
    (told,) = warnings(command, path, "mapping.instruction=[{attr: instrction}]")
    assert told.endswith("which mapping.instruction names, did you mean 'instruction'?")
    # What is near is no text, so where the language is, is told too.
    path = make(tmp_path / "other.hdf5", {"attributes": {"task_index": 3, "prompt": "lift it"}})
    told = warnings(command, path, "mapping.instruction=[{attr: task_indx}]")
    assert len(told) == 2 and "did you mean 'task_index'?" in told[0] and "{attr: prompt}" in told[1]
