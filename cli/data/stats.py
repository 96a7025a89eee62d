"""foundry-data stats: the distribution of every dim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.robot.leaves import version_statistics
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.plots import Distributions, check_suffix, plot
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.interop import to_centroids
from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import UsageError
from robot_foundry.windows.chunk_statistics import WEIGHTINGS, chunk_statistics


class _Time(click.ParamType):
    """Whole steps, or seconds as text."""

    name = "steps|seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        return int(text) if text.lstrip("-").isdigit() else text


TIME = _Time()
HEADERS = ("stream", "dim", "unit", "count", "mean", "std", "min", "p1", "p50", "p99", "max", "bad", "shape")
BARS, BINS = " ▁▂▃▄▅▆▇█", 16


@click.command()
@click.argument("ref")
@click.option("--stream", help="'state' or an action stream; without it, all (with -r: next_state).")
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
    """Show count, moments, percentiles and shape of every dim of a version, or of a mixture (with -r).

    `bad` counts values that are not finite. `shape` is a histogram from p1 to p99. With --per-offset,
    `next_state+3` are the targets three steps after the anchor.
    """
    if picture is not None:
        check_suffix(picture)
    if centroids and not as_json:
        raise UsageError("--centroids is for --json", hint=f"foundry-data stats {ref} --json --centroids")
    opened = Store(store)
    settings: dict[str, Any] = {}
    counts: dict[str, Statistics] = {}
    if representation is None:
        _check_no_chunk_options(ref)
        by_stream = _absolute(opened, ref, stream)
    else:
        settings = {
            "stream": stream or "next_state",
            "representation": representation,
            "horizon": horizon,
            "stride": stride,
            "control_hz": control_hz,
            "per_offset": per_offset,
        }
        by_stream, counts = _chunks(opened, ref, settings, weighting, workers)
    rows = [
        _row(name, dim.name, dim.unit, digest)
        | ({"count": counts[name][dim.name].count} if counts else {})
        | ({"centroids": to_centroids(digest)} if centroids else {})
        for name, statistics in by_stream.items()
        for dim, digest in zip(statistics.space, statistics.digests, strict=True)
    ]
    if picture is not None:
        kind = f"chunks, {representation}" if representation else "absolute values"
        plot(_distributions(opened, ref, by_stream, settings, workers), f"{ref}: {kind}", picture)
        note(f"Drawn in {picture}")
    emit(
        {"ref": ref, "representation": representation, "dims": rows},
        as_json=as_json,
        text=lambda: table(HEADERS, [[row[header] for header in HEADERS] for row in rows]),
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


def _chunks(
    store: Store, ref: str, settings: dict[str, Any], weighting: str, workers: int
) -> tuple[dict[str, Statistics], dict[str, Statistics]]:
    """Statistics of states and chunks by name, and those with plain counts where they are weighted."""
    mixture = as_mixture(store, ref)
    for component, schema in unions_of(mixture).schemas.items():
        if settings["stream"] in schema.streams:
            spaces = schema.state_space(), schema.space(settings["stream"])
            for line in base_axes_note(component, *spaces, settings["representation"]):
                note(f"Note: {line}")

    def named(kind: str) -> dict[str, Statistics]:
        chunks = chunk_statistics(mixture, **settings, weighting=kind, workers=workers, quiet=False)
        offsets = {f"{settings['stream']}+{step}": part for step, part in enumerate(chunks.offsets)}
        return {"state": chunks.state, settings["stream"]: chunks.action, **offsets}

    return named(weighting), named("count") if weighting != "count" else {}


def _absolute(store: Store, ref: str, stream: str | None) -> dict[str, Statistics]:
    if "=" in ref:
        raise UsageError(f"'{ref}' is a mixture", hint=f"foundry-data stats {ref} -r relative_tool")
    opened = OpenVersions(store).open(ref)
    if opened.manifest.mixture is not None:
        raise UsageError(f"{opened.version} is a mixture", hint=f"foundry-data stats {ref} -r relative_tool")
    return {
        name: version_statistics(opened, name)
        for name in ([stream] if stream else ["state", *schema_of(opened.manifest).streams])
    }


def _distributions(
    store: Store, ref: str, by_stream: dict[str, Statistics], settings: dict[str, Any], workers: int
) -> list[Distributions]:
    """The statistics of the table, and beside them those of each dataset by itself over the same dims."""
    if not settings:
        return [Distributions(name, {ref: statistics}, statistics) for name, statistics in by_stream.items()]
    mixture, stream = as_mixture(store, ref), settings["stream"]
    wanted = {"state": by_stream["state"], stream: by_stream[stream]}
    alone: dict[str, dict[str, Statistics]] = {name: {} for name in wanted}
    for one in mixture.alone():
        (part,) = one.parts
        embodiment = schema_of(part.manifest).embodiment
        chunks = chunk_statistics(one, **(settings | {"per_offset": False}), workers=workers, quiet=False)
        for name, statistics in (("state", chunks.state), (stream, chunks.action)):
            alone[name][part.name] = statistics.into(wanted[name].space, embodiment=embodiment)
    return [Distributions(name, alone[name], statistics) for name, statistics in wanted.items()]


def _row(stream: str, dim: str, unit: str, digest: Digest) -> dict[str, Any]:
    p1, p50, p99 = digest.percentile([1, 50, 99])
    return {
        "stream": stream,
        "dim": dim,
        "unit": unit,
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
