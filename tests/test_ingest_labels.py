"""Success and language in every type and encoding that files hold; what cannot be read is told."""

from __future__ import annotations

import json
import re
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from foundry_testing.ingested import Ingested
from foundry_testing.mapped_rows import POSITION, rows_of, spec_of
from foundry_testing.rlds_directories import Directory
from tensorflow_datasets.core import features as tfds

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.runtime.errors import UsageError

TEXT = h5py.string_dtype()
FRAMES = 6
LAB = """
layout: {layout}
content: {content}
mapping:
  embodiment: arm
  instruction: {instruction}
  success: {success}
  state: {{right.ee_position: {{key: {key}}}}}
"""


def write(path, demos):
    """Demonstrations by name: attributes, and arrays beside the usual ones."""
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Custom", "env_lang": "of all"})
        for name, (attributes, arrays) in demos.items():
            demo = file.create_group(f"data/{name}")
            demo["actions"], demo["obs/pos"] = np.zeros((FRAMES, 7)), np.ones((FRAMES, 3))
            for key, value in attributes.items():
                demo.attrs[key] = value
            for key, value in arrays.items():
                demo[key] = value
    return path


def ingested(tmp_path, demos, instruction="[]", success="[]"):
    spec = tmp_path / "lab.yaml"
    spec.write_text(
        LAB.format(layout="robomimic", content="{}", instruction=instruction, success=success, key="obs/pos")
    )
    return Ingested(spec, write(tmp_path / "in.hdf5", demos), tmp_path / "store")


def texts(made):
    """Texts by episode, in order, with their spans."""
    ids = {row["key"]: name for name, row in made.rows.items()}
    told: dict[str, list[Any]] = {name: [] for name in made.rows}
    for row in made.table("annotations.arrow"):
        if row["kind"] == "instruction":
            told[ids[row["key"]]].append((row["start"], row["end"], row["text"]))
    return told


def whole(*told):
    return [(0, FRAMES, text) for text in told]


ANSWERS = {
    "bool": (True, True),
    "bool_no": (False, False),
    "numpy": (np.bool_(False), False),
    "int": (np.int64(1), True),
    "int_no": (0, False),
    "float_no": (np.float32(0), False),
    "text": ("True", True),
    "text_no": ("False", False),
    "small": ("true", True),
    "spaces": (" no ", False),
    "yes": ("Yes", True),
    "digit": ("1", True),
    "word": ("success", True),
    "word_no": ("failure", False),
    "bytes": (np.bytes_("failed"), False),
    "bytes_array": (np.array(b"true"), True),
    "one": (np.array([False]), False),
    "one_text": (np.array(["no"], dtype=TEXT), False),
    "perhaps": ("perhaps", None),
    "half": (0.5, None),
    "two": (2, None),
    "many": (np.array([True, False]), None),
    "nan": (np.nan, None),
    "blank": ("", None),
}


def test_success_in_every_type_and_the_first_rule_that_is_there_decides(tmp_path):
    # The rewards say the contrary of the attribute wherever that says anything.
    demos = {
        name: ({"success": value}, {"rewards": np.full(FRAMES, 0.0 if answer else 1.0)})
        for name, (value, answer) in ANSWERS.items()
    }
    demos["absent"] = {}, {"rewards": np.ones(FRAMES)}
    made = ingested(tmp_path, demos, success="[{attr: success}, {key: rewards, at_least: 1}]")
    expected = {name: answer for name, (_, answer) in ANSWERS.items()} | {"absent": True}
    assert {name: row["success"] for name, row in made.rows.items()} == expected
    (told,) = (warning for warning in made.report.warnings if "success" in warning)
    unknown = [answer for _, answer in ANSWERS.values()].count(None)
    says = "attribute 'success' says neither yes nor no, so success is unknown"
    assert told.startswith(f"{unknown} of {len(demos)} episodes: {says}")


def test_success_in_json_in_an_array_of_one_and_by_two_words(tmp_path):
    demos = {
        "json": ({"meta": '{"result": {"ok": "no"}}'}, {}),
        "array": ({}, {"success": np.array([[0.0]])}),
        "frames": ({}, {"success": np.ones(FRAMES)}),
        "words": ({"path": np.array([b"/failure/3"])}, {}),
        "both": ({"path": "/failure/success/"}, {}),
    }
    made = ingested(
        tmp_path,
        demos,
        success="[{attr: meta, json: result.ok}, {attr: success}, "
        "{attr: path, success: success, failure: failure}]",
    )
    found = {name: row["success"] for name, row in made.rows.items()}
    assert found == {"json": False, "array": False, "frames": None, "words": False, "both": None}
    warnings = "\n".join(made.report.warnings)
    assert (
        "1 of 5 episodes: 'success' is an array and no attribute: `{key: success, at_least: 1}`" in warnings
    )
    assert "1 of 5 episodes: attribute 'path' says neither yes nor no" in warnings


@pytest.mark.parametrize(
    ("rewards", "expected", "told"),
    [
        ([0, 1, 0], True, False),
        ([0, np.nan, 1], True, True),
        ([np.nan, 0, 0], False, True),
        ([np.nan] * 3, None, True),
        ([np.nan, np.inf, 0], False, True),
    ],
)
def test_rewards_that_are_no_numbers_decide_nothing(rewards, expected, told):
    spec = spec_of(POSITION, success={"key": "reward", "at_least": 1})
    rows, _ = rows_of(spec, {"p": np.zeros((3, 3)), "reward": np.array(rewards)})
    assert rows.success is expected
    assert bool(rows.notes.said) == told


def test_language_in_every_type_of_attribute(tmp_path):
    values = {
        "text": ("pick up the café cup", whole("pick up the café cup")),
        "bytes": (np.bytes_("pick it"), whole("pick it")),
        "one": (np.array(["pick it"], dtype=TEXT), whole("pick it")),
        "two": (np.array(["pick it", "grasp the mug"], dtype=TEXT), whole("pick it", "grasp the mug")),
        "twice": (np.array([b"pick it", b" ", b"pick it "]), whole("pick it")),
        "angle": ("<slowly> pick it", whole("<slowly> pick it")),
        "latin1": (np.bytes_("the café cup".encode("latin-1")), []),
        "gbk": (np.bytes_("拿起杯子".encode("gbk")), []),
        "number": (7, []),
    }
    demos = {name: ({"lang": value}, {}) for name, (value, _) in values.items()}
    made = ingested(tmp_path, demos, "[{attr: lang}]")
    assert texts(made) == {name: expected for name, (_, expected) in values.items()}
    told = [warning for warning in made.report.warnings if "attribute 'lang'" in warning]
    assert [warning.partition(" is ")[0] for warning in told] == [
        "1 of 9 episodes: attribute 'lang'",
        "2 of 9 episodes: attribute 'lang'",
    ]
    assert "no text" in told[0] and "{attr: lang, encoding: …}" in told[1]

    # The bytes are in the tar, so that a remap can tell what they say.
    (tmp_path / "again").mkdir()
    again = ingested(tmp_path / "again", demos, "[{attr: lang, encoding: gbk}]")
    assert texts(again)["gbk"] == whole("拿起杯子") and texts(again)["text"] == whole("pick up the café cup")
    assert again.episode("latin1")["attributes"]["lang"] == {"base64": "dGhlIGNhZukgY3Vw"}


def test_language_in_json_in_datasets_and_of_the_whole_file(tmp_path):
    nested = {"layout": 3, "task": json.dumps({"lang": "nested twice"}), "a.b": {"c": "dots"}}
    meta = {"ep_meta": json.dumps(nested)}
    instruction = "[{attr: ep_meta, json: lang}, {attr: ep_meta, json: task.lang}, {spans: '*/words'}]"
    changing = np.array(["reach", "reach", "", "lift", "lift", "lift"], dtype=TEXT)
    demos = {
        "plain": ({"ep_meta": '{"lang": "put it down"}'}, {}),
        "several": ({"ep_meta": '{"lang": ["put it", "down"]}'}, {}),
        "nested": (meta, {}),
        "frames": ({}, {"obs/words": changing[:, None]}),
        "fixed": ({"ep_meta": "{}"}, {"obs/words": changing.astype("S5")}),
        "broken": ({"ep_meta": "{lang"}, {}),
    }
    made = ingested(tmp_path, demos, instruction)
    spans = [(0, 2, "reach"), (3, 6, "lift")]
    assert texts(made) == {
        "plain": whole("put it down"),
        "several": whole("put it", "down"),
        "nested": whole("nested twice"),
        "frames": spans,
        "fixed": spans,
        "broken": [],
    }
    assert "1 of 6 episodes: attribute 'ep_meta' is no JSON object (broken: '{lang')" in made.report.warnings

    (tmp_path / "b").mkdir()
    scalar = {"scalar": (meta, {"lang": np.array(b"from a dataset")}), "file": ({}, {})}
    made = ingested(
        tmp_path / "b",
        scalar,
        "[{attr: lang}, {attr: ep_meta, json: a.b.d}, {attr: env_args, json: env_lang}]",
    )
    assert texts(made) == {"scalar": whole("from a dataset"), "file": whole("of all")}


def test_the_package_spec_finds_the_language_of_robocasa(tmp_path):
    from make_robomimic import make

    make(tmp_path / "in.hdf5", episodes=2, frames=4, size=16)
    with h5py.File(tmp_path / "in.hdf5", "r+") as file:
        for n in range(2):
            demo = file[f"data/demo_{n}"]
            del demo.attrs["instruction"]
            demo.attrs["ep_meta"] = json.dumps({"layout_id": n, "lang": f"open drawer {n}"})
    made = Ingested("robomimic", tmp_path / "in.hdf5", tmp_path / "store")
    assert made.instructions() == {"demo_0": "open drawer 0", "demo_1": "open drawer 1"}


def test_bytes_of_rlds_keep_their_encoding_until_the_spec_names_it(tmp_path):
    steps = {"state": tfds.Tensor(shape=(3,), dtype=np.float32), "lang": tfds.Text()}
    made = Directory(tmp_path / "source", steps, {"note": tfds.Text()})
    said = [b"reach", b"reach", "le café".encode("latin-1")]
    rows = [{"state": np.ones(3, np.float32), "lang": text} for text in said]
    made.write("train", [made.record(rows, {"note": "naïve".encode("latin-1")})])

    def read(store, instruction):
        spec = tmp_path / "lab.yaml"
        spec.write_text(
            LAB.format(layout="rlds", content="{}", instruction=instruction, success="[]", key="steps/state")
        )
        return Ingested(spec, made.root, tmp_path / store)

    got = read("a", "[{spans: steps/lang}]")
    assert texts(got)["record_0"] == [(0, 2, "reach")]
    assert any("'steps/lang' is not UTF-8" in warning for warning in got.report.warnings)
    assert texts(read("b", "[{spans: steps/lang, encoding: latin-1}]"))["record_0"] == [
        (0, 2, "reach"),
        (2, 3, "le café"),
    ]
    named = read("c", "[{attr: episode_metadata/note, encoding: latin-1}]")
    assert texts(named)["record_0"] == [(0, 3, "naïve")]
    told = [warning for warning in named.report.warnings if "is not UTF-8" in warning]
    assert len(told) == 1 and "'steps/lang'" in told[0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"attr": "a", "encoding": "latin-9000"}, "'latin-9000' is not an encoding of texts"),
        ({"attr": "a", "encoding": "base64"}, "'base64' is not an encoding of texts"),
        ({"attr": "a", "jason": "b"}, r"expected {spans: …\[, encoding: …\]} or {attr: …\[, json: …\]"),
    ],
)
def test_rules_are_checked(rule, expected):
    mapping = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}, "instruction": rule}
    with pytest.raises(UsageError, match=expected):
        spec_from_json({"layout": "robomimic", "mapping": mapping}, "test")


def test_json_of_the_source_that_only_looks_like_bytes_is_told_as_it_is(tmp_path):
    own = {"number": {"base64": 5}, "text": {"base64": "not base64!"}, "odd": {"base64": "abc"}}
    demos = {name: ({"ep_meta": json.dumps({"lang": value})}, {}) for name, value in own.items()}
    demos |= {"list": ({"ep_meta": "[1, 2]"}, {}), "good": ({"ep_meta": '{"lang": "go"}'}, {})}
    made = ingested(tmp_path, demos, "[{attr: ep_meta, json: lang, encoding: latin-1}]")
    assert texts(made) == {**dict.fromkeys(demos, []), "good": whole("go")}
    told = [warning for warning in made.report.warnings if "attribute 'ep_meta' is no" in warning]
    assert [warning.partition(" (")[0] for warning in told] == [
        "3 of 5 episodes: 'lang' in attribute 'ep_meta' is no text, so it gives no instruction",
        "1 of 5 episodes: attribute 'ep_meta' is no JSON object",
    ]


def test_what_is_advised_for_another_encoding_can_be_given_as_it_stands(tmp_path):
    demos = {"d": ({}, {"the instruction": np.array([b"caf\xe9"] * FRAMES)})}
    made = ingested(tmp_path, demos, "[{spans: '*instruction'}]")
    (told,) = [text for text in made.report.warnings if "is not UTF-8" in text]
    rule = re.search("`(.*)`", told)[1].replace("…", "latin-1")
    assert yaml.safe_load(rule) == {"spans": "*instruction", "encoding": "latin-1"}
    (tmp_path / "b").mkdir()
    assert texts(ingested(tmp_path / "b", demos, f"[{rule}]")) == {"d": whole("café")}


@pytest.mark.parametrize(
    ("meta", "rule"),
    [
        ({"task": {"lang": "do it"}}, "{attr: ep_meta, json: task.lang}"),
        ({"task": json.dumps({"lang": "do it"})}, "{attr: ep_meta, json: task.lang}"),
        ({"task": "do it", "n": 5}, "{attr: ep_meta, json: task}"),
        ({"lang": ""}, None),
        ({"lang": None}, None),
        ({"lang": 5}, None),
    ],
)
def test_the_path_to_a_text_in_json_is_advised_and_no_other(tmp_path, meta, rule):
    demos = {"d": ({"ep_meta": json.dumps(meta)}, {})}
    made = ingested(tmp_path, demos, "[{attr: ep_meta, json: lang}]")
    advised = [text for text in made.report.warnings if "--set 'mapping.instruction=[{attr" in text]
    if rule is None:
        assert not advised
        return
    assert len(advised) == 1 and f"--set 'mapping.instruction=[{rule}]'" in advised[0]
    (tmp_path / "b").mkdir()
    assert texts(ingested(tmp_path / "b", demos, f"[{rule}]")) == {"d": whole("do it")}


def test_success_that_cannot_be_read_is_unknown_and_no_other_rule_is_asked(tmp_path):
    outcome = h5py.enum_dtype({"FAIL": 1, "SUCCESS": 0, "OTHER": 2}, basetype="i1")
    won, texts_N = {"rewards": np.ones(FRAMES)}, np.array([b"1"] * FRAMES)
    demos = {
        "empty": ({"success": h5py.Empty("i8")}, won),
        "link": ({}, {**won, "success": h5py.SoftLink("/nope")}),
        "frames": ({}, {**won, "success": texts_N}),
        "text_rewards": ({}, {"rewards": texts_N}),
        "complex_rewards": ({}, {"rewards": np.ones(FRAMES, complex)}),
        "one_reward": ({}, {"rewards": 1.0}),
        "fail": ({"success": np.array(1, outcome)}, won),
        "succeeded": ({"success": np.array(0, outcome)}, {"rewards": np.zeros(FRAMES)}),
        "other": ({"success": np.array(2, outcome)}, won),
        "dataset": ({}, {**won, "success": np.array(1, outcome)}),
        "absent": ({}, won),
    }
    made = ingested(tmp_path, demos, success="[{attr: success}, {key: rewards, at_least: 1}]")
    found = {name: row["success"] for name, row in made.rows.items()}
    assert found == dict.fromkeys(demos) | {
        "fail": False,
        "succeeded": True,
        "dataset": False,
        "absent": True,
    }
    warnings = "\n".join(made.report.warnings)
    for told in (
        "'success' cannot be read, so success is unknown: it is empty",
        "'success' cannot be read, so success is unknown: it is a soft link that leads nowhere",
        "'success' cannot be read, so success is unknown: it holds texts of frames",
        "'rewards' cannot be read, so success is unknown: it holds texts of frames",
        "'rewards' cannot be read, so success is unknown: its type is complex128",
        "'rewards' cannot be read, so success is unknown: it has one number, not one a frame",
        "attribute 'success' says neither yes nor no",
    ):
        assert f"1 of {len(demos)} episodes: {told}" in warnings


def _codes(*texts, length=8):
    return np.array([[*map(ord, text), *[0] * (length - len(text))] for text in texts], np.int32)


@pytest.mark.parametrize(
    ("codes", "expected", "told"),
    [
        (_codes("push", "push", "move ö"), [(0, 2, "push"), (2, 3, "move ö")], False),
        (_codes("", "push", " "), [(1, 2, "push")], False),
        (_codes("full", "full", "full", length=4), [(0, 3, "full")], False),
        (_codes("push", "push", "push") * -1, [], True),
        (np.full((3, 2), 0xD800), [], True),  # half a character
        (np.full((3, 2), 2**40), [], True),
        (np.full((3, 2), 104.0), [], True),
        (np.full(3, 104), [], True),
    ],
)
def test_instructions_may_be_numbers_of_characters(codes, expected, told):
    spec = spec_of(POSITION, instruction=[{"code_points": "words"}])
    rows, _ = rows_of(spec, {"p": np.zeros((3, 3)), "words": codes})
    assert [(start, end, text) for start, end, _, text, _ in rows.annotations] == expected
    assert bool(rows.notes.said) == told


def test_of_modes_one_is_that_of_corrections():
    spec = spec_of(POSITION, intervention={"key": "mode", "equals": 1})
    rows, _ = rows_of(spec, {"p": np.zeros((4, 3)), "mode": np.array([[0], [1], [-1], [1]], np.float32)})
    assert (rows.flags_N & Flag.INTERVENTION != 0).tolist() == [False, True, False, True]
