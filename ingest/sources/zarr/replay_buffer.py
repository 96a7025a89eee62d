"""Replay buffers in zarr: the arrays of all episodes end to end, and meta/episode_ends, which cuts them.

A unit is an episode. Of a folder its file is the .zgroup at the root, with the chunks of its rows beside it;
a zip is one file of all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import SourceFile, Unit
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout, SourceEpisode
from robot_foundry.ingest.sources.zarr.ends import read_spans
from robot_foundry.ingest.sources.zarr.episode import Buffer, episode_of
from robot_foundry.ingest.sources.zarr.layouts import ZARR
from robot_foundry.ingest.sources.zarr.metadata import describe
from robot_foundry.ingest.sources.zarr.places import (
    ZIP,
    Folder,
    describing,
    gathered,
    is_claimed,
    place_of,
    prefix_of,
)
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.robot.names import episode_key


class ReplayBuffer(EpisodeLayout):
    """See `EpisodeLayout`."""

    declared = ZARR
    version = 1

    def claims(self, path: str) -> bool:
        return is_claimed(path)

    def together(
        self, claimed: Sequence[str], listed: Collection[str], content: Content
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return gathered(claimed, listed)

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        """From what describes the arrays; which chunks there are, their names tell."""
        units, refused = [], []
        with _described(file).at_hand() as here:
            buffer = _buffer(here, file, content)
            if content.fps is None and not buffer.has_times:
                raise UsageError(
                    f"{file.path}: a replay buffer does not say how many frames a second it has",
                    hint="state it: --set content.fps=10",
                )
            spans, files = read_spans(buffer.place, buffer.description.ends), _Files(file)
            for number, span in enumerate(spans):
                reason = span.reason or buffer.why_not(span)
                if reason is not None:
                    refused.append((f"{file.path}#{_id(number)}", reason))
                    continue
                key = episode_key(file.path, _id(number))
                units.append(
                    Unit(
                        files.with_chunks(buffer.chunk_names(span)), _id(number), key,
                        buffer.num_bytes(span), alone=len(spans) == 1,
                        num_samples=span.stop - span.start, encodes=buffer.has_pictures,
                    )
                )  # fmt: skip
        behind = max((span.stop for span in spans), default=0)
        if reason := buffer.rows_behind(behind):
            refused.append((f"{file.path}#rows_from_{behind}", reason))
        return units, refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        number = int(unit.id.removeprefix("episode_"))
        with unit.file.at_hand() as here:
            buffer = _buffer(here, here, content)
            span = read_spans(buffer.place, buffer.description.ends)[number]
            yield episode_of(buffer, span, content)


def _id(number: int) -> str:
    return f"episode_{number:06d}"


def _described(file: SourceFile) -> SourceFile:
    """The file with only those beside it that describe the arrays; a zip as it is."""
    named = set(describing(entry.path for entry in file.companions))
    return replace(file, companions=tuple(entry for entry in file.companions if entry.path in named))


def _buffer(here: SourceFile, whole: SourceFile, content: Content) -> Buffer:
    """The replay buffer at hand, where not all files are; `whole` has the names of all."""
    place = place_of(here)
    description = describe(place, content.skip)
    if isinstance(place, Folder):
        prefix = prefix_of(whole)
        place = replace(
            place, listed=frozenset(entry.path.removeprefix(prefix) for entry in whole.companions)
        )
    return Buffer(place, description, content)


class _Files:
    """The files of a replay buffer, of which each unit has some; a zip is one of all."""

    def __init__(self, file: SourceFile) -> None:
        self._file, self._prefix = file, prefix_of(file)
        self._by_path = {entry.path: entry for entry in file.companions}
        self._described = tuple(self._by_path[path] for path in describing(self._by_path))

    def with_chunks(self, names: Collection[str]) -> SourceFile:
        """The file with what describes the arrays, and these chunks."""
        if self._file.path.endswith(ZIP):
            return self._file
        chunks = tuple(self._by_path[f"{self._prefix}{name}"] for name in sorted(names))
        return replace(self._file, companions=(*self._described, *chunks))
