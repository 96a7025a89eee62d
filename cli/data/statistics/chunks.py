"""What `foundry-data stats` tells of robots alone: chunks as training sees them, and what is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.query.shown import Distribution
from robot_foundry.catalog.robot.leaves import version_statistics
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.statistics.plots import Distributions, plot
from robot_foundry.cli.output import note
from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.windows.chunk_statistics import chunk_statistics


@dataclass(frozen=True)
class Chunks:
    """What a chunk is: see the options of `foundry-data stats`."""

    stream: str
    representation: str
    horizon: int | str
    stride: int | str
    control_hz: float | None
    per_offset: bool


def chunk_distributions(
    store: Store, ref: str, chunks: Chunks, weighting: str, workers: int
) -> tuple[dict[str, Statistics], list[tuple[Distribution, int]]]:
    """Statistics of states and chunks by name; and their dims, each with its plain count of values."""
    mixture = as_mixture(store, ref)
    for component, schema in unions_of(mixture).schemas.items():
        if chunks.stream in schema.streams:
            spaces = schema.state_space(), schema.space(chunks.stream)
            for line in base_axes_note(component, *spaces, chunks.representation):
                note(f"Note: {line}")

    def named(kind: str) -> dict[str, Statistics]:
        made = chunk_statistics(mixture, **asdict(chunks), weighting=kind, workers=workers, quiet=False)
        offsets = {f"{chunks.stream}+{step}": part for step, part in enumerate(made.offsets)}
        return {"state": made.state, chunks.stream: made.action, **offsets}

    weighted = named(weighting)
    counts = weighted if weighting == "count" else named("count")
    return weighted, [
        (Distribution(name, dim.name, dim.unit, digest), counts[name][dim.name].count)
        for name, statistics in weighted.items()
        for dim, digest in zip(statistics.space, statistics.digests, strict=True)
    ]


def plot_absolute(store: Store, ref: str, stream: str | None, picture: Path) -> None:
    """Draw every dim of a version as it is stored."""
    opened = OpenVersions(store).open(ref)
    streams = [stream] if stream else ["state", *schema_of(opened.manifest).streams]
    by_stream = {name: version_statistics(opened, name) for name in streams}
    columns = [Distributions(name, {ref: statistics}, statistics) for name, statistics in by_stream.items()]
    plot(columns, f"{ref}: absolute values", picture)


def plot_chunks(
    store: Store, ref: str, chunks: Chunks, by_stream: dict[str, Statistics], workers: int, picture: Path
) -> None:
    """Draw the statistics of chunks, and beside them those of each dataset by itself over the same dims."""
    wanted = {name: by_stream[name] for name in ("state", chunks.stream)}
    alone: dict[str, dict[str, Statistics]] = {name: {} for name in wanted}
    settings = asdict(chunks) | {"per_offset": False}
    for one in as_mixture(store, ref).alone():
        (part,) = one.parts
        embodiment = schema_of(part.manifest).embodiment
        made = chunk_statistics(one, **settings, workers=workers, quiet=False)
        for name, statistics in (("state", made.state), (chunks.stream, made.action)):
            alone[name][part.name] = statistics.into(wanted[name].space, embodiment=embodiment)
    columns = [Distributions(name, alone[name], statistics) for name, statistics in wanted.items()]
    plot(columns, f"{ref}: chunks, {chunks.representation}", picture)
