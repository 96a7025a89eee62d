"""foundry-data stats: how the numbers of a version are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.query.shown import Distribution, Distributions
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.statistics.chunks import Chunks, chunk_distributions, plot_absolute, plot_chunks
from robot_foundry.cli.data.statistics.plots import check_suffix
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.interop import to_centroids
from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.windows.chunk_statistics import WEIGHTINGS


class _Time(click.ParamType):
    """Whole steps, or seconds as text."""

    name = "steps|seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        return int(text) if text.lstrip("-").isdigit() else text


TIME = _Time()
BARS, BINS = " ▁▂▃▄▅▆▇█", 16


@click.command()
@click.argument("ref")
@click.option(
    "--stream",
    help="Only numbers of this: 'state', 'picture', … With -r: an action stream, next_state by default.",
)
@click.option(
    "-r",
    "--representation",
    help="Of training chunks: relative_tool, relative_base, absolute or delta. Uses the training split.",
)
@click.option(
    "--horizon", type=TIME, default=16, show_default=True, help="With -r: steps of a chunk, or 0.8s."
)
@click.option(
    "--stride", type=TIME, default=1, show_default=True, help="With -r: frames to the next step, or 0.1s."
)
@click.option("--control-hz", type=float, help="With -r: resample all datasets to this rate.")
@click.option("--per-offset", is_flag=True, help="With -r: also each step of the chunk by itself.")
@click.option(
    "--weighting",
    type=click.Choice(WEIGHTINGS),
    default="count",
    show_default=True,
    help="With -r: each frame once, or as often as the mixture draws it.",
)
@click.option("--workers", default=0, show_default=True, help="With -r: processes; the result is the same.")
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw every dim, raw and normalised, the datasets over one another; .png, .svg or .pdf.",
)
@click.option(
    "--centroids", is_flag=True, help="With --json: also each t-digest, as the package tdigest writes it."
)
@store_option
@json_option
def command(
    ref: str,
    stream: str | None,
    representation: str | None,
    horizon: int | str,
    stride: int | str,
    control_hz: float | None,
    per_offset: bool,
    weighting: str,
    workers: int,
    picture: Path | None,
    centroids: bool,
    store: str,
    as_json: bool,
) -> None:
    """Show count, moments, percentiles and shape of every number of a version or mixture, and what it counts.

    Of robots the numbers are dims, of mixtures of robots those of training chunks (-r). `bad` counts values
    that are not finite. `shape` is a histogram from p1 to p99. With --per-offset, `next_state+3` are the
    targets three steps after the anchor.
    """
    if picture is not None:
        check_suffix(picture)
    if centroids and not as_json:
        raise UsageError("--centroids is for --json", hint=f"foundry-data stats {ref} --json --centroids")
    opened = Store(store)
    if representation is None:
        _check_no_chunk_options(ref)
        told = _as_stored(opened, ref, stream, picture)
    else:
        chunks = Chunks(stream or "next_state", representation, horizon, stride, control_hz, per_offset)
        told = _as_chunks(opened, ref, chunks, weighting, workers, picture)
    if picture is not None:
        note(f"Drawn in {picture}")
    for row in told.rows:
        digest = row.pop("digest")
        if centroids:
            row["centroids"] = to_centroids(digest)
    result = {"ref": ref, "representation": representation, told.called: told.rows}
    emit(
        result | ({"counts": told.counts} if told.counts else {}),
        as_json=as_json,
        text=lambda: "\n\n".join(_table(part) for part in (told.rows, told.counts) if part),
    )


@dataclass(frozen=True)
class _Told:
    """What numbers are `called`; rows of them, each with its `digest`, and of the names that are counted."""

    called: str
    rows: list[dict[str, Any]]
    counts: list[dict[str, Any]] = field(default_factory=list)


def _as_stored(store: Store, ref: str, of: str | None, picture: Path | None) -> _Told:
    """The numbers of a version or mixture, or those `of` one thing alone, drawn if they are to be."""
    found = _stored(OpenVersions(store), ref)
    called = next(iter(found.values())).called  # of one kind, they are alike
    rows = [
        _of(dataset) | _row(shown.headers, number)
        for dataset, shown in found.items()
        for number in shown.numbers
        if of in (None, number.of)
    ]
    if of is not None and not rows:
        raise _nothing(ref, called, of, found)
    if picture is not None:
        plot_absolute(store, ref, of, picture)
    return _Told(called, rows, _counted(found) if of is None else [])


def _as_chunks(
    store: Store, ref: str, chunks: Chunks, weighting: str, workers: int, picture: Path | None
) -> _Told:
    """The dims of chunks as training sees them, drawn if they are to be."""
    by_stream, counted = chunk_distributions(store, ref, chunks, weighting, workers)
    if picture is not None:
        plot_chunks(store, ref, chunks, by_stream, workers, picture)
    return _Told("dims", [_row(("stream", "dim"), number) | {"count": count} for number, count in counted])


def _check_no_chunk_options(ref: str) -> None:
    """UsageError for options that were given and are of chunks alone."""
    context = click.get_current_context()
    for name in ("horizon", "stride", "control_hz", "per_offset", "weighting", "workers"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--{name.replace('_', '-')} is of training chunks: say which with -r",
                hint=f"foundry-data stats {ref} -r relative_tool",
            )


def _stored(versions: OpenVersions, ref: str) -> dict[str, Distributions]:
    """The distributions of a version, without a name, or by name of what trains of each part of a mixture."""
    opened = None if "=" in ref else versions.open(ref)
    if opened is not None and opened.manifest.mixture is None:
        return {"": opened.kind.distributions(opened, None)}
    return {
        part.name: part.opened.kind.distributions(part.opened, part.select())
        for part in as_mixture(versions, ref).parts
    }


def _nothing(ref: str, called: str, of: str, found: Mapping[str, Distributions]) -> UsageError:
    known = list(dict.fromkeys(number.of for shown in found.values() for number in shown.numbers))
    return UsageError(f"{ref} has no {called} of '{of}'{nearest(of, known)} (there are: {', '.join(known)})")


def _of(dataset: str) -> dict[str, str]:
    return {"dataset": dataset} if dataset else {}


def _counted(found: Mapping[str, Distributions]) -> list[dict[str, Any]]:
    """A row for each name that is counted, the most frequent first."""
    return [
        _of(dataset) | {"counted": what, "name": name, "count": count}
        for dataset, shown in found.items()
        for what, names in shown.counts.items()
        for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0]))
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    return table(tuple(rows[0]), [list(row.values()) for row in rows])


def _row(headers: tuple[str, str], number: Distribution) -> dict[str, Any]:
    digest = number.digest
    p1, p50, p99 = digest.percentile([1, 50, 99])
    return {
        **dict(zip(headers, (number.of, number.name), strict=True)),
        "unit": number.unit,
        "count": digest.count,
        "mean": digest.mean,
        "std": digest.std,
        "min": digest.min,
        "p1": float(p1),
        "p50": float(p50),
        "p99": float(p99),
        "max": digest.max,
        "bad": digest.num_nan + digest.num_posinf + digest.num_neginf,
        "shape": _shape(digest, float(p1), float(p99)),
        "digest": digest,
    }


def _shape(digest: Digest, low: float, high: float) -> str:
    if not digest.count or low == high:
        return ""
    shares = np.diff(digest.cdf(np.linspace(low, high, BINS + 1)))
    # What lies at the lowest edge itself belongs to the first bin.
    shares[0] += digest.cdf(low) - digest.cdf(np.nextafter(low, -np.inf))
    levels = np.ceil(shares / shares.max() * (len(BARS) - 1)).astype(int)
    return "".join(BARS[level] for level in levels)
