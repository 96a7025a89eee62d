"""What a spec of pairs says: `content`, how pairs are found in the source, checked, and laid into tars.

docs/pairs.md lists every key. What only selects, as a language does, is asked for when pairs are used
(`--where`): that is cheaper to change. Here is what spares reading, storing and decoding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.ingest.sources.pairs.asked import FORMATS
from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.content_spec import ContentSpec, read_content_spec

DECODE, HEADER = "decode", "header"
VERIFICATIONS = (DECODE, HEADER)
# The layouts that make pairs.
LAYOUTS = ("pairs",)


@dataclass(frozen=True)
class PairsContent:
    """What goes into the tars.

    captions      names under which the source has captions, () for none; None for all that look like one
    image_keys    keys or columns that hold or name pictures, None for those that usually do
    metadata      other keys that are kept, () for none; None for all
    images        the folder with the pictures that a table or JSON names, relative to the source; None where
                  it is found beside
    format        one of FORMATS where names and content of the files do not tell it
    verify        `decode`: every picture is decoded once | `header`: only its header is read
    min_side      filters: pictures with a shorter side, in pixels, with longer sides than `max_aspect` times
    max_aspect    the shorter, or with more than `max_pixels` are left out with their pair. None: no filter
    max_pixels
    resize        the longest side that a stored picture has, in pixels; a larger one is made smaller and
                  encoded anew as JPEG of `quality`. None: every picture stays as it is
    deduplicate   of pairs with equal pictures and equal texts the first alone is taken
    adopt         tars of the source stay where they lie; no picture is copied

    Sizes in bytes: `max_picture_bytes` a picture has at most in the source, `unit_bytes` of a source are read
    by one worker at least, and `shard_bytes` the planner aims at.
    """

    captions: tuple[str, ...] | None = None
    image_keys: tuple[str, ...] | None = None
    metadata: tuple[str, ...] | None = None
    images: str | None = None
    format: str | None = None
    verify: str = DECODE
    min_side: int | None = None
    max_aspect: float | None = None
    max_pixels: int | None = None
    resize: int | None = None
    quality: int = 95
    deduplicate: bool = True
    adopt: bool = False
    max_picture_bytes: int = 64 * 1024 * 1024
    unit_bytes: int = 64 * 1024 * 1024
    shard_bytes: int = 256 * 1024 * 1024

    def to_json(self) -> dict[str, Any]:
        names = {name: checks.names_to_json(getattr(self, name)) for name in ("captions", "metadata")}
        keys = None if self.image_keys is None else list(self.image_keys)
        return {**asdict(self), **names, "image_keys": keys}


@dataclass(frozen=True)
class PairsSpec(ContentSpec):
    """See `ingest.spec.spec.SourceSpec`."""

    content: PairsContent


def pairs_spec_from_json(values: Any, where: str) -> PairsSpec:
    """Check and read a spec in parsed YAML or JSON; `UsageError` names every problem in it."""
    return read_content_spec(
        PairsSpec, values, where, content=_content, layouts=LAYOUTS, docs="docs/pairs.md"
    )


def _content(section: checks.Section) -> PairsContent:
    default = PairsContent()

    def take(name: str, check: Any) -> Any:
        return section.take(name, check, getattr(default, name))

    def size(name: str, most: int) -> Any:
        return take(name, checks.integer(1, most))

    def pixels(name: str, most: int) -> Any:
        return take(name, checks.optional(checks.integer(1, most)))

    content = PairsContent(
        captions=take("captions", checks.names),
        image_keys=take("image_keys", checks.optional(_names)),
        metadata=take("metadata", checks.names),
        images=take("images", checks.optional(_folder)),
        format=take("format", checks.optional(checks.choice(FORMATS))),
        verify=take("verify", checks.choice(VERIFICATIONS)),
        min_side=pixels("min_side", 1 << 16),
        max_aspect=take("max_aspect", checks.optional(_aspect)),
        max_pixels=pixels("max_pixels", 1 << 32),
        resize=pixels("resize", 1 << 16),
        quality=take("quality", checks.integer(1, 100)),
        deduplicate=take("deduplicate", checks.boolean),
        adopt=take("adopt", checks.boolean),
        max_picture_bytes=size("max_picture_bytes", 1 << 30),
        unit_bytes=size("unit_bytes", 1 << 40),
        shard_bytes=size("shard_bytes", 1 << 40),
    )
    if content.adopt and content.resize is not None:
        section.report("resize", "cannot be where tars are adopted: their pictures stay as they are")
    section.close()
    return content


def _names(value: Any) -> tuple[str, ...]:
    names = checks.texts(value)
    if not names:
        raise ValueError("names nothing; null takes what is there")
    if len(set(names)) < len(names):
        raise ValueError(f"names one twice: {', '.join(names)}")
    return names


def _folder(value: Any) -> str:
    """A path beneath the source, '/'-separated."""
    path = checks.text(value).rstrip("/")
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"expected a folder within the source, got {value!r}")
    return path


def _aspect(value: Any) -> float:
    if checks.number(value) < 1:
        raise ValueError(f"expected 1 (squares alone) or more, got {value!r}")
    return float(value)
