"""LeRobot datasets: episodes in parquet files of data, with their images there or in videos beside them.

A unit is an episode, its file that of its data. meta/info.json is a file of its own, which tells of the
episodes that are listed and that no data holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile, Unit
from robot_foundry.ingest.sources.lerobot.dataset import Dataset, dataset_of, metadata, read_beside
from robot_foundry.ingest.sources.lerobot.episode import episode_of
from robot_foundry.ingest.sources.lerobot.layouts import LEROBOT
from robot_foundry.ingest.sources.lerobot.places import (
    DATA,
    INFO,
    NEEDLESS,
    VideoFiles,
    episode_number,
    gathered,
    is_claimed,
    is_info,
    prefix_of,
)
from robot_foundry.ingest.sources.lerobot.rows import Runs, episodes_in
from robot_foundry.ingest.sources.lerobot.views import LACKING, asked_videos, video_keys, videos_of
from robot_foundry.ingest.sources.robot import video
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout, SourceEpisode
from robot_foundry.shards.robot.names import episode_key

# JPEG takes about this many times the bytes of a video; only the planner uses it.
BLOW_UP = 12


class LeRobot(EpisodeLayout):
    """See `EpisodeLayout`."""

    declared = LEROBOT
    version = 2

    def claims(self, path: str) -> bool:
        return is_claimed(path)

    def together(
        self, claimed: Sequence[str], listed: Collection[str], content: Content
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return gathered(claimed, listed)

    def needless(self, path: str) -> bool:
        return NEEDLESS.fullmatch(path) is not None

    def tells_of_others(self, path: str) -> bool:
        return is_info(path)

    def missing(self, root: str, paths: Sequence[str]) -> list[str]:
        sentences = []
        for path in filter(is_info, paths):
            try:
                sentences += read_beside(root, path.removesuffix(INFO)).contradictions()
            except (OSError, Refused):
                continue  # listing the files told what is wrong with it
        return sentences

    def again(self, units: Sequence[Unit]) -> list[tuple[Unit, str]]:
        first: dict[tuple[str | None, str], Unit] = {}
        repeated = []
        for unit in units:
            place = prefix_of(entry.path for entry in unit.file.companions), unit.id
            if (held := first.setdefault(place, unit)) is not unit:
                repeated.append((unit, f"{held.file.path} holds the episode of that number as well"))
        return repeated

    def codecs(self, content: Content) -> dict[str, str]:
        return video.codec_versions()

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        if is_info(file.path):
            return [], _absent(file)
        dataset = dataset_of(file)
        number = episode_number(file.path)
        listed = None if number is None else dataset.listed(number)
        if number is not None and listed is not None and listed.length is not None:
            return [_Units(file, dataset, content).unit(number, listed.length, file.size)], []
        runs = _runs(file)
        if number is not None and list(runs) != [number]:
            held = ", ".join(map(str, list(runs)[:3]))
            raise Refused(f"its rows are of the episodes {held}, and its name is that of episode {number}")
        num_rows = sum(stop - start for start, stop in runs.values()) or 1
        made, units, refused = _Units(file, dataset, content), [], []
        for episode, (start, stop) in sorted(runs.items()):
            if reason := _why_not(dataset, episode, start, shares_videos=number is None):
                refused.append((f"{file.path}#{_id(episode)}", reason))
            else:
                units.append(made.unit(episode, stop - start, file.size * (stop - start) / num_rows))
        return [replace(unit, alone=len(runs) == 1) for unit in units], refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        with unit.file.at_hand() as file:
            yield episode_of(file, int(unit.id.removeprefix("episode_")), content)


def _id(episode: int) -> str:
    return f"episode_{episode:06d}"


def _runs(file: SourceFile) -> Runs:
    """The rows of each episode in a file of data."""
    alone = replace(file, companions=())
    with alone.at_hand() as here:
        return episodes_in(here, Path(here.root, here.path))


def _why_not(dataset: Dataset, episode: int, start: int, *, shares_videos: bool) -> str | None:
    """Why an episode cannot be read as its file holds it, or None."""
    if start < 0:
        return "its rows lie apart in the file, with those of other episodes between"
    is_unlisted = dataset.episodes is not None and dataset.listed(episode) is None
    if dataset.episodes is not None and is_unlisted and shares_videos and video_keys(dataset):
        return f"{dataset.episodes.table} does not list it, so nothing says where its videos show it"
    return None


class _Units:
    """The units of a file of data, each with the files that it is read from."""

    def __init__(self, file: SourceFile, dataset: Dataset, content: Content) -> None:
        self._file, self._dataset = file, dataset
        self._asked = asked_videos(dataset, content)
        self._by_path = {entry.path: entry for entry in file.companions}
        self._videos = VideoFiles(self._by_path)
        self._meta = metadata(file, dataset.prefix)

    def unit(self, episode: int, num_frames: int, data_bytes: float) -> Unit:
        """The episode of so many frames and bytes of data."""
        shown = videos_of(self._dataset, episode, self._videos)
        places = {place: key for key, place in shown.items() if place is not None}
        videos = tuple(self._by_path[place] for place in places)
        in_videos = 0.0
        for place, key in places.items():
            beside = max(num_frames, self._dataset.frames_beside(episode, key))
            in_videos += self._by_path[place].size * num_frames / max(1, beside)
        return Unit(
            replace(self._file, companions=(*self._meta, *videos)),
            _id(episode),
            episode_key(self._file.path, _id(episode)),
            round(data_bytes + BLOW_UP * in_videos),
            alone=True,
            num_samples=num_frames,
            encodes=bool(videos),
            told=tuple(
                (key, LACKING) for key, place in shown.items() if place is None and key in self._asked
            ),
        )


def _absent(file: SourceFile) -> list[tuple[str, str]]:
    """The episodes that the tables list and no file of data holds, and what of the tables is damaged."""
    dataset = dataset_of(file)
    if dataset.episodes is None:
        return []
    data = [entry for entry in file.companions if DATA.fullmatch(entry.path.removeprefix(dataset.prefix))]
    numbers = {n for entry in data if (n := episode_number(entry.path)) is not None}
    for entry in data:
        if episode_number(entry.path) is None:
            try:
                numbers |= set(_runs(entry))
            except Refused:
                continue  # listing that file tells why
    refused = [(f"{file.path}#{place}", reason) for place, reason in dataset.episodes.damage]
    for number, listed in sorted(dataset.episodes.listed.items()):
        if number not in numbers:
            held = "" if listed.length is None else f" with {listed.length} frames"
            refused.append(
                (
                    f"{file.path}#{_id(number)}",
                    f"{dataset.episodes.table} lists it{held}, and no data file holds it",
                )
            )
    return refused
