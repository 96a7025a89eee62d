"""Names of the members of a robot shard, in plain string order ('-' sorts before '.').

    <episode>-000042.<camera>.jpg     one image of one frame
    <episode>.episode.json            what is known of the episode
    <episode>.source.npz              its low-dimensional source arrays, untouched
    <episode>.segment.json            in place of both where the shard holds later images of a long episode

Every name fits the 100 bytes of a tar header: an episode key made here has at most 45 characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.keys import checked_key, split_name

CAMERA = r"[a-z0-9_]{1,40}"
IMAGE_ENCODINGS = ("jpg", "png")
FRAME_IMAGE = (
    rf"(?P<episode>[a-z0-9_-]{{1,57}})-(?P<frame>[0-9]{{6}})\.(?P<camera>{CAMERA})\.(?P<encoding>jpg|png)"
)
EPISODE_JSON, SOURCE_NPZ, SEGMENT_JSON = "episode.json", "source.npz", "segment.json"
MAX_FRAMES = 1_000_000

_ID_CHARACTERS, _HASH_CHARACTERS = 32, 12
_FRAME_IMAGE = re.compile(FRAME_IMAGE)
_FRAME_TAIL = re.compile(r".*-[0-9]{6}")


@dataclass(frozen=True)
class Member:
    """The parts of a member name. `key` is what WebDataset groups by, `suffix` all after the first dot.

    `episode` is None for a name that is not of a robot shard; `frame` and `camera` are set for images only.
    """

    key: str
    episode: str | None
    frame: int | None
    camera: str | None
    suffix: str


def episode_key(relative_path: str, episode_id: str) -> str:
    """A short, readable, unique key: '<sanitised id>-<12 hex digits of path and id>', 45 characters at most.

    `relative_path` is the file's '/'-separated path below the source's root, `episode_id` the source's own
    name of the episode inside it.
    """
    readable = re.sub(r"[^a-z0-9_]+", "-", episode_id.lower())[:_ID_CHARACTERS].strip("-") or "episode"
    return f"{readable}-{digest_of([relative_path, episode_id])[:_HASH_CHARACTERS]}"


def frame_key(episode: str, frame: int) -> str:
    """'<episode>-000042'. Frames count from 0 and have six digits, so that string order is frame order."""
    if not 0 <= frame < MAX_FRAMES:
        raise FoundryError(
            f"episode {episode} has a frame {frame}, but a shard numbers 0 to {MAX_FRAMES - 1}"
        )
    return f"{_frame_stem(episode)}{frame:06d}"


def image_name(episode: str, frame: int, camera: str, encoding: str = "jpg") -> str:
    """'<episode>-000042.<camera>.jpg'."""
    return f"{frame_key(episode, frame)}.{image_suffix(camera, encoding)}"


# Names of millions of frames are made of a few episodes and cameras.
@lru_cache(maxsize=1024)
def image_suffix(camera: str, encoding: str) -> str:
    """'<camera>.jpg', what follows a frame's key and a dot."""
    if not re.fullmatch(CAMERA, camera):
        raise FoundryError(
            f"camera name {camera!r} is not allowed: use 1 to 40 of the characters a-z, 0-9 and '_'"
        )
    if encoding not in IMAGE_ENCODINGS:
        raise FoundryError(f"image encoding {encoding!r} is not one of {', '.join(IMAGE_ENCODINGS)}")
    return f"{camera}.{encoding}"


def episode_json_name(episode: str) -> str:
    """'<episode>.episode.json'."""
    return f"{_checked_episode(episode)}.{EPISODE_JSON}"


def source_name(episode: str) -> str:
    """'<episode>.source.npz'."""
    return f"{_checked_episode(episode)}.{SOURCE_NPZ}"


def segment_json_name(episode: str) -> str:
    """'<episode>.segment.json'."""
    return f"{_checked_episode(episode)}.{SEGMENT_JSON}"


def parse(member: str) -> Member:
    """The parts of a member name; a name outside the grammar or over 100 bytes raises FoundryError."""
    key, suffix = split_name(member)
    if suffix in (EPISODE_JSON, SOURCE_NPZ, SEGMENT_JSON):
        return Member(key, _checked_episode(key), None, None, suffix)
    image = _FRAME_IMAGE.fullmatch(member)
    if image:
        return Member(key, image["episode"], int(image["frame"]), image["camera"], suffix)
    return Member(key, None, None, None, suffix)


@lru_cache(maxsize=1024)
def _frame_stem(episode: str) -> str:
    return checked_key(f"{_checked_episode(episode)}-{0:06d}")[:-6]


def _checked_episode(episode: str) -> str:
    # 'x-000042' would be at once an episode and frame 42 of episode 'x', and WebDataset would join the two.
    if _FRAME_TAIL.fullmatch(episode):
        raise FoundryError(f"episode key {episode!r} is not allowed: it ends like a frame key")
    return checked_key(episode)
