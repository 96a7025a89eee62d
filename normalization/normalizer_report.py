"""What a normaliser does to each dimension, and what about it deserves a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robot_foundry.normalization.normalizer import Normalizer, Scaling

HEADERS = ("dim", "unit", "representation", "rule", "at_minus_1", "at_1", "clipped_percent", "note")
MUCH_CLIPPED = 0.01  # share of the data beyond the clip that is worth a look


def report(normalizer: Normalizer) -> list[dict[str, Any]]:
    """One row for each dimension, in the order of the space, with HEADERS as keys.

    `at_minus_1` and `at_1` are the values in robot units that become -1 and 1, None where nothing does;
    `clipped_percent` is the share of the fitted data beyond the clip. Where each step of a chunk has a
    scaling of its own these are of all steps together, and the note tells the first and the last.
    """
    rows = []
    for i, (dim, scaling) in enumerate(zip(normalizer.space, normalizer.scalings, strict=True)):
        scaled = scaling.scale > 0
        steps = [row[i] for row in normalizer.offsets]
        differ = scaled and steps and scaling.rule != "identity"
        by_step = [f"by step: ±{steps[0].scale:.3g} … ±{steps[-1].scale:.3g}"] if differ else []
        values = (
            dim.name,
            dim.unit,
            dim.representation,
            scaling.rule,
            scaling.centre - scaling.scale if scaled else None,
            scaling.centre + scaling.scale if scaled else None,
            100 * scaling.clipped,
            "; ".join([*remarks(scaling), *by_step]),
        )
        rows.append(dict(zip(HEADERS, values, strict=True)))
    return rows


def remarks(scaling: Scaling) -> list[str]:
    """In words, what is unusual about a dimension; empty for most."""
    notes = []
    if scaling.rule == "no data":
        notes.append("no data: masked both ways")
    elif scaling.rule == "constant":
        notes.append(f"constant {scaling.centre:.6g}: the policy cannot move it")
    elif scaling.rule in ("wide percentiles", "point mass"):
        notes.append("near-constant: seldom moves")
    if scaling.levels is not None and scaling.levels > 1:
        notes.append(f"discrete: {scaling.levels} values")
    if scaling.outlier is not None:
        notes.append(f"outlier {scaling.outlier:.4g}")
    if scaling.clipped > MUCH_CLIPPED:
        notes.append("much is clipped")
    return notes


def as_text(rows: Sequence[Mapping[str, Any]], headers: Sequence[str] = HEADERS) -> str:
    """The rows as aligned columns, numbers to the right."""
    cells = [[_cell(row[header]) for header in headers] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headers, *cells, strict=True)]
    numeric = [all(isinstance(row[h], float | None) for row in rows) for h in headers]
    lines = [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(headers), *cells]
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
