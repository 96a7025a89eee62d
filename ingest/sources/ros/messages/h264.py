"""Whether a packet of H.264 follows the one before: behind a lost one FFmpeg shows wrong pictures, untold.

By ITU-T H.264, 7.3 and 7.4.3: pictures that others are made of are counted by `frame_num`.
"""

from __future__ import annotations

from collections.abc import Iterator

SLICES, KEY_SLICE, SEQUENCE = (1, 5), 5, 7
# Enough of a unit for the fields that are read.
HEAD_BYTES = 48
# Profiles whose sequences tell of chroma and of depth.
HIGH = frozenset((44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244))


class Counted:
    """Counts the pictures of one stream."""

    def __init__(self) -> None:
        self._num_bits: int | None = None
        self._last: int | None = None

    def follows(self, data: bytes) -> bool:
        """False if a picture that others are made of is missing before this packet, as far as can be told."""
        follows = True
        for unit in _units(data):
            kind, is_used = unit[0] & 31, bool(unit[0] & 0x60)
            if kind == SEQUENCE:
                self._num_bits = _num_bits(_Bits(unit[1:]))
            elif kind in SLICES and self._num_bits is not None:
                bits = _Bits(unit[1:])
                is_first = bits.number() == 0
                if not is_first:
                    continue
                bits.number(), bits.number()
                count = bits.take(self._num_bits)
                if kind != KEY_SLICE and self._last is not None:
                    expected = (self._last, (self._last + 1) % (1 << self._num_bits))
                    follows = follows and count in expected
                if is_used:
                    self._last = count
        return follows


def _num_bits(bits: _Bits) -> int | None:
    """Of `frame_num`, as a sequence says; None where it also has matrices of its own."""
    profile = bits.take(8)
    bits.take(16), bits.number()
    if profile in HIGH:
        if bits.number() == 3:
            return None
        bits.number(), bits.number(), bits.take(1)
        if bits.take(1):
            return None
    return bits.number() + 4


def _units(data: bytes) -> Iterator[bytes]:
    """The first bytes of each unit, without the threes that keep start codes out of it."""
    place = data.find(b"\0\0\1")
    while place >= 0:
        head = data[place + 3 : place + 3 + HEAD_BYTES]
        following = head.find(b"\0\0\1")
        head = head if following < 0 else head[:following]
        if head:
            yield head.replace(b"\0\0\3", b"\0\0")
        place = data.find(b"\0\0\1", place + 3)


class _Bits:
    """Fields of bits; what lies behind the end is zero."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data + bytes(8), "big")
        self._left = 8 * (len(data) + 8)

    def take(self, count: int) -> int:
        self._left = max(self._left - count, 0)
        return self._bits >> self._left & ((1 << count) - 1)

    def number(self) -> int:
        """In Exp-Golomb code: as many zeros as bits follow the one behind them."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                return 0
        return (1 << zeros) - 1 + self.take(zeros)
