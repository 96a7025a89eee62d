"""JSON files that tell when they are not what was written: the first member is the checksum of the others.

{"checksum":"<digest_of the object without it>",<the rest of its canonical JSON>
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from robot_foundry.runtime.canonical import canonical_json, sha256_hex
from robot_foundry.runtime.errors import FoundryError

_START = b'{"checksum":"'


def seal(obj: Mapping[str, Any]) -> bytes:
    """The object, which has at least one key, as JSON with its checksum."""
    content = canonical_json(dict(obj))
    return _head(content) + content[1:]


def unseal(data: bytes, where: str, *, hint: str) -> dict[str, Any]:
    """What `seal` was given; FoundryError with the hint unless every byte is as it was written."""
    if not data.startswith(_START):
        raise FoundryError(
            f"{where} has no checksum: it is damaged, or was written before there were any", hint=hint
        )
    length = len(_head(b""))
    content = b"{" + data[length:]
    if data[:length] != _head(content):
        raise FoundryError(f"{where} is damaged: its checksum differs", hint=hint)
    record: dict[str, Any] = json.loads(content)
    return record


def _head(content: bytes) -> bytes:
    return _START + sha256_hex(content)[:32].encode() + b'",'
