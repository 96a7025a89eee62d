"""Names inside a shard: `<key>.<suffix>`, where the key ends at the first dot, as WebDataset groups them.

What the members of a shard are called beyond that, its kind says: `shards.robot.names`.
"""

from __future__ import annotations

import re

from robot_foundry.runtime.errors import FoundryError

KEY = r"[a-z0-9_-]{1,64}"
SUFFIX = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
MAX_NAME_BYTES = 100

_MEMBER = re.compile(rf"({KEY})\.({SUFFIX})")


def split_name(member: str) -> tuple[str, str]:
    """Key and suffix of a member name; a name outside the grammar or over 100 bytes raises FoundryError."""
    parts = _MEMBER.fullmatch(member)
    if not parts or len(member) > MAX_NAME_BYTES:
        raise FoundryError(
            f"{member!r} is not a member name: a key of 1 to 64 of the characters a-z, 0-9, '_' and '-', "
            f"a dot and a suffix, {MAX_NAME_BYTES} characters at most in all"
        )
    return parts[1], parts[2]


def checked_key(key: str) -> str:
    """`key` itself when it follows the grammar, else FoundryError."""
    if not re.fullmatch(KEY, key):
        raise FoundryError(f"key {key!r} is not allowed: use 1 to 64 of the characters a-z, 0-9, '_' and '-'")
    return key
