"""foundry-data stats: how the numbers of a version are distributed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.query.shown import Distribution, Distributions
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.plots import check_suffix
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
HEADERS = ("unit", "count", "mean", "std", "min", "p1", "p50", "p99", "max", "bad", "shape")
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
        shown = _stored(opened, ref, stream)
        rows = [_row(shown, number) for number in shown.numbers]
        if picture is not None:
            from robot_foundry.cli.data.chunks import plot_absolute

            plot_absolute(opened, ref, stream, picture)
    else:
        from robot_foundry.cli.data.chunks import Chunks, chunk_distributions, plot_chunks

        chunks = Chunks(stream or "next_state", representation, horizon, stride, control_hz, per_offset)
        by_stream, counted = chunk_distributions(opened, ref, chunks, weighting, workers)
        shown = Distributions([number for number, _ in counted], called="dims", headers=("stream", "dim"))
        rows = [_row(shown, number) | {"count": count} for number, count in counted]
        if picture is not None:
            plot_chunks(opened, ref, chunks, by_stream, workers, picture)
    if picture is not None:
        note(f"Drawn in {picture}")
    if centroids:
        for row, number in zip(rows, shown.numbers, strict=True):
            row["centroids"] = to_centroids(number.digest)
    counts = {"counts": {name: dict(counts) for name, counts in shown.counts.items()}} if shown.counts else {}
    emit(
        {"ref": ref, "representation": representation, shown.called: rows, **counts},
        as_json=as_json,
        text=lambda: _text(shown, rows),
    )


def _check_no_chunk_options(ref: str) -> None:
    """UsageError for options that were given and are of chunks alone."""
    context = click.get_current_context()
    for name in ("horizon", "stride", "control_hz", "per_offset", "weighting", "workers"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--{name.replace('_', '-')} is of training chunks: say which with -r",
                hint=f"foundry-data stats {ref} -r relative_tool",
            )


def _stored(store: Store, ref: str, of: str | None) -> Distributions:
    """The distributions of a version, or of each component of a mixture; with `of`, those of that alone."""
    versions = OpenVersions(store)
    opened = None if "=" in ref else versions.open(ref)
    if opened is not None and opened.manifest.mixture is None:
        shown = opened.kind.distributions(opened, None)
    else:
        shown = _mixed(versions, ref)
    known = list(dict.fromkeys(number.of for number in shown.numbers))
    if of is None:
        return shown
    if of not in known:
        listed = ", ".join(known)
        raise UsageError(f"{ref} has no {shown.called} of '{of}'{nearest(of, known)} (there are: {listed})")
    return replace(shown, numbers=[number for number in shown.numbers if number.of == of], counts={})


def _mixed(versions: OpenVersions, ref: str) -> Distributions:
    """What a mixture selects of each component, which its names are put behind."""
    mixture = as_mixture(versions, ref)
    parts = {part.name: part.opened.kind.distributions(part.opened, part.select()) for part in mixture.parts}
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return first
    return replace(
        first,
        numbers=[
            replace(number, name=f"{number.name} ({part})")
            for part, shown in parts.items()
            for number in shown.numbers
        ],
        counts={
            f"{what} ({part})": names for part, shown in parts.items() for what, names in shown.counts.items()
        },
    )


def _text(shown: Distributions, rows: list[dict[str, Any]]) -> str:
    headers = (*shown.headers, *HEADERS)
    text = table(headers, [[row[header] for header in headers] for row in rows])
    counted = [
        (what, name, count)
        for what, names in shown.counts.items()
        for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0]))
    ]
    return "\n".join([text, *(["", table(("counted", "name", "count"), counted)] if counted else [])])


def _row(shown: Distributions, number: Distribution) -> dict[str, Any]:
    digest = number.digest
    p1, p50, p99 = digest.percentile([1, 50, 99])
    return {
        **dict(zip(shown.headers, (number.of, number.name), strict=True)),
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
    }


def _shape(digest: Digest, low: float, high: float) -> str:
    if not digest.count or low == high:
        return ""
    shares = np.diff(digest.cdf(np.linspace(low, high, BINS + 1)))
    # What lies at the lowest edge itself belongs to the first bin.
    shares[0] += digest.cdf(low) - digest.cdf(np.nextafter(low, -np.inf))
    levels = np.ceil(shares / shares.max() * (len(BARS) - 1)).astype(int)
    return "".join(BARS[level] for level in levels)
