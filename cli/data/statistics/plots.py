"""Pictures of statistics: every dim, raw and normalised, the datasets of a mixture over one another.

Densities are differences of the digests' cumulative distributions; no row is read. Needs the extra `plot`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.normalizer import Normalizer, Scaling
from robot_foundry.normalization.space import Dim
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito (2008): told apart by every eye, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
BAND, PALE, ABSENT = "#E8E8E8", "#888888", "#B03030"
# Bins of a density: the root of the number of values, within these.
FEWEST_BINS, MOST_BINS = 30, 120
# Up to this many distinct values are drawn one by one, as a gripper's 0 and 1.
DISCRETE = 24
# What is drawn of a dim: all but the outermost thousandth on either side, and the band.
VIEW = (0.1, 99.9)
CELLS_A_ROW, CELL_INCHES, ROW_INCHES = 3, 6.0, 1.3
HEAD_INCHES = 0.9


@dataclass(frozen=True)
class Distributions:
    """The statistics of one column: of each dataset over the union, and of all together."""

    column: str
    datasets: Mapping[str, Statistics]
    merged: Statistics


def check_suffix(path: Path) -> None:
    """UsageError unless the picture can be written in that format."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"'{path}' does not end in {', '.join(SUFFIXES)}{nearest(path.suffix.lower(), SUFFIXES)}"
        )


def plot(columns: Sequence[Distributions], title: str, path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix."""
    check_suffix(path)
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise FoundryError(
            f"--plot needs the package {error.name}, which is not installed",
            hint="pip install 'robot-foundry[plot]'",
        ) from error
    rows = [math.ceil(len(column.merged.space) / CELLS_A_ROW) for column in columns]
    inches = [HEAD_INCHES * 0.6 + ROW_INCHES * count for count in rows]
    # No date, and ids that do not change: equal statistics give equal bytes.
    with matplotlib.rc_context({"svg.hashsalt": "foundry", "font.size": 7.5, "svg.fonttype": "none"}):
        figure = Figure(figsize=(CELLS_A_ROW * CELL_INCHES, HEAD_INCHES + sum(inches)), dpi=110)
        FigureCanvasAgg(figure)
        parts: Any = figure.subfigures(len(columns) + 1, 1, height_ratios=[HEAD_INCHES, *inches])
        colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(columns[0].datasets)}
        _head(parts[0], title, colours, columns[0])
        for part, column, count in zip(parts[1:], columns, rows, strict=True):
            _column(part, column, colours, count)
        path.parent.mkdir(parents=True, exist_ok=True)
        plain: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
        figure.savefig(path, metadata=plain[path.suffix.lower()])


def _head(part: SubFigure | Figure, title: str, colours: Mapping[str, str], column: Distributions) -> None:
    from matplotlib.patches import Patch

    normalizer = Normalizer.fit(column.merged)
    low, high = normalizer.percentiles
    part.text(0.01, 0.78, title, fontsize=13, weight="bold", va="center")
    note = (
        "left: raw, in units; right: normalised by all datasets together, clipped at the dotted lines. "
        "Heights are roots of densities, each to its peak. Dims that a dataset lacks are named."
    )
    part.text(0.01, 0.48, note, color=PALE, fontsize=8.5, va="center")
    handles = [Patch(color=colour, alpha=0.6, label=name) for name, colour in colours.items()]
    handles.append(Patch(color=BAND, label=f"{low:g} … {high:g} % of all"))
    part.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.005, -0.05), ncols=8, frameon=False, fontsize=9.5
    )


def _column(
    part: SubFigure | Figure, column: Distributions, colours: Mapping[str, str], num_rows: int
) -> None:
    normalizer = Normalizer.fit(column.merged)
    widths = [1.15, 1.0, 0.03] * CELLS_A_ROW  # raw, normalised, and room before the next dim
    axes = part.subplots(num_rows, len(widths), squeeze=False, width_ratios=widths)
    height = HEAD_INCHES * 0.6 + ROW_INCHES * num_rows
    top = 1 - HEAD_INCHES * 0.6 / height
    part.subplots_adjust(left=0.012, right=0.988, top=top, bottom=0.22 / height, hspace=0.75, wspace=0.08)
    part.text(
        0.01, 1 - 0.16 / height, column.column, fontsize=11, weight="bold", va="center", color="#333333"
    )
    for place, (dim, scaling) in enumerate(zip(column.merged.space, normalizer.scalings, strict=True)):
        row, cell = divmod(place, CELLS_A_ROW)
        digests = {name: statistics.digests[place] for name, statistics in column.datasets.items()}
        raw, normalised = axes[row, 3 * cell], axes[row, 3 * cell + 1]
        _raw(raw, dim, scaling, column.merged.digests[place], digests, colours, normalizer.percentiles)
        _normalised(normalised, scaling, column.merged.digests[place], digests, colours, normalizer)
    for place, spare in enumerate(axes.ravel()):
        spare.set_visible(place % 3 < 2 and place // 3 < len(column.merged.space))


def _raw(
    axes: Axes,
    dim: Dim,
    scaling: Scaling,
    merged: Digest,
    digests: Mapping[str, Digest],
    colours: Mapping[str, str],
    percentiles: tuple[float, float],
) -> None:
    _bare(axes)
    unit = "" if dim.unit == "1" else f" [{dim.unit}]"
    axes.set_title(f"{dim.name}{unit}", loc="left", fontsize=8.5, weight="bold", pad=3)
    if not merged.count:
        axes.set_xticks([])
        axes.set_facecolor("#F6F6F6")
        return
    band = [float(value) for value in merged.percentile(percentiles)]
    axes.axvspan(band[0], band[1], color=BAND, lw=0, zorder=0)
    low, high = _view(merged, band, scaling)
    for name, digest in digests.items():
        if digest.count:
            _draw(axes, digest, (low, high), None, colours[name])
    axes.set_xlim(low, high)


def _normalised(
    axes: Axes,
    scaling: Scaling,
    merged: Digest,
    digests: Mapping[str, Digest],
    colours: Mapping[str, str],
    normalizer: Normalizer,
) -> None:
    _bare(axes)
    clip, percentiles = normalizer.clip, normalizer.percentiles
    axes.set_title(scaling.rule, loc="left", fontsize=7.5, color=PALE, pad=3)
    absent = [name for name, digest in digests.items() if not digest.count]
    if absent:
        listed = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        axes.set_title(f"absent in {listed}", loc="right", fontsize=7.5, style="italic", color=ABSENT, pad=3)
    if scaling.rule == "no data":
        axes.set_xticks([])
        axes.set_facecolor("#F6F6F6")
        return
    edge = clip * 1.12
    band = (np.asarray(merged.percentile(percentiles)) - scaling.centre) / (scaling.scale or 1.0)
    axes.axvspan(*band.clip(-edge, edge), color=BAND, lw=0, zorder=0)
    for at in (-clip, clip):
        axes.axvline(at, color=PALE, lw=0.8, ls=":", zorder=1)
    axes.set_xlim(-edge, edge)
    axes.set_xticks([-clip, -1, 0, 1, clip], [f"{at:g}" for at in (-clip, -1, 0, 1, clip)])
    line = 0
    for name, digest in digests.items():
        if not digest.count:
            continue
        _draw(axes, digest, (-clip, clip), scaling, colours[name])
        share = _clipped(digest, scaling, clip)
        if share > 0:
            text = f"clipped {share:.2%}" if share >= 1e-4 else "clipped < 0.01%"
            place = (0.99, 0.97 - 0.16 * line)
            axes.text(*place, text, transform=axes.transAxes, ha="right", va="top", color=colours[name])
            line += 1


def _draw(
    axes: Axes, digest: Digest, view: tuple[float, float], scaling: Scaling | None, colour: str
) -> None:
    """The density over `view`, which is in normalised units where a scaling is given."""
    if digest.is_exact and len(digest.values) <= DISCRETE:
        values = digest.values
        if scaling is not None:
            values = (values - scaling.centre) / (scaling.scale or 1.0)
            values = values.clip(*view)
        heights = np.sqrt(digest.weights / digest.weights.max())
        axes.vlines(values, 0, heights, color=colour, lw=2.2, alpha=0.75)
        axes.plot(values, heights, "o", color=colour, ms=3, alpha=0.75)
        return
    bins = int(np.clip(math.sqrt(digest.count), FEWEST_BINS, MOST_BINS))
    edges = np.linspace(*view, bins + 1)
    raw = edges if scaling is None else scaling.centre + (scaling.scale or 1.0) * edges
    shares = np.diff(digest.cdf(raw))
    if scaling is not None:
        # What lies beyond the clip comes to lie on it.
        shares[0] += digest.cdf(raw[0])
        shares[-1] += 1 - digest.cdf(raw[-1])
    # The root shows tails beside the peak of a dim that seldom moves.
    heights = np.sqrt(shares.clip(0.0) / max(float(shares.max()), 1e-12))
    axes.stairs(heights, edges, fill=True, color=colour, alpha=0.28)
    axes.stairs(heights, edges, color=colour, lw=1.0, alpha=0.9, baseline=None)


def _clipped(digest: Digest, scaling: Scaling, clip: float) -> float:
    if scaling.rule == "constant":
        return 0.0
    low, high = scaling.centre - clip * scaling.scale, scaling.centre + clip * scaling.scale
    return float(digest.cdf(np.nextafter(low, -np.inf)) + 1.0 - digest.cdf(high))


def _view(merged: Digest, band: Sequence[float], scaling: Scaling) -> tuple[float, float]:
    low, high = (float(value) for value in merged.percentile(VIEW))
    low, high = min(low, band[0]), max(high, band[1])
    if scaling.rule in ("range", "point mass", "wide percentiles"):
        low = min(low, scaling.centre - scaling.scale)
        high = max(high, scaling.centre + scaling.scale)
    margin = 0.06 * (high - low) or 0.05 * max(abs(low), 1.0)
    return low - margin, high + margin


def _bare(axes: Axes) -> None:
    axes.set_yticks([])
    axes.set_ylim(0, 1.12)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", labelsize=7, length=2, pad=1.5)
    axes.locator_params(axis="x", nbins=4)
