"""What all layouts share: limits, the choice of cameras, texts of steps, and why something is not taken."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.source_episode import SourceCamera, Text
from robot_foundry.runtime.errors import nearest

# The low-dimensional arrays of an episode are held in memory at once.
MOST_LOW_DIM_BYTES = 1 << 30
# Of one episode in one tar, so that the index of a shard stays small beside what it points at.
MOST_FRAMES = 50_000
# A row of an array with more numbers than this is not low-dimensional (depth maps, point clouds).
LARGEST_ROW = 4096
# Reasons in `left_out` that are as the user asked, or as the episode is.
SKIPPED, UNASKED = "skipped by the spec", "not among the spec's cameras"
ABSENT, NO_IMAGE = "the record has none", "no step of the episode has an image"
# Where the source itself says of what type it is.
NO_PICTURES = "nothing names it, and it is of a type that holds no pictures"


def is_skipped(name: str, skip: tuple[str, ...]) -> bool:
    """Whether the spec leaves the array out."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in skip)


def camera_of(array: str) -> str:
    """The name of the camera of an image array: `obs/agentview_image` is of `agentview`."""
    name = re.sub(r"_(image|rgb)$", "", array.rsplit("/", 1)[-1].lower())
    return re.sub(r"[^a-z0-9_]", "_", name)[:40] or "camera"


def chosen(images: Sequence[SourceCamera], content: Content) -> tuple[SourceCamera, ...]:
    """The cameras that the spec asks for, by name."""
    by_name = {image.name: image for image in images}
    if len(by_name) < len(images):
        arrays = ", ".join(image.array for image in images)
        raise Refused(f"two of its image arrays give one camera name ({arrays}): content.skip leaves one out")
    wanted = sorted(by_name) if content.cameras is None else sorted(content.cameras)
    for name in wanted:
        if name not in by_name:
            names = ", ".join(sorted(by_name)) or "none"
            raise Refused(f"it has no camera '{name}'{nearest(name, by_name)} (cameras: {names})")
    return tuple(by_name[name] for name in wanted)


def spans(path: str, lines: Sequence[Text]) -> Iterator[tuple[int, int, str, Text]]:
    """Runs of steps with one text that is not blank, under its path: (start, end (exclusive), path, text)."""
    start = 0
    for text, run in groupby(lines):
        end = start + len(list(run))
        if not isinstance(text, str) or text.strip():
            yield start, end, path, text
        start = end
