"""A report of open-loop errors as one page that needs nothing beside it: what grows with how far one looks.

Legend: S sources (the policy, then its controls), T steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from robot_foundry.evaluation.openloop.errors import MEASURES
from robot_foundry.evaluation.openloop.report import CONTROLS, GAINS, POLICY, shown
from robot_foundry.runtime.pages.charts import lines
from robot_foundry.runtime.pages.html import COLOURS, document, table

WIDTH, HEIGHT = 320, 110  # pixels


def page_of(report: Mapping[str, Any]) -> str:
    """The page as HTML 5."""
    title = f"Open loop: {report['run']}"
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(_how(report))}</p>"]
    body += [f"<p class=medium>{escape(report['note'])}</p>"] if report["note"] else []
    for name, found in report["datasets"].items():
        body += _dataset(name, found)
    return document(title, "\n".join(body))


def _how(report: Mapping[str, Any]) -> str:
    return (
        f"{report['samples']} chunks of the split '{report['split']}', step {report['step']} of training. "
        "Errors are of absolute targets, over how many steps ahead they lie; intervals of 95 % are over "
        "episodes. A control that a policy does not beat shows what it need not have seen for its error."
    )


def _dataset(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    sources = [source for source in (POLICY, *CONTROLS) if source in found]
    yield f"<h2>{escape(name)}</h2>"
    yield f"<p>{found['chunks']} chunks of {found['episodes']} episodes. {_legend(sources)}</p>"
    yield from (f"<p>{escape(why)}.</p>" for why in found["left_out"].values())
    yield _means(found, sources)
    for part, of_part in found["parts"].items():
        yield f"<h3>{escape(part)}</h3>"
        for measure in of_part[POLICY]:
            by_offset = [of_part[source][measure] for source in sources]
            yield _chart(MEASURES[measure].header, by_offset, found["step_s"])
    yield "<h3>by dim</h3>"
    for dim, of_dim in found["dims"].items():
        yield _chart(f"{dim} {_unit(of_dim)}", [of_dim[source] for source in sources], found["step_s"])
    yield _dims(found["dims"], sources)


def _legend(sources: Sequence[str]) -> str:
    told = {POLICY: "policy", **CONTROLS}
    return ", ".join(
        f'<span style="color:{colour}">{told[source]}</span>'
        for source, colour in zip(sources, COLOURS, strict=False)
    )


def _means(found: Mapping[str, Any], sources: Sequence[str]) -> str:
    """All steps and parts together, each control with how much better the policy is."""
    head = ["mean", "policy", "interval"]
    for source in sources[1:]:
        head += [CONTROLS[source], "better by"]
    rows = []
    for measure, value in found[POLICY].items():
        row = [MEASURES[measure].header, _number(value), _interval(found[f"{POLICY}_95"][measure])]
        for source in sources[1:]:
            gain = found[GAINS[source]][measure] or {"mean": None, "interval_95": None}
            row += [_number(found[source][measure])]
            row += [f"{_number(gain['mean'])} ({_interval(gain['interval_95'])})"]
        rows.append(row)
    return table(head, rows)


def _dims(dims: Mapping[str, Any], sources: Sequence[str]) -> str:
    """Every dim at a few steps ahead, one figure a source."""
    horizon = max((len(of_dim[POLICY]) for of_dim in dims.values()), default=0)
    offsets = shown(horizon) if horizon else []
    head = ["dim", "unit", *(f"step {offset}" for offset in offsets)]
    rows = [
        [escape(name), escape(_unit(of_dim)), *(_beside(of_dim, sources, offset) for offset in offsets)]
        for name, of_dim in dims.items()
    ]
    return table(head, rows)


def _beside(of_dim: Mapping[str, Any], sources: Sequence[str], offset: int) -> str:
    return " / ".join(_number(of_dim[source][offset]) for source in sources)


def _chart(what: str, by_offset: Sequence[Sequence[float | None]], step_s: float | None) -> str:
    """A line a source from 0 to the highest; '' where nothing is known."""
    values_ST = np.array([[np.nan if v is None else v for v in of] for of in by_offset], np.float64)
    known = values_ST[np.isfinite(values_ST)]
    if not known.size:
        return ""
    last = values_ST.shape[1] - 1
    drawn = lines(values_ST, 0.0, float(known.max()), width=WIDTH, height=HEIGHT)
    ahead = f"step 0 … {last}" + ("" if step_s is None else f" ({last * step_s:.3g} s)")
    return f"<figure>{drawn}<figcaption>{escape(what)}: 0 … {known.max():.4g}, {ahead}</figcaption></figure>"


def _unit(of_dim: Mapping[str, Any]) -> str:
    return of_dim["unit"] or ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _interval(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.4g} … {ends[1]:.4g}"
