"""What the metadata of a LeRobot dataset say, read once for all of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.lerobot.info import Info, read_info
from robot_foundry.ingest.sources.lerobot.json_meta import LARGEST_META, json_object
from robot_foundry.ingest.sources.lerobot.places import INFO, META, prefix_of
from robot_foundry.ingest.sources.lerobot.tables import Episodes, Listed, read_episodes, read_texts
from robot_foundry.runtime import files

MODALITY = "meta/modality.json"


@dataclass(frozen=True)
class Dataset:
    """`prefix` is what comes before the paths of its files. `episodes` is None if nothing lists them."""

    prefix: str
    info: Info
    episodes: Episodes | None
    tasks: Mapping[int, str]
    subtasks: Mapping[int, str]
    modality: Mapping[str, Any]

    def listed(self, episode: int) -> Listed | None:
        """What the tables say of an episode; None if they do not list it."""
        return None if self.episodes is None else self.episodes.listed.get(episode)

    def frames_beside(self, episode: int, key: str) -> int:
        """How many frames the video of a feature that shows the episode has of all episodes; 0 if unknown."""
        listed = self.listed(episode)
        span = None if listed is None else listed.spans.get(key)
        return 0 if span is None else self._frames_of_videos[key, span.chunk, span.file]

    @cached_property
    def _frames_of_videos(self) -> Counter[tuple[str, int, int]]:
        frames: Counter[tuple[str, int, int]] = Counter()
        for listed in {} if self.episodes is None else self.episodes.listed.values():
            for key, span in listed.spans.items():
                frames[key, span.chunk, span.file] += listed.length or 0
        return frames

    def contradictions(self) -> list[str]:
        """What info.json counts otherwise than the tables, a sentence each."""
        info, sentences = self.info, []
        listed = {} if self.episodes is None else self.episodes.listed
        total = len(listed) if listed else info.total_episodes
        where = f"{self.prefix}{INFO}"
        if total is not None:
            for name, start, end in info.splits:
                if end > total:
                    sentences.append(
                        f"{where}: the split '{name}' is {start}:{end}, and there are {total} episodes"
                    )
        if listed and self.episodes is not None:
            lengths = [episode.length for episode in listed.values()]
            frames = None if None in lengths else sum(length or 0 for length in lengths)
            for what, stated, found in (
                ("episodes", info.total_episodes, len(listed)),
                ("frames", info.total_frames, frames),
            ):
                if None not in (stated, found) and stated != found:
                    sentences.append(
                        f"{where} counts {stated} {what}, and {self.episodes.table} lists {found}: "
                        "what is in the data was taken"
                    )
        return sentences


def dataset_of(file: SourceFile) -> Dataset:
    """The dataset of a file, by its companions. Refused where the metadata are missing or damaged."""
    prefix = prefix_of(entry.path for entry in (file, *file.companions))
    if prefix is None:
        raise Refused(
            f"no {INFO} lies above it, which says what its columns hold: give the dataset's own folder, "
            "which holds meta"
        )
    own = (entry for entry in (file, *file.companions) if META.fullmatch(entry.path.removeprefix(prefix)))
    return _read(prefix, tuple(_alone(entry) for entry in own))


def metadata(file: SourceFile, prefix: str) -> tuple[SourceFile, ...]:
    """Those of the companions that tell of the dataset."""
    return tuple(entry for entry in file.companions if META.fullmatch(entry.path.removeprefix(prefix)))


@lru_cache(maxsize=4)
def _read(prefix: str, told_by: Sequence[SourceFile]) -> Dataset:
    contents: dict[str, bytes] = {}
    for file in told_by:
        name = file.path.removeprefix(prefix)
        if file.size > LARGEST_META:
            raise Refused(f"{name} has {file.size} bytes")
        with file.local() as path:
            contents[name] = path.read_bytes()
    return parse(prefix, contents)


def parse(prefix: str, contents: Mapping[str, bytes]) -> Dataset:
    """From the metadata by their paths beneath the dataset."""
    return Dataset(
        prefix,
        read_info(contents[INFO]),
        read_episodes(contents),
        read_texts(contents, "tasks"),
        read_texts(contents, "subtasks"),
        json_object(contents[MODALITY], MODALITY) if MODALITY in contents else {},
    )


def read_beside(root: str, prefix: str) -> Dataset:
    """The dataset whose info.json lies beneath `root` at this prefix. Refused as `dataset_of`, or OSError."""
    folder = "/".join(filter(None, (root, f"{prefix}{INFO}".rpartition("/")[0])))
    names = {f"meta/{status.path}": status.path for status in files.walk(folder)}
    return parse(
        prefix, {name: files.read_bytes(folder, path) for name, path in names.items() if META.fullmatch(name)}
    )


def _alone(file: SourceFile) -> SourceFile:
    return SourceFile(file.root, file.path, file.size, file.stamp, file.blake3)
