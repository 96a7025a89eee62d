"""A comparison as one page that needs nothing beside it: intervals, densities, letters and pairs.

Names come from the user's folders and are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from robot_foundry.evaluation.comparison.compare import Comparison, Pair, Scope, Standing
from robot_foundry.runtime.pages.html import COLOURS, document, table

WIDTH, ROW, LEFT, RIGHT, AXIS = 760, 46, 200, 90, 26  # pixels
POINTS, LONGEST = 241, 26


def page_of(found: Comparison) -> str:
    """The page as HTML 5."""
    title = " and ".join(standing.name for standing in found.scopes[0].standings)
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(_how(found))}</p>"]
    body += [f"<p class=medium>{escape(line)}</p>" for line in found.notes]
    body += [line for scope in found.scopes for line in _scope(found, scope)]
    return document(title, "\n".join(body))


def _how(found: Comparison) -> str:
    sure = f"{100 * (1 - found.alpha):.4g} %"
    unit = "training seeds and scenes" if found.of == "recipes" else "scenes"
    looked = ", looked at after every scene" if found.sequential else ""
    return (
        f"Success rates with {sure} intervals over {unit}. Policies that share a letter are not shown to "
        f"differ (two-sided, {found.alpha:g} in a family of pairs by Holm's method{looked}). The shape "
        "around an interval is the density of the rate, given as many independent episodes as these count "
        "and no opinion before; marks below it are single runs."
    )


def _scope(found: Comparison, scope: Scope) -> Iterator[str]:
    yield f"<h2>{escape(scope.name)}</h2>{_plot(scope)}"
    rows = [
        (
            escape(one.name),
            escape(one.letters),
            f"{one.rate:.1%}",
            f"{one.successes}/{one.trials}",
            f"{one.interval[0]:.1%} … {one.interval[1]:.1%}",
            " ".join(f"{rate:.1%}" for rate in one.rates_of_runs),
        )
        for one in scope.standings
    ]
    yield table(("policy", "letters", "rate", "successes", "interval", "runs"), rows)
    stop = ("decided at scene",) if found.sequential else ()
    pairs = [_pair(pair, found) for pair in scope.pairs]
    yield table(("pair", "points", "interval", "test", "scenes", "p", "p by Holm", *stop), pairs)
    yield from (f"<p>{escape(limit)}</p>" for limit in scope.limits)
    if found.sequential:
        yield f"<p>{'Every pair is decided.' if scope.may_stop else 'Not every pair is decided.'}</p>"


def _pair(pair: Pair, found: Comparison) -> tuple[str, ...]:
    low, high = pair.interval
    stop = (str(pair.stopped_at or "not yet"),) if found.sequential else ()
    return (
        f"{escape(pair.second)} - {escape(pair.first)}",
        f"{100 * pair.difference:+.1f}",
        f"{100 * low:+.1f} … {100 * high:+.1f}",
        pair.test,
        "not paired" if pair.scenes is None else str(pair.scenes),
        f"{pair.p:.2g}",
        f"{pair.p_adjusted:.2g}",
        *stop,
    )


def _plot(scope: Scope) -> str:
    """A row a policy over the axis of rates: density, interval, rate, runs and letters."""
    height = ROW * len(scope.standings) + AXIS
    parts = [_tick(share / 10, height - AXIS) for share in range(0, 11, 2)]
    for row, one in enumerate(scope.standings):
        parts.append(_violin(one, ROW * (row + 0.5), COLOURS[row % len(COLOURS)]))
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{"".join(parts)}</svg>'


def _x(rate: float) -> float:
    return LEFT + rate * (WIDTH - LEFT - RIGHT)


def _tick(rate: float, bottom: int) -> str:
    line = f'<line x1="{_x(rate):.1f}" x2="{_x(rate):.1f}" y1="0" y2="{bottom}" stroke="#ddd"/>'
    place = f'x="{_x(rate):.1f}" y="{bottom + 17}" font-size="12" text-anchor="middle"'
    return f"{line}<text {place}>{rate:.0%}</text>"


def _violin(one: Standing, middle: float, colour: str) -> str:
    low, high = one.interval
    shape = " ".join(f"{_x(rate):.1f},{middle + side:.1f}" for rate, side in _outline(one))
    runs = one.rates_of_runs if len(one.rates_of_runs) > 1 else ()
    label = one.name if len(one.name) <= LONGEST else f"…{one.name[1 - LONGEST :]}"
    ends = f'x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{middle}" y2="{middle}"'
    beside, below = f'y="{middle + 5}" font-size="13"', f'cy="{middle + 12}" r="2.5" fill="#222"'
    return "".join(
        [
            f'<polygon fill="{colour}" fill-opacity="0.25" points="{shape}"/>',
            f'<line {ends} stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{_x(one.rate):.1f}" cy="{middle}" r="4.5" fill="{colour}"/>',
            *(f'<circle cx="{_x(rate):.1f}" {below}/>' for rate in runs),
            f'<text x="{LEFT - 10}" {beside} text-anchor="end">{escape(label)}</text>',
            f'<text x="{WIDTH - RIGHT + 14}" {beside}>{escape(one.letters)}</text>',
        ]
    )


def _outline(one: Standing) -> list[tuple[float, float]]:
    """The density of Beta(1 + successes, 1 + failures), there and back, as high as a row allows."""
    rate = np.linspace(0.0, 1.0, POINTS)
    a, b = one.rate * one.effective, (1.0 - one.rate) * one.effective
    density = np.exp(xlogy(a, rate) + xlog1py(b, -rate) - betaln(a + 1.0, b + 1.0))
    side = 0.42 * ROW * density / density.max()
    points = list(zip(rate.tolist(), (-side).tolist(), strict=True))
    return [*points, *((x, -y) for x, y in reversed(points))]
