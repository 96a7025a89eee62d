"""What topics become: joints, poses, pictures, depth, texts, transforms, and the borders of episodes.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import (
    START_NS,
    arm,
    compressed,
    image,
    joints,
    jpeg,
    numbers,
    pose,
    rgb,
    spec_file,
    text,
    transform,
    truth,
    write_bag,
)
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.sources.ros.messages.images import demosaiced
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.images import decode

NO_CAMERA = {"cameras": {}}


def ingested(tmp_path, sent, ros=None, mapping=None, form="mcap", store="store"):
    bag = tmp_path / "take"
    source = bag if bag.exists() else write_bag(bag, sent, form)
    return Ingested(spec_file(tmp_path, ros, mapping), source, tmp_path / store)


def account(made, name="take"):
    return made.episode(name)["attributes"]["ros"]


def test_joints_go_by_their_names_whatever_the_order_and_who_sends_them(tmp_path):
    sent = []
    for n in range(40):
        at, order = n / 20, ("a", "b") if n % 2 else ("b", "a")
        values = {"a": at, "b": -at}
        sent.append(joints("/joint_states", at, {name: values[name] for name in order}))
        sent.append(joints("/joint_states", at + 0.01, {"gripper": 0.5}))  # of another publisher
    made = ingested(tmp_path, sent, NO_CAMERA, NO_CAMERA)
    frames = np.arange(40) / 20
    assert made.source("take")["joints"] == pytest.approx(np.stack([frames, -frames], axis=1))
    tally = account(made)["topics"]["/joint_states"]
    assert (tally["read"], tally["used"], tally["unmapped"], tally["refused"]) == (80, 40, 40, 0)


def test_what_one_stream_takes_and_another_cannot_is_told(tmp_path):
    sent = [joints("/joint_states", n / 20, {"a": 0.0, "b": 0.0}) for n in range(20)]
    sent += [numbers("/joint_states", 0.51, [1.0])]
    streams = {
        "joints": {"topic": "/joint_states", "field": "position"},
        "stamp": {"topic": "/joint_states", "field": "header.stamp.nanosec"},
        "data": {"topic": "/joint_states", "field": "data", "tolerance": "none"},
    }
    made = ingested(tmp_path, sent, {**NO_CAMERA, "streams": streams}, NO_CAMERA)
    tally = account(made)["topics"]["/joint_states"]
    assert (tally["read"], tally["used"] + tally["dropped"], tally["refused"]) == (21, 21, 0)
    assert sorted(tally["partly"].values()) == [1, 20]
    assert "'/joint_states' has messages that a stream has refused: it has no field" in " ".join(
        made.report.warnings
    )


def test_a_pose_is_linear_and_turns_along_the_arc(tmp_path):
    half_turn = [Rotation.from_euler("z", angle, degrees=True).as_quat() for angle in (170, 190)]
    half_turn[1] = -half_turn[1]  # the same rotation
    sent = [pose("/pose", n, (n, 2 * n, 0), half_turn[n]) for n in range(2)]
    ros = {**NO_CAMERA, "rate": 4, "streams": {"pose": {"topic": "/pose", "field": "pose"}}}
    state = {
        "right.ee_position": {"key": "pose", "columns": [0, 3]},
        "right.ee_rotation": {"key": "pose", "columns": [3, 7], "from": "quaternion", "order": "xyzw"},
    }
    actions = {"next_state": {"right.ee_position": {"from": "next_state"}}}
    made = ingested(tmp_path, sent, ros, {**NO_CAMERA, "state": state, "actions": actions})
    pose_N7 = made.source("take")["pose"]
    assert pose_N7[:, :3] == pytest.approx(np.array([[s, 2 * s, 0] for s in (0, 0.25, 0.5, 0.75, 1)]))
    turned = Rotation.from_quat(pose_N7[:, 3:]) * Rotation.from_euler("z", 170, degrees=True).inv()
    assert np.degrees(turned.magnitude()) == pytest.approx([0, 5, 10, 15, 20], abs=1e-9)


def test_streams_are_matched_each_in_its_way(tmp_path):
    sent = [numbers("/q", n / 10, [n]) for n in range(10)] + [numbers("/q", 0.95, [9.5])]
    streams = {
        match: {"topic": "/q", "field": "data", "match": match, "clock": "receive"}
        for match in ("nearest", "previous", "linear")
    }
    mapping = {**NO_CAMERA, "state": {"right.joint_position": {"key": "linear"}}}
    made = ingested(tmp_path, sent, {**NO_CAMERA, "rate": 15, "streams": streams}, mapping)
    source = made.source("take")
    frames = np.arange(15) / 15  # by hand: 0, 0.667, 1.333, … tenths
    assert source["linear"][:, 0] == pytest.approx(10 * frames, abs=1e-7)
    assert source["previous"][:, 0].tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9]
    assert source["nearest"][:, 0].tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9.5]


def test_frames_are_those_of_a_camera_where_the_spec_says_so(tmp_path):
    times = [0.0, 0.11, 0.19, 0.32, 0.4]
    sent = [joints("/joint_states", n / 100, {"a": n / 100, "b": 0.0}) for n in range(60)]
    sent += [compressed("/camera", at + 0.03, jpeg(n), stamp=at) for n, at in enumerate(times)]
    made = ingested(tmp_path, sent, {"rate": None, "frames": "front"})
    assert made.source("take")["timestamp"] == pytest.approx(times, abs=1e-9)
    assert made.source("take")["joints"][:, 0] == pytest.approx(times, abs=1e-9)
    assert len(set(made.images("take", "front"))) == 5
    by_receipt = ingested(
        tmp_path, sent, {"rate": None, "frames": "front", "clock": "receive"}, store="again"
    )
    assert by_receipt.episode("take")["start_ns"] == START_NS + 30_000_000
    assert by_receipt.source("take")["joints"][0, 0] == pytest.approx(0.03, abs=1e-9)


def test_a_pause_is_masked_and_its_pictures_are_none(tmp_path):
    sent = [message for message in arm() if not 0.6 < message.at < 1.2]
    made = ingested(tmp_path, sent)
    frames = np.arange(39) / 20
    inside = (frames > 0.6 + 1e-9) & (frames < 1.2 - 1e-9)
    empty = np.isnan(made.source("take")["joints"][:, 0])
    assert empty.tolist() == inside.tolist()
    flags = np.array([row["flags"] for row in made.frames("take")])
    assert ((flags & 16) > 0).tolist() == inside.tolist()
    measured = account(made)["streams"]["joints"]
    assert measured["empty_frames"] == inside.sum() and measured["lost"] == 29
    warnings = " ".join(made.report.warnings)
    assert "'joints' has pauses, as where messages are lost; it has no message near some frames" in warnings


PIXELS_HW3 = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
ALPHA_HW1 = np.full((8, 12, 1), 7, np.uint8)
GRAY_HW = PIXELS_HW3[..., 0]
GRAY_HW3 = np.repeat(GRAY_HW[..., None], 3, axis=2)
WIDE_HW3 = PIXELS_HW3.astype(np.uint16) << 8


@pytest.mark.parametrize(
    ("encoding", "data", "step", "big", "expected"),
    [
        ("rgb8", PIXELS_HW3, 36, False, PIXELS_HW3),
        ("bgr8", PIXELS_HW3[..., ::-1], 36, False, PIXELS_HW3),
        ("8UC3", PIXELS_HW3[..., ::-1], 36, False, PIXELS_HW3),
        ("rgba8", np.concatenate([PIXELS_HW3, ALPHA_HW1], axis=2), 48, False, PIXELS_HW3),
        ("bgra8", np.concatenate([PIXELS_HW3[..., ::-1], ALPHA_HW1], axis=2), 48, False, PIXELS_HW3),
        ("mono8", GRAY_HW, 12, False, GRAY_HW3),
        ("mono16", GRAY_HW.astype("<u2") << 8, 24, False, GRAY_HW3),
        ("mono16", (GRAY_HW.astype(np.uint16) << 8).astype(">u2"), 24, True, GRAY_HW3),
        ("rgb16", WIDE_HW3.astype("<u2"), 72, False, PIXELS_HW3),
        ("rgb8", np.pad(PIXELS_HW3.reshape(8, 36), ((0, 0), (0, 4))), 40, False, PIXELS_HW3),
    ],
)
def test_pictures_of_every_encoding_become_rgb(encoding, data, step, big, expected, tmp_path):
    sent = [joints("/joint_states", n / 20, {"a": 0.0, "b": 0.0}) for n in range(4)]
    sent += [
        image("/camera", n / 20, data, encoding, height=8, width=12, step=step, big=big) for n in range(4)
    ]
    made = ingested(tmp_path, sent, None, None)
    got = decode(made.images("take", "front")[0])
    whole = Ingested(
        spec_file(tmp_path),
        write_bag(tmp_path / "rgb", [*sent[:4], rgb("/camera", 0.1, expected)]),
        tmp_path / "s",
    )
    assert (got == decode(whole.images("rgb", "front")[0])).all()


def test_bayer_patterns_give_back_what_is_smooth():
    """Of a picture whose colours are planes of a slope, the mean of the neighbours is the value, inside."""
    y, x = np.mgrid[0:10, 0:12]
    planes = np.stack([4 * x + 2 * y, 100 + 2 * x, 200 - 4 * y], axis=-1).astype(np.uint8)
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        mosaic = np.zeros((10, 12), np.uint8)
        for place, letter in enumerate(pattern):
            rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
            mosaic[rows, columns] = planes[rows, columns, "rgb".index(letter)]
        assert (demosaiced(mosaic, pattern)[1:-1, 1:-1] == planes[1:-1, 1:-1]).all(), pattern


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv"), ("nv12", "420")]
)
def test_luma_and_chroma_become_rgb(encoding, order, tmp_path):
    """Red of BT.601 is Y 81, U 90, V 240: by hand (298 · 65 + 409 · 112 + 128) >> 8 = 255, then 0 and 0."""
    if order == "420":
        data = np.concatenate([np.full((4, 8), 81), np.tile([90, 240], (2, 4))]).astype(np.uint8)
    else:
        two = {"u": 90, "v": 240, "y": 81}
        data = np.tile([two[letter] for letter in order], (4, 4)).astype(np.uint8)
    sent = [joints("/joint_states", n / 20, {"a": 0.0, "b": 0.0}) for n in range(3)]
    step = 8 if order == "420" else 16
    sent += [image("/camera", n / 20, data, encoding, height=4, width=8, step=step) for n in range(3)]
    got = decode(ingested(tmp_path, sent).images("take", "front")[0]).astype(int)
    assert np.abs(got - [255, 0, 0]).max() <= 6  # what JPEG leaves of it


def test_pictures_that_are_none_are_counted_and_depth_is_no_picture(tmp_path):
    sent = arm()
    sent += [compressed("/camera", 0.55, b"no picture"), compressed("/camera", 0.65, b"")]
    made = ingested(tmp_path, sent)
    tally = account(made)["topics"]["/camera"]
    assert (tally["read"], tally["used"], tally["refused"]) == (22, 20, 2)
    depth = [
        image("/d", n / 10, np.zeros((4, 4), np.uint16), "16UC1", height=4, width=4, step=8) for n in range(9)
    ]
    bag = write_bag(tmp_path / "depth", [*arm(), *depth])
    spec = spec_file(tmp_path, {"cameras": {"front": {"topic": "/d"}}})
    with pytest.raises(
        FoundryError, match="encoding 16UC1 is that of depth: name it under content.ros.depth"
    ):
        run(load_spec(spec), bag, store=tmp_path / "store", name="made")


def test_pictures_that_nothing_names_are_told_by_their_type_and_not_by_their_name(tmp_path):
    sent = [*arm(), numbers("/color/image/view", 0.5, [1.0]), compressed("/second", 0.5, jpeg(3))]
    made = ingested(tmp_path, sent)
    told = " ".join(made.report.warnings)
    assert "'/second' holds pictures or depth maps, and no camera of content.ros names it" in told
    assert "/color/image/view" not in told
    assert made.episode("take")["left_out"].keys() == {"/color/image/view", "/second"}


def test_texts_are_spans_and_attributes_and_files_beside(tmp_path):
    sent = [*arm(), text("/task", 0.0, "reach"), text("/task", 1.0, "grasp")]
    sent += [truth("/success", 0.5, False), truth("/success", 1.8, True)]
    bag = write_bag(tmp_path / "take", sent)
    (bag / "take.txt").write_text("with care\n")
    ros = {
        "texts": {"task": {"topic": "/task"}},
        "attributes": {"success": {"topic": "/success"}},
        "beside": {"note": "{bag}.txt"},
    }
    mapping = {"instruction": [{"spans": "task"}], "success": {"attr": "success"}}
    made = ingested(tmp_path, sent, ros, mapping)
    assert made.episode("take")["annotations"] == [[0, 20, "task", "reach"], [20, 39, "task", "grasp"]]
    assert made.rows["take"]["success"] is True
    assert made.episode("take")["attributes"]["note"] == "with care"
    assert account(made)["topics"]["/success"] == {
        "type": "std_msgs/msg/Bool", "read": 2, "used": 1, "dropped": 1, "unmapped": 0, "refused": 0,
    }  # fmt: skip


def test_a_pose_along_transforms_is_looked_up_in_time(tmp_path):
    """base ← arm turns about z at 90°/s; arm ← tool is fixed, 1 m along x; camera hangs on base, fixed."""
    quarter = Rotation.from_euler("z", 90, degrees=True).as_quat()
    sent = [joints("/joint_states", n / 20, {"a": 0.0, "b": 0.0}) for n in range(21)]
    for n in range(11):
        angle = Rotation.from_euler("z", 9 * n, degrees=True).as_quat()
        sent.append(transform(n / 10, "base", "arm", (0, 0, 0.5), angle))
    sent.append(transform(0.0, "arm", "tool", (1, 0, 0), topic="/tf_static"))
    sent.append(transform(0.0, "/base", "/camera", (0, 2, 0), quarter, topic="/tf_static"))
    streams = {
        "joints": {"topic": "/joint_states", "field": "position"},
        "tool": {"tf": ["base", "tool"]},
        "seen": {"tf": ["camera", "tool"]},
    }
    made = ingested(tmp_path, sent, {**NO_CAMERA, "streams": streams}, NO_CAMERA)
    angles = np.radians(4.5 * np.arange(21))
    tool_N7 = made.source("take")["tool"]
    expected = np.stack([np.cos(angles), np.sin(angles), np.full(21, 0.5)], axis=1)
    assert tool_N7[:, :3] == pytest.approx(expected, abs=1e-12)
    assert Rotation.from_quat(tool_N7[:, 3:]).as_euler("xyz")[:, 2] == pytest.approx(angles, abs=1e-12)
    # Seen from the camera: x is base y − 2, y is −base x.
    seen = np.stack([expected[:, 1] - 2, -expected[:, 0], expected[:, 2]], axis=1)
    assert made.source("take")["seen"][:, :3] == pytest.approx(seen, abs=1e-12)
    tallies = account(made)["topics"]
    assert tallies["/tf"]["used"] == 11 and tallies["/tf_static"]["used"] == 2


def test_frames_that_no_transform_joins_are_named(tmp_path):
    sent = [*arm(), transform(0.1, "base", "tool", (0, 0, 0)), transform(0.1, "map", "odom", (0, 0, 0))]
    bag = write_bag(tmp_path / "take", sent)
    for frames, expected in (
        (["base", "tool1"], "names the frame 'tool1' of its stream 'joints', did you mean 'tool'?"),
        (["odom", "tool"], "no transforms of it lead from 'odom' to 'tool'"),
    ):
        spec = spec_file(tmp_path, {"streams": {"joints": {"tf": frames}}})
        with pytest.raises(FoundryError, match=expected.replace("?", r"\?")):
            run(load_spec(spec), bag, store=tmp_path / "store", name="made")


def test_extra_streams_keep_their_own_rate(tmp_path):
    sent = [*arm(), *(numbers("/wrench", n / 200, [n, -n]) for n in range(400))]
    made = ingested(tmp_path, sent, {"extra": {"wrench": {"topic": "/wrench", "field": "data"}}})
    source = made.source("take")
    assert source["wrench/values"][:, 0].tolist() == list(range(381))  # up to the last frame, at 1.9 s
    assert source["wrench/timestamp"] == pytest.approx(np.arange(381) / 200, abs=1e-9)


def test_camera_info_is_kept_with_the_episode(tmp_path):
    info = {
        "header": {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": "c"},
        "height": 16, "width": 24, "distortion_model": "plumb_bob", "d": np.zeros(5),
        "k": np.arange(9.0), "r": np.eye(3).reshape(-1), "p": np.zeros(12), "binning_x": 0, "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }  # fmt: skip
    sent = arm()
    first = sent[0]
    sent += [
        type(first)("/info", at, "sensor_msgs/msg/CameraInfo", info | {"k": np.arange(9.0) + (at > 1)})
        for at in (0.0, 0.5, 1.5)
    ]
    made = ingested(tmp_path, sent, {"cameras": {"front": {"topic": "/camera", "info": "/info"}}})
    kept = made.episode("take")["attributes"]["camera_info"]["front"]
    assert (kept["k"], kept["width"], kept["distortion_model"]) == (list(range(9)), 24, "plumb_bob")
    assert "'/info' says other things of camera 'front' later than at first" in " ".join(made.report.warnings)


def three_takes():
    """Two movements with a pause of 2 s between, and a button that is pressed and released."""
    sent = [message for message in arm(4.0) if message.at < 1.0 or message.at >= 3.0]
    return [*sent, truth("/record", 0.2, True), truth("/record", 0.7, False), truth("/record", 3.1, True)]


@pytest.mark.parametrize(
    ("episodes", "frames"),
    [
        ({"gap": 1.0}, [19, 19]),
        ({"gap": 1.0, "topic": "/joint_states"}, [19, 19]),
        ({"trigger": "/record"}, [9, 17]),
        ({"times": "*.csv"}, [7, 9]),
    ],
)
def test_episodes_of_one_bag(episodes, frames, tmp_path):
    bag = write_bag(tmp_path / "take", three_takes())
    second = START_NS // 1_000_000_000
    (bag / "takes.csv").write_text(
        "bag,start,end,success,operator\n"
        f"take,{second}.2,{second}.5999,true,ann\n"
        f"other,{second}.2,{second}.6,true,bob\n"
        f"take.mcap,{START_NS + 3_300_000_000},{START_NS + 3_750_000_000},false,eve\n"
    )
    made = ingested(tmp_path, [], {"episodes": episodes}, {"success": {"attr": "success"}})
    rows = list(made.rows.values())
    assert [row["num_frames"] for row in rows] == frames
    starts = [int(row["id"].partition("-")[0]) for row in rows]
    assert starts == sorted(starts)
    if "times" in episodes:
        assert [row["success"] for row in rows] == [True, False]
        assert [json.loads(row["attributes"])["operator"] for row in rows] == ["ann", "eve"]
    for name in made.rows:
        for tally in account(made, name)["topics"].values():
            assert tally["used"] + tally["dropped"] + tally["unmapped"] + tally["refused"] == tally["read"]


def test_borders_that_cannot_be_found_are_refused(tmp_path):
    bag = write_bag(tmp_path / "take", three_takes())
    (bag / "bad.csv").write_text("start,end\n1,yesterday\n")
    for episodes, expected in (
        ({"trigger": "/recordd"}, "no topic '/recordd', did you mean '/record'"),
        ({"trigger": "/record", "start": "go"}, "no episode of it begins by its trigger"),
        ({"trigger": "/joint_states", "field": "header"}, "its trigger /joint_states cannot be read"),
        ({"times": "none.csv"}, "there is no file none.csv beside it"),
        ({"times": "bad.csv"}, "line 2 of its file bad.csv has no time under 'end': 'yesterday'"),
    ):
        spec = spec_file(tmp_path, {"episodes": episodes})
        with pytest.raises(FoundryError) as error:
            run(load_spec(spec), bag, store=tmp_path / "store", name="made")
        assert expected in str(error.value)


def test_streams_that_have_no_time_in_common(tmp_path):
    sent = [m for m in arm() if (m.at < 0.5) == (m.topic == "/camera")]
    bag = write_bag(tmp_path / "take", sent)
    with pytest.raises(FoundryError, match="no time in common: 'front' ends before 'joints' begins"):
        run(load_spec(spec_file(tmp_path)), bag, store=tmp_path / "store", name="made")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_are_the_same_whatever_the_workers(workers, tmp_path, ray_workers):
    folder = tmp_path / "bags"
    folder.mkdir()
    for n, form in enumerate(("bag", "bag-lz4")):
        write_bag(folder / f"take{n}", arm(1.0 + n), form)
    spec = load_spec(spec_file(tmp_path))
    made = [
        run(spec, folder, store=tmp_path / f"store{count}", name="made", options=Options(workers=count))
        for count in (0, workers)
    ]
    assert made[0].version.version_id == made[1].version.version_id
    for path in (tmp_path / "store0" / "shards").rglob("*.tar"):
        assert (
            path.read_bytes()
            == (tmp_path / f"store{workers}" / path.relative_to(tmp_path / "store0")).read_bytes()
        )
