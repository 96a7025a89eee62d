"""What of a PNG makes its pixels. Texts, profiles and further frames must be whole, and are not looked
into: they may be of any size once decompressed.
"""

from __future__ import annotations

from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.images import PNG_MAGIC, check_png_chunks

_HEADER = b"IHDR"
_OF_PIXELS = (_HEADER, b"PLTE", b"tRNS", b"IDAT", b"IEND")


def pixels_of_png(data: bytes) -> bytes:
    """The PNG without the chunks that decide no pixel. CorruptImage where any chunk is damaged, or one header
    follows another."""
    check_png_chunks(data)
    parts, kind, position, headers = [PNG_MAGIC], b"", len(PNG_MAGIC), 0
    while kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        if kind in _OF_PIXELS:
            parts.append(data[position:end])
        headers += kind == _HEADER
        position = end
    if headers != 1:
        raise CorruptImage(f"a PNG of {len(data)} bytes has {headers} headers")
    return b"".join(parts)
