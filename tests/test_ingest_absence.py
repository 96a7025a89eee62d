"""What a source holds and nothing takes, and what a spec asks for and no episode has: counted and told.

Files are made with h5py; what is in them is the witness. Legend: N frames.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from foundry_testing import absence_sources
from foundry_testing.absence_sources import FRAMES, QUIET, make, warnings
from foundry_testing.rlds_directories import SPEC, simple

command = absence_sources.command


# --- all is well ------------------------------------------------------------------------------------------


def test_what_is_always_left_is_in_the_record_and_no_warning(tmp_path, command):
    extra = {
        "dones": np.zeros(FRAMES),
        "obs/object": np.zeros((FRAMES, 10)),
        "states": np.zeros((FRAMES, 30)),
    }
    path = make(tmp_path / "in.hdf5", {"arrays": extra}, {"arrays": extra | {"extra": np.zeros(FRAMES)}})
    made = command("ingest", "robomimic", path, "--as", "made", "--json")
    assert made["warnings"] == []
    record = made["absence"]
    assert record["episodes"] == 2
    assert record["taken"]["arrays"] == [
        *("actions", "obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos", "rewards"),
    ]
    assert record["not_taken"] == {
        "arrays": [
            {"name": "dones", "episodes": 2},
            {"name": "extra", "episodes": 1},
            {"name": "obs/object", "episodes": 2},
            {"name": "states", "episodes": 2},
        ],
        "columns": [],
        "file_attributes": [],
        "attributes": [],
        "left_out": [],
    }
    assert record["without"]["instruction"] == {"episodes": 0, "examples": []}
    # The packaged spec's other names are told, and are no fault of the source.
    assert {entry["name"] for entry in record["not_found"] if entry["asked"] == "mapping.cameras"} == {
        *("agentview", "frontview", "sideview", "robot0_eye_in_hand"),
    }
    assert not any(entry["is_lost"] for entry in record["not_found"])
    shown = command("show", "made").out
    assert "not taken    dones, extra (in 1 of 2), obs/object, states\n" in shown
    assert all(f"\n{label}" not in shown for label in ("lost", "without", "not found"))
    assert f"not needed   {len(record['not_found'])} names that the spec has for other sources" in shown


# --- language ---------------------------------------------------------------------------------------------


def test_episodes_without_an_instruction_are_counted_and_some_are_named(tmp_path, command):
    demos = [{"attributes": QUIET if n < 2 else {}} for n in range(7)]
    path = make(tmp_path / "in.hdf5", *demos)
    (told,) = (text for text in warnings(command, path) if "instruction" in text)
    assert told.startswith("5 of 7 episodes have no instruction (in.hdf5#demo_")
    shown = command("show", "made").out
    assert (
        "without      instruction in 5 of 7 episodes (in.hdf5#demo_" in shown
        and f"noted        {told}" in shown
    )


@pytest.mark.parametrize(
    ("attributes", "of_file", "expected"),
    [
        ({}, {}, "no episode has an instruction: --set 'mapping.instruction=[{text: …}]' gives one"),
        (
            {"task_description": "lift it"},
            {},
            "the source has the attribute 'task_description': "
            "--set 'mapping.instruction=[{attr: task_description}]'",
        ),
        (
            {},
            {"language": "lift it"},
            "the source has the attribute 'language' of the file: "
            "--set 'mapping.instruction=[{attr: language}]'",
        ),
        ({"meta": json.dumps({"lang": "lift it"})}, {}, "the source has 'lang' inside the attribute 'meta'"),
    ],
)
def test_where_the_language_may_be_is_told(tmp_path, command, attributes, of_file, expected):
    path = make(tmp_path / "in.hdf5", {"attributes": attributes}, **of_file)
    (told,) = warnings(command, path)
    assert told.startswith("no episode has an instruction") and expected in told


@pytest.mark.parametrize("is_of_file", [False, True])
def test_the_override_that_is_told_gives_the_instruction(tmp_path, command, is_of_file):
    told = {"task_description": "lift it"}
    path = make(
        tmp_path / "in.hdf5", {"attributes": {} if is_of_file else told}, **(told if is_of_file else {})
    )
    (told,) = warnings(command, path)
    override = told.partition("--set '")[2].removesuffix("'")
    remapped = command("remap", "made", "--set", override, "--json")
    assert remapped["warnings"] == [] and remapped["absence"]["without"]["instruction"]["episodes"] == 0
    assert command("show", "made", "--json")["episodes"]["instructions"] == {"lift it": 1}


def test_numbers_are_no_place_of_language(tmp_path, command):
    arrays = {
        "obs/goal_cloud": np.zeros((FRAMES, 3000, 3)),  # too long for an array
        "obs/lang_tokens": np.full((FRAMES, 3, 2), b"lift it"),
    }
    numbers = {"task_id": 3, "goal_position": [0.1, 0.2, 0.3]}
    path = make(tmp_path / "in.hdf5", {"attributes": numbers, "arrays": arrays}, language_version=2)
    (told,) = warnings(command, path)
    assert told.startswith("no episode has an instruction; the source has 'obs/lang_tokens', which was left")


def test_a_spec_without_rules_for_a_source_without_language_is_no_warning(tmp_path, command):
    path = make(tmp_path / "in.hdf5", {"attributes": {}})
    assert warnings(command, path, "mapping.instruction=[]") == []


# --- the same wherever it is told ------------------------------------------------------------------------


def test_a_camera_of_some_episodes_is_counted(tmp_path, command):
    arrays = {"obs/agentview_image": np.zeros((FRAMES, 8, 9, 3), np.uint8)}
    path = make(tmp_path / "in.hdf5", {"arrays": arrays}, {}, {"arrays": arrays})
    assert warnings(command, path) == []
    record = command("show", "made", "--json")["provenance"]["absence"]
    assert record["taken"]["cameras"] == [{"name": "agentview", "episodes": 2}]
    assert record["without"]["camera agentview"] == {"episodes": 1, "examples": ["in.hdf5#demo_1"]}
    assert "without      camera agentview in 1 of 3 episodes (in.hdf5#demo_1)" in command("show", "made").out


def test_a_dry_run_says_why_nothing_can_be_read(tmp_path, command):
    path = make(tmp_path / "in.hdf5", {"arrays": {"obs/front_image": np.zeros((FRAMES, 8, 9, 3), np.uint8)}})
    dry = command(
        "ingest", "robomimic", path, "--dry-run", "--json", "--set", "content.flip={frnt: vertical}"
    )
    (told,) = dry["quarantined"]
    assert told["unit"] == "in.hdf5#demo_0" and (dry["discovered"], dry["written"]) == (1, 0)
    assert told["reason"].startswith("it has no camera 'frnt', which content.flip names, did you mean")


def test_a_dry_run_a_repeated_run_and_a_remap_tell_the_same(tmp_path, command):
    path = make(tmp_path / "in.hdf5")
    typo = ["--set", "mapping.success=[{key: rewads, at_least: 1}]"]
    ingest = ["ingest", "robomimic", path, "--as", "made", *typo]
    dry = command(*ingest, "--dry-run", "--json")
    assert len(dry["warnings"]) == 1 and dry["warnings"][0].startswith(
        "in.hdf5#demo_0: no episode has the array"
    )
    first = command(*ingest, "--json")
    assert dry["warnings"] == [f"in.hdf5#demo_0: {first['warnings'][0]}"]
    assert dry["absence"] == first["absence"]  # the file has one episode
    again = command(*ingest, "--json")
    assert again["noop"] and again["warnings"] == first["warnings"] and again["absence"] == first["absence"]
    assert "Warning: no episode has the array 'rewads'" in command(*ingest).err
    # Another build of the very same version tells of itself, not of the first one.
    quiet = ["ingest", "robomimic", path, "--as", "made", "--set", "mapping.success=[]"]
    for _ in range(2):
        other = command(*quiet, "--json")
        assert other["version_id"] == first["version_id"] and other["warnings"] == []
    remapped = command("remap", "made", "--set", "mapping.success=[{key: rewards, at_least: 1}]", "--json")
    assert remapped["version_id"] != first["version_id"] and remapped["warnings"] == []


# --- cameras, columns, arms -------------------------------------------------------------------------------


def test_images_in_a_form_that_is_not_read_are_a_camera_that_is_lost(tmp_path, command):
    arrays = {
        "obs/wrist_image": np.zeros((FRAMES, 40, 40, 5), "f4"),  # colours, depth, mask
        "obs/agentview_depth": np.zeros((FRAMES, 80, 80, 1), "f4"),
        "obs/camera_names": np.array(["front"] * FRAMES, dtype=h5py.string_dtype()),
    }
    path = make(tmp_path / "in.hdf5", {"arrays": arrays})
    depth, wrist = warnings(command, path)
    assert wrist == (
        "obs/wrist_image looks like images of a camera and is not read as one: a row has 8000 numbers"
    )
    assert "'obs/agentview_depth' may hold images" in depth and "content.skip=[obs/agentview_depth]" in depth
    record = command("show", "made", "--json")["provenance"]["absence"]
    left_out = {entry["name"]: entry["reason"] for entry in record["not_taken"]["left_out"]}
    assert left_out["obs/agentview_depth"] == "a row has 6400 numbers"


def test_names_and_shapes_that_are_no_pictures_are_no_cameras(tmp_path, command):
    long = np.zeros((FRAMES, 2000, 3))  # too long for an array
    arrays = {
        f"obs/{name}": long
        for name in ("camera_point_cloud", "image_heatmap", "semantic_image", "image_label", "camera_pose")
    }
    assert warnings(command, make(tmp_path / "a.hdf5", {"arrays": arrays})) == []
    (told,) = warnings(command, make(tmp_path / "b.hdf5", {"arrays": {"obs/gray": long}}))
    assert told == "obs/gray looks like images of a camera and is not read as one: a row has 6000 numbers"


@pytest.mark.parametrize(("columns", "unused"), [(14, [7, 14]), (8, [7, 8])])
def test_columns_of_an_action_that_nothing_takes(tmp_path, command, columns, unused):
    path = make(tmp_path / "in.hdf5", {"columns": columns})
    assert warnings(command, path) == [
        f"nothing takes {unused[1] - unused[0]} of the {columns} columns of 'actions': {unused}"
    ]
    assert f"columns [{unused[0]}, {unused[1]}] of actions" in command("show", "made").out


def test_the_arrays_of_a_second_arm_that_nothing_takes(tmp_path, command):
    second = {f"obs/robot1_{name}": np.zeros((FRAMES, 3)) for name in ("eef_pos", "joint_pos", "eef_quat")}
    path = make(tmp_path / "in.hdf5", {"arrays": second})
    assert warnings(command, path) == [
        "nothing takes what looks like another arm: obs/robot1_eef_pos, obs/robot1_eef_quat"
    ]


GENERIC = """
layout: hdf5
content: {hdf5: {length: act, images: ['cams/*', 'vison/*']}}
mapping:
  embodiment: mine
  cameras: {front: primary}
  state:
    right.joint_position: {key: obs/right_q}
  actions:
    command:
      right.joint_position: {key: act, columns: [0, 7], from: value}
"""


def test_a_spec_of_ones_own_that_reads_one_arm_of_two(tmp_path, command):
    spec = tmp_path / "mine.yaml"
    spec.write_text(GENERIC)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["act"] = np.zeros((FRAMES, 14))
        file["obs/right_q"], file["obs/left_q"] = np.zeros((FRAMES, 7)), np.zeros((FRAMES, 7))
        file["cams/front"] = np.zeros((FRAMES, 8, 8, 3), np.uint8)
        file["cams/wrist"] = np.zeros((FRAMES, 8, 8, 3), np.uint8)
        file["language_instruction"] = "lift it"
    assert warnings(command, tmp_path / "in.h5", spec=spec) == [
        "content.hdf5.images 'vison/*' matches no image array",
        "camera 'wrist' has no role in the mapping, so its name is its role",
        "no episode has an instruction; the source has the attribute 'language_instruction': "
        "--set 'mapping.instruction=[{attr: language_instruction}]'",
        "nothing takes 7 of the 14 columns of 'act': [7, 14]",
        "nothing takes what looks like another arm: obs/left_q",
        "1 of 1 episodes tells no rate, so 20 Hz is taken: --set content.fps=… says it",
    ]


def test_the_array_whose_rows_are_counted_is_not_taken_by_that(tmp_path, command):
    spec = tmp_path / "mine.yaml"
    spec.write_text(
        GENERIC.replace("key: act, columns: [0, 7], from: value", "from: next_state")
        .replace("command:", "next_state:")
        .replace("length: act, images: ['cams/*', 'vison/*']", "length: act")
    )
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["act"], file["obs/right_q"] = np.zeros((FRAMES, 7)), np.zeros((FRAMES, 7))
    warnings(command, tmp_path / "in.h5", spec=spec)
    assert "\nnot taken    act\n" in command("show", "made").out


def test_rlds_with_a_camera_without_a_role_and_texts_that_no_rule_takes(tmp_path, command):
    made = simple(tmp_path / "src", 4)
    spec = tmp_path / "mine.yaml"
    spec.write_text(SPEC.replace("spans: steps/language_instruction", "spans: steps/instrction"))
    told = warnings(command, made.folder, "mapping.cameras={}", spec=spec)
    assert any(text.startswith("no episode has a text under 'steps/instrction'") for text in told)
    assert "camera 'image' has no role in the mapping, so its name is its role" in told
    assert any("did you mean 'steps/language_instruction'?" in text for text in told)
    assert not any("no episode has an instruction" in text for text in told)


def test_a_gripper_whose_command_is_not_there(tmp_path, command):
    path = make(tmp_path / "in.hdf5", {"columns": 6})
    told = warnings(command, path)
    assert told == [
        f"right.gripper_opening of {stream} is left out: no episode has 'actions' with the columns [6, 7]"
        for stream in ("command", "next_state")
    ]


def test_files_that_are_passed_over_are_named(tmp_path, command):
    folder = tmp_path / "src"
    folder.mkdir()
    make(folder / "in.hdf5")
    for name in "dcba":
        (folder / f"{name}.txt").write_text("no demonstration")
    assert warnings(command, folder) == [
        "passed over 4 files that the layout robomimic does not read: a.txt, b.txt, c.txt, …"
    ]
    assert "passed over  a.txt, b.txt, c.txt, … and 1 more\n" in command("show", "made").out


# --- refusals ---------------------------------------------------------------------------------------------


def test_like_refusals_are_one_line_with_their_count(tmp_path, command):
    path = make(tmp_path / "in.hdf5", *({} for _ in range(9)))
    with h5py.File(path, "a") as file:
        for n in range(7):
            del file[f"data/demo_{n}/actions"]
        del file["data/demo_7/obs/robot0_eef_pos"]
    told = command("ingest", "robomimic", path, "--as", "made").err
    start = told.index("Warning: 8 of 9 units left out:\n")
    first, second, *_ = told[start:].splitlines()[1:]
    names = ", ".join(f"in.hdf5#demo_{n}" for n in range(5))
    assert first.startswith(f"  {names}, …: ") and "actions" in first and first.endswith(" (7 units)")
    assert second.startswith("  in.hdf5#demo_7: ") and "units)" not in second
