"""What `foundry-data topics` says of bags without a spec: all that is needed to write one."""

from __future__ import annotations

import json

import pytest
from foundry_testing.ros_bags import FORMS, arm, numbers, spec_file, text, write_bag

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run


@pytest.fixture
def topics(capsys):
    def told(*arguments):
        code = run(group, "foundry-data", ["topics", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_topics(form, tmp_path, topics):
    write_bag(tmp_path / "take", [*arm(), text("/task", 0.5, "lift")], form)
    code, out, _ = topics(tmp_path, "--json")
    (bag,) = json.loads(out)["bags"]
    assert code == 0 and bag["refused"] is None and bag["seconds"] == pytest.approx(1.98)
    found = {topic["topic"]: topic for topic in bag["topics"]}
    assert {name: topic["messages"] for name, topic in found.items()} == {
        "/camera": 20,
        "/joint_states": 100,
        "/task": 1,
    }
    assert found["/joint_states"]["types"] == ["sensor_msgs/msg/JointState"]
    assert found["/joint_states"]["hz"] == pytest.approx(99 / 1.98) and found["/task"]["hz"] is None
    assert {"header.frame_id: string", "position: float64[]"} <= set(found["/joint_states"]["fields"])
    assert found["/task"]["fields"] == ["data: string"]


def test_lists_of_messages_have_an_index_in_their_paths_as_specs_write_it(tmp_path, topics):
    write_bag(tmp_path / "take", [numbers("/force", at, [1.0]) for at in (0.0, 0.5)])
    code, out, err = topics(tmp_path)
    assert code == 0 and "docs/ros.md" in err
    assert "layout.dim[0].size: uint32" in out and "data: float64[]" in out
    head, _, row = out.splitlines()
    assert head.endswith(": 1 topic, 0.5 s") and row.split()[:4] == [
        "/force", "std_msgs/msg/Float64MultiArray", "2", "2",
    ]  # fmt: skip


def test_a_spec_that_names_another_topic_is_sent_here_where_not_all_are_listed(tmp_path, capsys):
    others = [text(f"/note{n}", 0.5, "") for n in range(9)]
    write_bag(tmp_path / "take", [*arm(0.5), *others], "bag")
    spec = spec_file(tmp_path, {"cameras": {"front": {"topic": "/camra"}}})
    arguments = ["ingest", spec, tmp_path / "take.bag", "--store", tmp_path / "store"]
    assert run(group, "foundry-data", [str(argument) for argument in arguments]) == 1
    err = capsys.readouterr().err
    assert "did you mean '/camera'?" in err and "and 3 more: `foundry-data topics` lists all)" in err


def test_a_bag_that_cannot_be_read_is_named_and_the_others_are_told(tmp_path, topics):
    write_bag(tmp_path / "take", arm(), "bag")
    (tmp_path / "cut.bag").write_bytes(next(tmp_path.glob("take*.bag")).read_bytes()[:5000])
    code, out, err = topics(tmp_path)
    assert code == 3 and "1 of 2 bags cannot be read" in err
    assert "cut.bag: its file cut.bag cannot be read" in out and "/joint_states" in out


def test_a_place_without_bags_is_a_wrong_place(tmp_path, topics):
    (tmp_path / "notes.txt").write_text("none")
    code, out, err = topics(tmp_path)
    assert code == 2 and out == "" and "holds no bag (.bag, .db3, .mcap)" in err
    code, _, err = topics(tmp_path / "nowhere")
    assert code == 2 and "there is no file or folder" in err
