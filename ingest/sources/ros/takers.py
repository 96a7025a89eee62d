"""How the streams of a topic take the messages of one channel.

A message is decoded, and each stream takes what it wants of it. One that is like an earlier one is not
decoded: its numbers are read where they stand in the bytes, which gives the same, and of pictures the times.

Shape suffix: d numbers of one message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from robot_foundry.ingest.sources.ros.bags.bag import Bag, Channel, Message
from robot_foundry.ingest.sources.ros.bags.damage import MISTYPED
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.bags.shapes import Shape, Unpack
from robot_foundry.ingest.sources.ros.messages.alike import Alike, stamp_unpacker
from robot_foundry.ingest.sources.ros.messages.fields import NANOSECONDS, NotOfThis
from robot_foundry.ingest.sources.ros.sinks import CameraSink, NumberSink, Sink
from robot_foundry.ingest.sources.ros.tallies import TAKEN, UNMAPPED, Tally

# Kinds of messages that are learnt of a channel at most, and that are kept: where there are more, the next
# message is of yet another one.
MOST_LEARNT, MOST_KEPT = 32, 4

# Takes a message by its ordinal; False if it is not like those before.
Quick = Callable[[Message, int], bool]


class Taker:
    """Has the streams `sinks` take messages of the channel, and the tally count what becomes of each."""

    def __init__(self, bag: Bag, channel: Channel, sinks: Sequence[Sink], tally: Tally) -> None:
        self._bag = bag
        self.channel, self._sinks = channel, sinks
        self._tally, self._states = tally, tally.states
        self._numbers = [sink for sink in sinks if isinstance(sink, NumberSink)]
        self._cameras = [sink for sink in sinks if isinstance(sink, CameraSink)]
        self._quick: list[Quick] = []
        self._num_learnt = 0

    def take(self, message: Message) -> None:
        """Of a picture the beginning is enough."""
        ordinal = len(self._states)
        for quick in self._quick:
            if quick(message, ordinal):
                return
        channel, tally = self.channel, self._tally
        if channel.decode is None:
            tally.refuse(f"its type {channel.type} {channel.problem}")
            return
        try:
            raw = message.raw
            if message.num_bytes:
                raw = self._bag.read(channel, message.place, message.num_bytes)
            content = channel.decode.plain(raw)
            decoded = channel.decode(content)
        except Undecodable as error:
            tally.refuse(str(error))
            return
        reason = self._take_decoded(decoded, message.received_ns, message.place, len(raw))
        if reason is None and self._num_learnt < MOST_LEARNT:
            self._num_learnt += 1
            with suppress(*MISTYPED):  # of a type that is not as its name says
                self._learn(decoded, content)

    def _take_decoded(self, decoded: Any, received_ns: int, place: int, num_bytes: int) -> str | None:
        """Why a stream cannot take it, if one cannot."""
        tally = self._tally
        is_taken, reason = False, None
        for sink in self._sinks:
            try:
                sink.take(decoded, self.channel.topic, received_ns, len(tally))
                is_taken = True
                if isinstance(sink, CameraSink):
                    sink.keep_place(self.channel.number, place, num_bytes)
            except NotOfThis:
                continue
            except Undecodable as error:
                reason = str(error)
            except MISTYPED:
                reason = "its fields are not of the kinds that its type has"
        if reason is not None and not is_taken:
            tally.refuse(reason)
        else:
            tally.states.append(TAKEN if is_taken else UNMAPPED)
            if reason is not None:
                tally.partly[reason] += 1
        return reason

    def _learn(self, decoded: Any, raw: Any) -> None:
        """Keep what tells messages like this one, if there is any."""
        assert self.channel.decode is not None
        quick = None
        if len(self._numbers) == len(self._sinks):
            shape = self.channel.decode.shape(raw)
            quick = None if shape is None else _quick_numbers(shape, decoded, raw, self._numbers, self._tally)
        elif len(self._cameras) == len(self._sinks) == 1 and not self._cameras[0].is_depth:
            sink = self._cameras[0]
            alike = Alike.of(self.channel.decode.shape(raw), decoded, raw, sink.headers)
            if alike is not None:
                sink.alike.append(alike)
                quick = _quick_pictures(alike, sink, self.channel.number, self._tally)
        if quick is not None:
            self._quick = [quick, *self._quick][:MOST_KEPT]


def _quick_numbers(
    shape: Shape, decoded: Any, raw: Any, sinks: Sequence[NumberSink], tally: Tally
) -> Quick | None:
    """What takes the numbers of messages of this shape; None if they are not found in this one's bytes."""
    if shape.end is not None:
        return None
    stamp_of = stamp_unpacker(shape, decoded, raw)
    if stamp_of is None:
        return None
    plan = []
    for sink in sinks:
        try:
            wanted_d = sink.numbers(decoded)
            numbers_of = shape.unpacker(sink.numbers(shape.places))
        except NotOfThis:
            continue
        if not np.array_equal(wanted_d, np.array(numbers_of(raw), np.float64), equal_nan=True):
            return None
        series = sink.series
        kept = series.stamps.append, series.received.append, series.ordinals.append, sink.values.extend
        plan.append((*kept, numbers_of))
    if len(plan) == 1 and len(sinks) == 1:
        places_d = sinks[0].numbers(shape.places)
        span = shape.doubles(places_d)
        if span is not None:
            return _quick_doubles(shape, stamp_of, span, sinks[0], tally)
    state = TAKEN if plan else UNMAPPED
    num_bytes, fixed, fixed_of, states = shape.num_bytes, shape.fixed, shape.fixed_of, tally.states

    def quick(message: Message, ordinal: int) -> bool:
        _, received_ns, raw, _, _ = message
        # `shape.fits` and `sink.add` without the calls: robots send joints a thousand times a second.
        if len(raw) != num_bytes or fixed_of(raw) != fixed:
            return False
        seconds, nanoseconds = stamp_of(raw)
        for stamps, received, ordinals, values, numbers_of in plan:
            stamps(seconds * NANOSECONDS + nanoseconds)
            received(received_ns)
            ordinals(ordinal)
            values(numbers_of(raw))
        states.append(state)
        return True

    return quick


def _quick_doubles(shape: Shape, stamp_of: Unpack, span: slice, sink: NumberSink, tally: Tally) -> Quick:
    """The same for one stream whose numbers lie side by side, as those of joints do."""
    num_bytes, fixed, fixed_of = shape.num_bytes, shape.fixed, shape.fixed_of
    stamps, received, ordinals = sink.series.stamps, sink.series.received, sink.series.ordinals
    values, states = sink.values, tally.states

    def quick(message: Message, ordinal: int) -> bool:
        _, received_ns, raw, _, _ = message
        if len(raw) != num_bytes or fixed_of(raw) != fixed:
            return False
        seconds, nanoseconds = stamp_of(raw)
        stamps.append(seconds * NANOSECONDS + nanoseconds)
        received.append(received_ns)
        ordinals.append(ordinal)
        values.frombytes(raw[span])
        states.append(TAKEN)
        return True

    return quick


def _quick_pictures(alike: Alike, sink: CameraSink, channel: int, tally: Tally) -> Quick:
    """What takes the times of pictures that are alike, and where they lie."""
    series, (channels, places, sizes), states = sink.series, sink.lies_at, tally.states

    def quick(message: Message, ordinal: int) -> bool:
        _, received_ns, raw, place, num_bytes = message
        num_bytes = num_bytes or len(raw)
        if not alike.fits(raw, num_bytes):
            return False
        seconds, nanoseconds = alike.stamp(raw)
        # `series.add_times` and `sink.keep_place` without the calls.
        series.stamps.append(seconds * NANOSECONDS + nanoseconds)
        series.received.append(received_ns)
        series.ordinals.append(ordinal)
        channels.append(channel)
        places.append(place)
        sizes.append(num_bytes)
        states.append(TAKEN)
        return True

    return quick
