"""Forms of fields are declared once: docs list them, and one more needs no edit elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from robot_foundry.checks.remedies import DISPLACEMENTS, OTHER_READING
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.conversions import Given
from robot_foundry.ingest.robot.forms import FORMS, Form, Setting
from robot_foundry.ingest.robot.interface import Interface
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.quantities import POSITION, quantity_kind
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.section import REQUIRED, number
from robot_foundry.runtime.errors import UsageError

DOCS = (Path(__file__).parent.parent / "docs" / "specs.md").read_text("utf-8")
KINDS = {"position", "joint", "numbers", "gripper", "rotation", "own"}


def rows_of(header: str) -> list[list[str]]:
    """The cells of the table of docs/specs.md that begins with this header."""
    table = DOCS[DOCS.index(header) :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_docs_list_the_forms_of_each_quantity():
    documented = 0
    for names, _, forms in rows_of("| name | stored as | forms (`from`) |"):
        for name in re.findall(r"`(\w+)`", names):
            assert re.findall(r"`(\w+)`", forms) == list(FORMS[str(quantity_kind(f"right.{name}"))]), name
            documented += 1
    assert documented > len(FORMS)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, forms in FORMS.items() for name in forms])
def test_docs_list_the_settings_of_each_form(kind, name):
    rows = [
        settings
        for forms, settings, _ in rows_of("| form | settings | meaning |")
        if name in re.findall(r"`(\w+)`", forms)
        # In brackets: of which kinds only, or that streams alone have it.
        and (not (of := KINDS.intersection(re.findall(r"\w+", forms.partition("(")[2]))) or kind in of)
    ]
    assert len(rows) == 1
    for setting, declared in FORMS[kind][name].settings.items():
        told = re.search(rf"`{setting}(?:: ([^`]+))?`", rows[0])
        assert told is not None, setting
        if declared.default is not REQUIRED:
            words = {"None": "null", "False": "false"}
            assert told[1] == words.get(str(declared.default), str(declared.default))


def test_checks_know_the_forms_that_displace_and_those_with_another_reading():
    """Checks lie below ingest and read specs as JSON, so they name forms themselves."""
    displacing = {name for forms in FORMS.values() for name, form in forms.items() if form.displaces}
    assert displacing == set(DISPLACEMENTS)
    readings = set(FORMS["rotation"]) | {"xyzw", "wxyz"}
    assert set(OTHER_READING) | set(OTHER_READING.values()) <= readings


def test_a_further_form_is_one_declaration(monkeypatch):
    """Positions counted from a height of one's own: read, mapped, fitted and sent back by its declaration."""

    def shift(given: Given) -> np.ndarray:
        return np.array([0.0, 0.0, given.settings["table"]])

    form = Form(
        3,
        {"table": Setting(number, REQUIRED)},
        lambda values_N3, given: values_N3 + shift(given),
        lambda target_N3, given: target_N3 - shift(given),
        problem=lambda settings: ("table", "is below the floor") if (settings["table"] or 0) < 0 else None,
    )
    monkeypatch.setitem(FORMS[POSITION], "above_table", form)
    field = {"key": "p", "from": "above_table", "table": 0.7}
    values = {
        "layout": "robomimic",
        "mapping": {
            "embodiment": "arm",
            "state": {"right.ee_position": field},
            "actions": {"command": {"right.ee_position": {**field, "key": "a"}}},
        },
    }
    spec = spec_from_json(values, "test")
    assert spec.to_json()["mapping"]["state"]["right.ee_position"]["table"] == 0.7
    field["table"] = -1
    with pytest.raises(UsageError, match="right.ee_position.table: is below the floor"):
        spec_from_json(values, "test")
    del field["table"]
    with pytest.raises(UsageError, match="right.ee_position.table: is missing"):
        spec_from_json(values, "test")

    arrays = {"p": np.arange(12.0).reshape(4, 3), "a": np.ones((4, 3)), "timestamp": np.arange(4) / 10}
    episode = {"num_frames": 4, "fps": 10.0, "environment": {}, "attributes": {}, "cameras": {}}
    shapes = {name: array.shape for name, array in arrays.items()}
    fitted = resolve(spec.mapping, [Surveyed("a", episode, shapes)])
    rows = canonical(fitted.mapping, fitted.schema, episode, arrays)
    np.testing.assert_allclose(rows.state_ND, arrays["p"] + [0, 0, 0.7], rtol=1e-6)
    interface = Interface(spec, fitted.arrays, {}, {})
    space = fitted.schema.state_space()
    sent = source_actions(
        interface, "command", rows.streams["command"], rows.state_ND, fitted.schema.space("command"), space
    )
    np.testing.assert_allclose(sent["a"], arrays["a"], rtol=1e-6)
