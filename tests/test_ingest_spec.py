"""Specs: strict reading with every problem at once, overrides, and hashes that depend on meaning alone."""

from __future__ import annotations

import pytest

from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.spec_files import (
    builtin_specs,
    load_spec,
    read_spec,
    with_overrides,
)
from robot_foundry.ingest.spec.yaml_text import parse_yaml
from robot_foundry.runtime.errors import UsageError

MINIMAL = """
layout: robomimic
mapping:
  embodiment: panda
  state:
    right.ee_position: {key: obs/pos}
"""


@pytest.mark.parametrize("name", builtin_specs())
def test_a_builtin_spec_says_everything_about_itself_in_json(name):
    spec = load_spec(name)
    assert spec.name == name
    assert read_spec(spec.to_json(), name) == spec


def test_defaults_are_written_out_and_the_order_of_keys_has_no_meaning(tmp_path):
    spec = spec_from_json(parse_yaml(MINIMAL, "m"), "m")
    said = spec.to_json()
    assert said["content"]["encoding"] == {"format": "jpeg", "quality": 95}
    assert said["mapping"]["state"] == {
        "right.ee_position": {"from": "value", "key": "obs/pos", "scale": 1.0}
    }

    lines = MINIMAL.strip().splitlines()
    (tmp_path / "mine.yaml").write_text("\n".join([*lines[1:], lines[0], "name: m"]))
    assert load_spec(tmp_path / "mine.yaml") == spec


def test_every_problem_is_reported_at_once_with_the_nearest_name():
    with pytest.raises(UsageError) as caught:
        load_spec(
            "robomimic",
            [
                "content.encodin.quality=3",
                "content.resize=[84]",
                "content.encoding.quality=101",
                "mapping.state.right.ee_rotation.order=zyx",
                "mapping.actions.command.right.ee_position.from=ocs",
                "mapping.actions.command.right.gripper_opening.columns=[6, 6]",
                "mapping.actions.command.left.ee_position={from: next_state}",
                "mapping.noop.positon=1",
                "mapping.instruction=[{atr: task}]",
                "mapping.cameras.agentview=Primary Camera",
                "layout=robosuit",
            ],
        )
    message = str(caught.value)
    for expected in (
        "11 problems",
        "content.encodin.quality: is not a key here",
        "content.resize: expected [height, width]",
        "content.encoding.quality: expected a whole number from 1 to 100, got 101",
        "mapping.state.right.ee_rotation.order: 'zyx' is not one of xyzw, wxyz",
        "right.ee_position.from: 'ocs' is not one of value, osc, delta, next_state, did you mean 'osc'?",
        "right.gripper_opening.columns: expected [start, stop]",
        "left.ee_position.from: next_state starts from the state, and mapping.state has no left.ee_position",
        "mapping.noop.positon: is not a key here, did you mean 'position'?",
        "mapping.instruction: expected {spans: …[, encoding: …]} or {attr: …[, json: …][, encoding: …]} "
        "or {text: …} or {by_env: …}",
        "mapping.cameras.agentview: 'Primary Camera' is not a role",
        "robomimic, robosuite, ros, text, zarr, did you mean 'robosuite'?",
    ):
        assert expected in message, (expected, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layout: robomimic", "mapping: is missing"),
        (MINIMAL + "mapping: {}", "duplicate key"),
        ("[1, 2", "is not valid YAML"),
        ("- 1", "is not a section"),
        (MINIMAL.replace("right.ee_position", "right.ee_positon"), "did you mean 'right.ee_position'?"),
        (MINIMAL.replace("{key: obs/pos}", "{kay: obs/pos}"), "key: is missing"),
        (MINIMAL.replace("{key: obs/pos}", "{key: p, from: next_state}"), "is not one of value"),
        (MINIMAL.replace("{key: obs/pos}", "{key: p, columns: [0, 4]}"), "holds 4 columns, value needs 3"),
        (MINIMAL.replace("{key: obs/pos}", "{key: p, scale: .nan}"), "expected a number, got nan"),
    ],
)
def test_broken_specs_are_refused_with_a_reason(tmp_path, text, expected):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_spec(tmp_path / "broken.yaml")
    assert expected in str(caught.value)


def test_yaml_is_read_as_1_2():
    """1.1 reads 1e-3 as text and `on` as true."""
    assert parse_yaml("{a: 1e-3, on: off}", "y") == {"a": 1e-3, "on": "off"}


def test_overrides_reach_keys_that_hold_dots_and_null_removes():
    spec = load_spec(
        "robomimic",
        [
            "mapping.state.right.gripper_opening.closed=0.08",
            "mapping.state.right.gripper_opening.open=0.0",
            "mapping.actions.command=null",
            "mapping.state.left.ee_position={key: obs/robot1_eef_pos, optional: true}",
            "content.cameras=[agentview]",
        ],
    )
    gripper = spec.mapping.state["right.gripper_opening"]
    assert (gripper.parameters["closed"], gripper.parameters["open"]) == (0.08, 0.0)
    assert list(spec.mapping.actions) == ["next_state"]
    assert spec.mapping.state["left.ee_position"].optional
    assert spec.content.cameras == ("agentview",)
    with pytest.raises(UsageError, match="not of the form key=value"):
        with_overrides({}, ["content.cameras"])
    with pytest.raises(UsageError, match="layout.x: is not a key here, did you mean 'layout'"):
        load_spec("robomimic", ["layout.x=1"])


def test_an_unknown_spec_names_the_nearest_and_all():
    with pytest.raises(
        UsageError, match=r"no spec 'robomimc', did you mean 'robomimic'\? \(specs: .*robosuite"
    ):
        load_spec("robomimc")
    with pytest.raises(UsageError, match="no spec file mine.yaml"):
        load_spec("mine.yaml")


@pytest.mark.parametrize(("asked", "meant"), [("oxe/bridge", "bridge"), ("viola", "oxe/viola")])
def test_a_spec_asked_of_another_collection_is_named(asked, meant):
    with pytest.raises(UsageError, match=rf"no spec '{asked}', did you mean '{meant}'\?"):
        load_spec(asked)
