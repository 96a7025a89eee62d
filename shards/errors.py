"""Proven corruption of stored bytes: these errors, and no others, allow a reader to use a substitute."""

from __future__ import annotations

from robot_foundry.runtime.errors import FoundryError

_DEEP = "foundry-data validate DATASET --deep says what else is damaged, and what mends it"


class CorruptData(FoundryError):
    """The bytes are not what was written, or are not of their format. Reading them again will not help."""


class CorruptMember(CorruptData):
    """A member of a tar has the wrong checksum, or the tar ends inside it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or _DEEP)


class CorruptImage(CorruptData):
    """An encoded image is truncated, damaged, too large or not an image."""


class TooManyPixels(CorruptImage):
    """An encoded image whose header tells of more pixels than are decoded."""


class TooManyScans(CorruptImage):
    """A JPEG that goes over its pixels so often that nobody made it to be looked at."""


class CorruptArrays(CorruptData):
    """An .npz file is damaged, or holds what is not a plain array."""
