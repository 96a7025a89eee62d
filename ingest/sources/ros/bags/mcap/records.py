"""Messages among the records of a chunk of MCAP, whose layout is that of its specification."""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import itemgetter

from robot_foundry.ingest.sources.ros.bags.container import NOWHERE, Asked, Message

# Of a record: opcode and length; of a message then channel, sequence, and time of receipt.
_RECORD, _MESSAGE = struct.Struct("<BQ"), struct.Struct("<BQHIQ")
_MESSAGE_OP, _MESSAGE_HEAD = 5, 31
# What is read at once where heads will do; of a message so much: headers of ROS and JPEG are shorter.
BLOCK, HEAD = 16384, 4096


def messages_in(records: memoryview, begin: int, asked: Asked) -> list[Message]:
    """Messages in order of time; the records lie at `begin` in the file.

    ValueError if the records do not fill their memory.
    """
    messages: list[Message] = []
    place, end, newest, in_order = 0, len(records), -1, True
    record_at, message_at, channel_of = _RECORD.unpack_from, _MESSAGE.unpack_from, asked.wanted.get
    low, high = asked.low, asked.high
    new = tuple.__new__  # which NamedTuple calls by way of a function
    while place < end:
        if place + _MESSAGE_HEAD <= end:
            # Of another record than a message the last three mean nothing.
            op, size, number, _, time = message_at(records, place)
        else:
            op, size = record_at(records, place)
        next_place = place + _RECORD.size + size
        if next_place > end:
            raise ValueError("a record of it is longer than the chunk")
        if op == _MESSAGE_OP:
            start = place + _MESSAGE_HEAD
            if next_place < start:
                raise ValueError("a message of it is too short")
            channel = channel_of(number)
            if channel is not None and low <= time < high:
                lies_at = begin + start if begin != NOWHERE else NOWHERE
                messages.append(new(Message, (channel, time, records[start:next_place], lies_at, 0)))
                in_order = in_order and time >= newest
                newest = time
        place = next_place
    return messages if in_order else sorted(messages, key=itemgetter(1))


def heads_in(read: Callable[[int, int], bytes], begin: int, size: int, asked: Asked) -> list[Message]:
    """The same of `size` bytes at `begin` of the file, of which not all is read where `asked.heads` will do.

    `read` gives bytes of the file, by place and number.
    """
    messages: list[Message] = []
    place, block, block_at = 0, memoryview(b""), 0

    def cover(num_bytes: int) -> int:
        """Have the block hold so many bytes from `place` on, where it then has them."""
        nonlocal block, block_at
        wanted_end = min(place + num_bytes, size)
        if wanted_end > block_at + len(block):
            block = memoryview(read(begin + place, min(max(BLOCK, num_bytes), size - place)))
            block_at = place
        return place - block_at

    while place < size:
        at = cover(_MESSAGE_HEAD)
        op, length = _RECORD.unpack_from(block, at)
        next_place = place + _RECORD.size + length
        if next_place > size:
            raise ValueError("a record of it is longer than the chunk")
        if op == _MESSAGE_OP:
            num_bytes = next_place - place - _MESSAGE_HEAD
            if num_bytes < 0:
                raise ValueError("a message of it is too short")
            _, _, number, _, time = _MESSAGE.unpack_from(block, at)
            channel = asked.wanted.get(number)
            if channel is not None and asked.low <= time < asked.high:
                num_kept = min(num_bytes, HEAD) if number in asked.heads else num_bytes
                at = cover(_MESSAGE_HEAD + num_kept) + _MESSAGE_HEAD
                lies_at, told = begin + place + _MESSAGE_HEAD, num_bytes if num_kept < num_bytes else 0
                messages.append(Message(channel, time, block[at : at + num_kept], lies_at, told))
        place = next_place
    return sorted(messages, key=itemgetter(1))
