"""Cameras that recorded a frame or two more or less than the robot did.

Legend: N frames of the episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, repeat

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.source_episode import Picture

# Recorders lose the image of a last step, and stop a camera a moment after the arm. Beyond this, images and
# actions are not of the same moments, and nothing tells where they part.
MOST_OFF = 2


def check_length(array: str, num_images: int, num_frames: int) -> str | None:
    """What is left out of a camera of this many images, or None. Refused if it is too far from [N]."""
    if abs(num_images - num_frames) > MOST_OFF:
        raise Refused(
            f"its camera '{array}' has {num_images} images for {num_frames} frames, and {MOST_OFF} more or "
            "fewer are allowed"
        )
    unused = num_images - num_frames
    return None if unused <= 0 else f"the last {unused} of its {num_images} images have no frame"


def fitted(pictures: Iterable[Picture], num_frames: int, array: str) -> Iterator[Picture]:
    """As many as there are frames: further images are passed over, frames after the last one get None.

    Refused if they end sooner than `check_length` allows, whatever a header promised.
    """
    count = 0
    for picture in islice(pictures, num_frames):
        yield picture
        count += 1
    if count < num_frames - MOST_OFF:
        raise Refused(f"the images of its camera '{array}' end after {count} of {num_frames} frames")
    yield from repeat(None, num_frames - count)


def extra_row_hint(length: int, num_frames: int) -> str:
    """How an array of one row more than there are frames can be read; nothing for any other."""
    if length != num_frames + 1:
        return ""
    return (
        "; if its last row is what followed the last action, `--set content.extra_row=next_state` reads it so"
    )
