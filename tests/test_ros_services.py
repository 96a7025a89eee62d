"""Requests of services as the borders of episodes: events as rosbag2 records them, in both its containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import SECOND, START_NS, arm, spec_file, write_bag
from foundry_testing.ros_services import SENT, CallBag, Event
from rosbags.rosbag2 import StoragePlugin

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
START, STOP, RECORD = "/recorder/start", "/recorder/stop", "/record"


def presses(*, kinds):
    """Started at 0.2 and 2.1 s, stopped at 0.7 s; of `kinds` each request and each response has an event."""
    made = []
    for number, (service, at) in enumerate(((START, 0.2), (STOP, 0.7), (START, 2.1))):
        made += [Event(service, "Trigger", at + kind / 1000, kind, number) for kind in kinds]
    return made


def ingested(tmp_path, bag, episodes):
    return Ingested(spec_file(tmp_path, {"episodes": episodes}), bag, tmp_path / "store")


def refused(tmp_path, bag, episodes):
    with pytest.raises(FoundryError) as error:
        run(load_spec(spec_file(tmp_path, {"episodes": episodes})), bag, store=tmp_path / "store", name="x")
    return str(error.value)


def begins(made):
    """Seconds after START_NS at which the episodes begin, by their names."""
    return sorted((int(name.partition("-")[0]) - START_NS) / SECOND for name in made.rows)


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_one_service_starts_and_another_stops(plugin, tmp_path):
    bag = CallBag(tmp_path / "take", plugin).write(arm(3.0), presses(kinds=(0, 1, 2, 3)))
    made = ingested(tmp_path, bag, {"service": START, "until": STOP})
    # By the receipt of the service, which is event 1: 1 ms after what the client sent.
    assert begins(made) == [0.201, 2.101]
    first, second = (made.rows[name]["num_frames"] for name in sorted(made.rows))
    assert (first, second) == (9, 15)  # pictures of 0.3 … 0.7 and of 2.2 … 2.9 s, at 20 Hz
    account = made.episode(min(made.rows))["attributes"]["ros"]
    assert account["borders"] == {f"{START}/_service_event": 8, f"{STOP}/_service_event": 4}
    assert account["unmapped"] == {} and made.episode(min(made.rows))["left_out"] == {}


def test_requests_that_only_the_client_saw_count_as_well_and_once(tmp_path):
    bag = CallBag(tmp_path / "take").write(arm(3.0), presses(kinds=(0, 3)))
    made = ingested(tmp_path, bag, {"service": f"{START}/_service_event", "until": STOP})
    assert begins(made) == [0.2, 2.1]


def test_every_request_begins_an_episode_where_nothing_ends_them(tmp_path):
    bag = CallBag(tmp_path / "take").write(arm(3.0), presses(kinds=(1, 2)))
    made = ingested(tmp_path, bag, {"service": "recorder/start"})
    assert begins(made) == [0.201, 2.101]
    ends = sorted(name.partition("-")[2] for name in made.rows)
    assert ends == [str(START_NS + 2_101_000_000), "end"]


def test_the_value_of_a_request_starts_and_stops(tmp_path):
    values = [(0.2, True), (0.7, False), (0.9, False), (2.1, True)]
    events = [Event(RECORD, "SetBool", at, 1, n, data) for n, (at, data) in enumerate(values)]
    bag = CallBag(tmp_path / "take").write(arm(3.0), events)
    made = ingested(tmp_path, bag, {"service": RECORD, "field": "data"})
    assert begins(made) == [0.2, 2.1]
    reversed_ = Ingested(
        spec_file(tmp_path, {"episodes": {"service": RECORD, "field": "data", "start": False, "stop": True}}),
        bag,
        tmp_path / "reversed",
    )
    assert begins(reversed_) == [0.7, 0.9]


def test_what_is_not_there_is_named(tmp_path):
    events = [Event(RECORD, "SetBool", 0.2, SENT, 0, None), Event(START, "Trigger", 0.3, SENT, 0)]
    bag = CallBag(tmp_path / "take").write(arm(1.0), events)
    told = refused(tmp_path, bag, {"service": "/recorder/stat"})
    assert "no calls of the service '/recorder/stat', did you mean '/recorder/start'?" in told
    assert "(services: /record, /recorder/start)" in told
    # Introspection may leave the contents out.
    assert "it has no entry 0 under 'request[0].data'" in refused(
        tmp_path, bag, {"service": RECORD, "field": "data"}
    )
    told = refused(tmp_path, write_bag(tmp_path / "old", arm(1.0), "bag"), {"service": START})
    assert "it is a bag of ROS 1, which holds no calls of services" in told


def test_bytes_that_are_no_event_are_refused(tmp_path):
    bag = CallBag(tmp_path / "take").write(arm(1.0), [Event(START, "Trigger", 0.2, 1, 0, raw=b"\0\1\0\0\1")])
    assert "their bytes are no events of a service" in refused(tmp_path, bag, {"service": START})


def test_the_section_tells_what_does_not_belong_together(tmp_path):
    for episodes, expected in (
        ({"service": "/a", "until": "/b", "field": "data"}, "episodes.until: give either the service"),
        ({"service": "/a", "start": 1}, "episodes.field: is missing"),
        ({"service": "/a", "trigger": "/b"}, "name one of gap, trigger, service, times"),
        ({"servce": "/a"}, "did you mean 'service'?"),
    ):
        with pytest.raises(FoundryError) as error:
            load_spec(spec_file(tmp_path, {"episodes": episodes}))
        assert expected in str(error.value)


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
def test_calls_that_rosbag2_recorded_are_read_as_messages_too(tmp_path):
    """Of two calls by two clients; rosbags alone opens nothing of this bag."""
    topic = "/test_service1/_service_event"
    streams = {"joints": {"topic": topic, "field": "info.sequence_number", "match": "nearest"}}
    extra = {"kind": {"topic": topic, "field": "info.event_type"}}
    ros = {"cameras": {}, "rate": None, "frames": "joints", "streams": streams, "extra": extra}
    source = Path(str(SAMPLES), "mcap", "rosbag2_service_events")
    made = Ingested(spec_file(tmp_path, ros, {"cameras": {}}), source, tmp_path / "store")
    (name,) = made.rows
    tally = made.episode(name)["attributes"]["ros"]["topics"][topic]
    assert (tally["read"], tally["used"], tally["refused"]) == (4, 4, 0)
    assert made.source(name)["joints"][:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert made.source(name)["kind/values"][:, 0].tolist() == [0.0, 3.0, 0.0, 3.0]
    episodes = {"service": "/test_service1"}
    spec = spec_file(tmp_path, {**ros, "extra": {}, "episodes": episodes}, {"cameras": {}})
    assert len(Ingested(spec, source, tmp_path / "cut").rows) == 2
