"""The section `content.ros`: every problem at once, each with the nearest key; and back to JSON."""

from __future__ import annotations

import json

import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import arm, compressed, jpeg, spec_file, write_bag

from robot_foundry.ingest.spec.spec_files import load_spec, read_spec
from robot_foundry.runtime.errors import UsageError

JOINTS = {"topic": "/joint_states", "field": "position"}


def problems(tmp_path, ros):
    with pytest.raises(UsageError) as error:
        load_spec(spec_file(tmp_path, ros))
    return str(error.value)


def test_every_problem_is_told_at_once_with_the_nearest_key(tmp_path):
    told = problems(
        tmp_path,
        {
            "rat": 15,
            "frames": "fron",
            "clock": "headers",
            "cameras": {"front": {"topc": "/camera", "match": "linear"}, "Front": {"topic": "/c"}},
            "streams": {"joints": {**JOINTS, "tolerance": -1}, "tool": {"tf": ["base"]}},
            "extra": {"joints": JOINTS},
            "episodes": {"gaps": 2},
            "typestore": "ros2_humbel",
        },
    )
    for expected in (
        "content.ros.rat: is not a key here, did you mean 'rate'?",
        "content.ros.rate: give either the frames a second, or `frames`",
        "content.ros.frames: 'fron' is none of its streams, did you mean 'front'?",
        "content.ros.clock: 'headers' is not one of auto, header, receive, did you mean 'header'?",
        "content.ros.cameras.front.topc: is not a key here, did you mean 'topic'?",
        "content.ros.cameras.front.topic: is missing",
        "content.ros.cameras.front.match: 'linear' is not one of nearest, previous",
        "content.ros.cameras.Front: is not a name",
        "content.ros.streams.joints.tolerance: expected a number above 0",
        "content.ros.streams.tool.tf: expected [parent, child]",
        "content.ros.joints: is the name of more than one array",
        "content.ros.episodes.gap: name one of gap, trigger, service, times, did you mean 'gap'?",
        "content.ros.typestore: 'ros2_humbel' is not one of",
    ):
        assert expected in told, expected


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("ros", "'ros' is a layout: write a spec with `layout: ros`"),
        ("take.bag", "a spec comes before the source"),
    ],
)
def test_a_layout_or_a_source_in_place_of_a_spec_is_known_for_it(tmp_path, monkeypatch, given, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take.bag").write_bytes(b"")
    with pytest.raises(UsageError) as error:
        load_spec(given)
    assert f"there is no spec '{given}'" in str(error.value) and hint in str(error.value.hint)


def test_frames_must_be_a_stream_that_has_messages_of_its_own(tmp_path):
    streams = {"joints": JOINTS, "tool": {"tf": ["a", "b"]}}
    told = problems(tmp_path, {"rate": None, "frames": "tool", "streams": streams})
    assert "'tool' is none of its streams (front, joints)" in told


def test_frames_are_not_those_of_a_camera_that_bags_may_lack(tmp_path):
    cameras = {"front": {"topic": "/camera", "optional": True}}
    told = problems(tmp_path, {"rate": None, "frames": "front", "cameras": cameras})
    assert "content.ros.frames: 'front' is optional, and a bag without it would have no frames" in told


def test_a_bag_may_lack_an_optional_camera_alone(tmp_path):
    cameras = {
        "front": {"topic": "/camera"},
        "side": {"topic": "/side", "optional": True},
    }
    side = [compressed("/side", n / 10, jpeg(n)) for n in range(20)]
    write_bag(tmp_path / "bags" / "both", [*arm(), *side])
    write_bag(tmp_path / "bags" / "front", arm())
    mapping = {"cameras": {"front": "primary", "side": "secondary"}}
    spec = spec_file(tmp_path, {"cameras": cameras}, mapping)
    made = Ingested(spec, tmp_path / "bags", tmp_path / "store")
    assert made.reasons == {}
    assert [len(made.images(name, "side")) for name in ("both", "front")] == [39, 0]
    assert list(made.episode("front")["cameras"]) == ["front"]
    assert len(made.frames("front")) == len(made.frames("both")) == 39
    cameras["front"]["optional"], cameras["side"]["optional"] = True, False
    strict = Ingested(
        spec_file(tmp_path, {"cameras": cameras}, mapping), tmp_path / "bags", tmp_path / "other"
    )
    assert list(strict.rows) == ["both"]
    assert "it has no topic '/side'" in next(iter(strict.reasons.values()))


def test_a_spec_comes_back_from_its_json(tmp_path):
    ros = {
        "cameras": {
            "front": {
                "topic": "/camera",
                "info": "/info",
                "tolerance": "none",
                "optional": True,
                "video": True,
            }
        },
        "depth": {"depth": {"topic": "/depth", "clock": "receive"}},
        "streams": {"joints": {**JOINTS, "names": ["a"], "match": "previous"}, "tool": {"tf": ["a", "b"]}},
        "extra": {"wrench": {"topic": "/wrench", "field": "wrench"}},
        "texts": {"task": {"topic": "/task"}},
        "attributes": {"success": {"topic": "/success"}},
        "beside": {"note": "{bag}.txt"},
        "definitions": ["*.msg"],
        "parts": "present",
    }
    for episodes in (
        None,
        {"gap": 2},
        {"trigger": "/go", "start": "on", "stop": "off"},
        {"service": "/s"},
        {"times": "*.csv"},
    ):
        spec = load_spec(spec_file(tmp_path, {**ros, "episodes": episodes}))
        again = read_spec(json.loads(json.dumps(spec.to_json())), "again")
        assert again.content == spec.content


def test_the_section_belongs_to_the_layout_and_the_layout_needs_it(tmp_path):
    values = json.loads(spec_file(tmp_path).read_text())
    with pytest.raises(UsageError, match="content.ros: is missing"):
        read_spec({**values, "content": {}}, "x")
    with pytest.raises(
        UsageError, match="content.ros: belongs to the layout ros; the layout rlds has no topics"
    ):
        read_spec({**values, "layout": "rlds"}, "x")


def test_a_wrong_key_leads_to_the_page_of_the_section(tmp_path):
    path = spec_file(tmp_path, {"camras": {}})
    with pytest.raises(UsageError, match="did you mean 'cameras'") as error:
        load_spec(path)
    assert error.value.hint == "docs/specs.md lists every key, docs/ros.md those of content.ros"
