"""Derived files that may be lost at any time, such as when the power fails: nothing waits for the disk.

Each begins with the CRC-32C of its content, so that what did not reach the disk whole is made again.
"""

from __future__ import annotations

import google_crc32c

from robot_foundry.runtime.storage.storage import Storage

_CHECKSUM_BYTES = 4


def keep(storage: Storage, path: str, data: bytes) -> None:
    """Put `data` at `path`."""
    storage.write(path, _checksum(data) + data, durable=False)


def kept(storage: Storage, path: str) -> bytes | None:
    """What `keep` put there; None if there is nothing, or not all of it."""
    if not storage.exists(path):
        return None
    stored = storage.read_bytes(path)
    data = stored[_CHECKSUM_BYTES:]
    return data if stored[:_CHECKSUM_BYTES] == _checksum(data) else None


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CHECKSUM_BYTES)
