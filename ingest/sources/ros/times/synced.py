"""All streams of a bag on one clock: the times of the frames, their rows, and which picture each shows.

Legend: N frames, M messages of one stream as received, K of them in order of time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.gather import Gathered
from robot_foundry.ingest.sources.ros.options import RECEIVE, FrameChain, Matching, NumberTopic, RosOptions
from robot_foundry.ingest.sources.ros.sinks import CameraSink, NumberSink, TextSink
from robot_foundry.ingest.sources.ros.times.clocks import Clocked, Times, clocked
from robot_foundry.ingest.sources.ros.times.sync import (
    NANOSECONDS,
    frame_times,
    match,
    num_frames,
    rows,
    tolerance_ns,
)
from robot_foundry.ingest.sources.ros.times.tf import Chain, chain_of, clocked_edges, looked_up
from robot_foundry.shards.robot.names import MAX_FRAMES


@dataclass
class Synced:
    """`frames` [N] are times in ns. `arrays` have a row a frame, those of `extra` a row a message.

    `shown` has of each camera and depth camera the message [N] of its stream, as received, that a frame
    shows, -1 for none. `measures` are JSON values by stream, `remarks` sentences that follow its name.
    """

    frames: Times
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    shown: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Clocks:
    """Streams of numbers and pictures by name, and the chains of tf with their moving edges."""

    streams: Mapping[str, Clocked]
    chains: Mapping[str, tuple[Chain, Mapping[str, Clocked]]]


def synced(gathered: Gathered, options: RosOptions) -> Synced:
    """Refused if a stream has no message, or the streams no time in common."""
    clocks = _clocks(gathered, options)
    made = Synced(_frames(clocks, gathered, options))
    for name, clock in clocks.streams.items():
        made.measures[name] = clock.measures
        if clock.remark is not None:
            made.remarks[name] = clock.remark
    for name, sink in gathered.sinks.numbers.items():
        made.arrays[name] = _rows(made, gathered, sink, clocks.streams[name])
    for name, camera in (*gathered.sinks.cameras.items(), *gathered.sinks.depth.items()):
        made.shown[name] = _shown(made, gathered, camera, clocks.streams[name])
    for name, (chain, edges) in clocks.chains.items():
        _add_chain(made, gathered, name, chain, edges)
    for sink in gathered.sinks.extra.values():
        _add_extra(made, gathered, options, sink)
    for name, info in gathered.sinks.infos.items():
        gathered.tally(info.topic).use(info.ordinals)
        if info.num_unlike:
            made.remarks[info.topic] = f"says other things of camera '{name}' later than at first"
    return made


def _clocks(gathered: Gathered, options: RosOptions) -> _Clocks:
    streams = {}
    sinks = gathered.sinks
    stated_sinks: dict[str, CameraSink | NumberSink] = {**sinks.cameras, **sinks.depth, **sinks.numbers}
    for name, sink in stated_sinks.items():
        _check_some(gathered, name, sink)
        stamps, received, _ = sink.series.arrays()
        streams[name] = clocked(stamps, received, options.clock_of(sink.stated.matching), name)
    chains = {}
    for name, stated in options.streams.items():
        if isinstance(stated, FrameChain):
            assert sinks.tf is not None
            chain = chain_of(name, stated, sinks.tf.tree)
            edges = clocked_edges(chain, sinks.tf.tree, options.clock_of(stated.matching))
            chains[name] = chain, edges
    return _Clocks(streams, chains)


def _check_some(gathered: Gathered, name: str, sink: CameraSink | NumberSink) -> None:
    if len(sink.series):
        return
    tally = gathered.tally(sink.stated.topic)
    if not len(tally):
        raise Refused(f"its topic {sink.stated.topic} has no message for the stream '{name}'")
    why = tally.first_reason
    if why is None and isinstance(sink.stated, NumberTopic) and sink.stated.names:
        why = f"none has all the names {', '.join(sink.stated.names)}"
    raise Refused(
        f"none of {len(tally)} messages of {sink.stated.topic} is of use for the stream '{name}': {why}"
    )


def _frames(clocks: _Clocks, gathered: Gathered, options: RosOptions) -> Times:
    if options.frames is not None:
        # Two messages of one time are one frame.
        frames_N = np.unique(clocks.streams[options.frames].times)
        count = len(frames_N)
    else:
        assert options.rate is not None
        (first, begins), (last, ends) = _common(clocks, options)
        if last < first:
            raise Refused(f"its streams have no time in common: '{ends}' ends before '{begins}' begins")
        # Before they are made: one wrong stamp, such as 1 ns after 1970, would make more than memory holds.
        count = num_frames(first, last, options.rate)
        frames_N = frame_times(first, last, options.rate) if count <= MAX_FRAMES else np.zeros(0, np.int64)
    if count > MAX_FRAMES:
        raise Refused(
            f"its streams span {count} frames, and an episode holds {MAX_FRAMES} at most: cut it by "
            "content.ros.episodes, or go by the receipt with content.ros.clock if a stamp of it is wrong"
        )
    return frames_N


def _common(clocks: _Clocks, options: RosOptions) -> tuple[tuple[int, str], tuple[int, str]]:
    """When the last stream begins and the first ends, each with its name; not of those that hold for ever."""
    spans: list[tuple[str, Matching, Clocked]] = []
    stated = {**options.cameras, **options.depth, **options.streams}
    for name, clock in clocks.streams.items():
        spans.append((name, stated[name].matching, clock))
    for name, (_, edges) in clocks.chains.items():
        spans += [(name, stated[name].matching, clock) for clock in edges.values()]
    bounded = [entry for entry in spans if entry[1].tolerance != math.inf] or spans
    if not bounded:
        raise Refused("nothing in it moves, so that it has no time")
    first = max(((int(clock.times[0]), name) for name, _, clock in bounded), key=lambda entry: entry[0])
    last = min(((int(clock.times[-1]), name) for name, _, clock in bounded), key=lambda entry: entry[0])
    return first, last


def _rows(made: Synced, gathered: Gathered, sink: NumberSink, clock: Clocked) -> NDArray[np.float64]:
    matching = sink.stated.matching
    used = match(made.frames, clock.times, matching.match, tolerance_ns(matching, clock))
    quaternions = range(0, sink.width, 4) if matching.match == "slerp" else sink.quaternions
    if matching.match == "slerp" and sink.width % 4:
        raise Refused(
            f"its stream '{sink.name}' has {sink.width} numbers, and `match: slerp` is for quaternions"
        )
    values_Kd = sink.rows()[clock.places]
    _use(gathered, sink.stated.topic, sink.series.ordinals, clock.places[used.messages])
    made.measures[sink.name] = {**clock.measures, "empty_frames": int((used.low < 0).sum())}
    return rows(values_Kd, used, matching.match, quaternions)


def _shown(made: Synced, gathered: Gathered, sink: CameraSink, clock: Clocked) -> NDArray[np.int64]:
    matching = sink.stated.matching
    used = match(made.frames, clock.times, matching.match, tolerance_ns(matching, clock))
    _use(gathered, sink.stated.topic, sink.series.ordinals, clock.places[used.messages])
    made.measures[sink.name] = {**clock.measures, "empty_frames": int((used.low < 0).sum())}
    return np.where(used.low >= 0, clock.places[used.low], -1)


def _use(gathered: Gathered, topic: str, ordinals: Any, places: NDArray[np.int64]) -> None:
    gathered.tally(topic).use(np.asarray(ordinals, np.int64)[places])


def _add_chain(
    made: Synced, gathered: Gathered, name: str, chain: Chain, edges: Mapping[str, Clocked]
) -> None:
    assert gathered.sinks.tf is not None
    tree = gathered.sinks.tf.tree
    made.arrays[name], used = looked_up(chain, tree, edges, made.frames)
    empty = int(np.isnan(made.arrays[name]).any(axis=1).sum())
    steps = {frame: clock.measures for frame, clock in edges.items()}
    made.measures[name] = {"empty_frames": empty, "frames": steps}
    for frame in chain.moving:
        edge = tree.edges[frame]
        topic = "/tf_static" if edge.is_static else "/tf"
        tally = gathered.tallies[gathered.names.get(topic, gathered.names.get("/tf", topic))]
        if frame in used:
            places = edges[frame].places[used[frame].messages]
            tally.use(np.asarray(edge.ordinals, np.int64)[places])
        else:
            tally.use(edge.ordinals[-1:])
        if frame in tree.strays:
            made.remarks[f"{name} ({frame})"] = (
                f"has transforms from other frames than '{edge.parent}', or on another topic: left out"
            )
    if told := _of_edges(edges):
        made.remarks[name] = told


def _of_edges(edges: Mapping[str, Clocked]) -> str:
    """What is told of the clocks of a chain: each sentence once, with the frames that it is of."""
    frames: dict[str, list[str]] = defaultdict(list)
    for frame, clock in edges.items():
        if clock.remark is not None:
            frames[clock.remark].append(frame)
    return "; it ".join(f"{remark} (tf of {listed(names)})" for remark, names in frames.items())


def _add_extra(made: Synced, gathered: Gathered, options: RosOptions, sink: NumberSink) -> None:
    """Its own rows at its own times: from the first frame to the last."""
    _check_some(gathered, sink.name, sink)
    stamps, received, _ = sink.series.arrays()
    clock = clocked(stamps, received, options.clock_of(sink.stated.matching), sink.name)
    first, last = made.frames[0], made.frames[-1]
    inside = np.flatnonzero((clock.times >= first) & (clock.times <= last))
    made.arrays[f"{sink.name}/values"] = sink.rows()[clock.places[inside]]
    made.arrays[f"{sink.name}/timestamp"] = (clock.times[inside] - first).astype(np.float64) / NANOSECONDS
    made.measures[sink.name] = clock.measures
    if clock.remark is not None:
        made.remarks[sink.name] = clock.remark
    _use(gathered, sink.stated.topic, sink.series.ordinals, clock.places[inside])


def spans_of(sink: TextSink, gathered: Gathered, frames_N: Times, clock: str) -> list[tuple[int, int, str]]:
    """(first frame, frame after the last, text) of each text, which holds until the next one.

    By the clock of the section, or by the receipt of messages without a header, as String is. A text before
    the first frame holds from there.
    """
    stamps, received, _ = sink.series.arrays()
    said = clocked(stamps, received, clock if stamps.any() else RECEIVE, sink.name)
    starts = np.searchsorted(frames_N, said.times, side="left").tolist()
    spans: list[tuple[int, int, str]] = []
    for number, (place, start) in enumerate(zip(said.places.tolist(), starts, strict=True)):
        end = starts[number + 1] if number + 1 < len(starts) else len(frames_N)
        if end > start:
            gathered.tally(sink.stated.topic).use([sink.series.ordinals[place]])
            spans.append((start, end, str(sink.values[place])))
    return spans
