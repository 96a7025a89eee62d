"""What the source of a version holds and nothing takes, and what its spec asks for and does not find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_LISTED = 8


def absence_lines(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) for each kind of thing; none for a version that keeps no such record."""
    record = provenance.get("absence")
    if record is None:
        return []
    total, free = record["episodes"], record["not_taken"]
    columns = [
        f"columns {_ranges(entry['unused'])} of {entry['name']}"
        for entry in free["columns"]
        if "name" in entry
    ]
    attributes = [f"attribute {name}" for name in _names(free["attributes"], total)]
    left_out = [
        f"{entry['name']}: {entry['reason']}{_in(entry['episodes'], total)}"
        if "name" in entry
        else _more(entry)
        for entry in free["left_out"]
    ]
    asked: dict[str, list[str]] = {}
    others = 0  # alternatives, of which a source has some
    for entry in record["not_found"]:
        if not entry.get("is_lost", True):
            others += 1
        else:
            name = entry["name"] if "name" in entry else _more(entry)
            asked.setdefault(entry.get("asked", ""), []).append(name)
    without = [
        f"{what} in {units['episodes']:,} of {total:,} episodes ({', '.join(units['examples'])})"
        for what, units in record["without"].items()
        if units["episodes"]
    ]
    source = provenance.get("source", {})
    passed_over = list(source.get("ignored", []))
    if (more := source.get("ignored_files", 0) - len(passed_over)) > 0 and passed_over:
        passed_over.append(_more({"more": more}))
    lines = {
        "taken": [
            ", ".join(
                _cut([name if isinstance(name, str) else _more(name) for name in record["taken"]["arrays"]])
            )
        ],
        "not taken": [", ".join(_cut([*_names(free["arrays"], total), *columns, *attributes]))],
        "left out": _cut(left_out),
        "passed over": [", ".join(passed_over)],
        "not found": [f"{key}: {', '.join(_cut(names))}" for key, names in asked.items()],
        "not needed": [f"{others:,} names that the spec has for other sources (see --json)"]
        if others
        else [],
        "without": without,
        "noted": list(record["warnings"]),
    }
    return [(label, text) for label, texts in lines.items() for text in texts if text]


def _names(entries: Sequence[Mapping[str, Any]], total: int) -> list[str]:
    return [
        f"{entry['name']}{_in(entry['episodes'], total)}" if "name" in entry else _more(entry)
        for entry in entries
    ]


def _in(episodes: int, total: int) -> str:
    """In how many episodes, where it is not all."""
    return "" if episodes == total else f" (in {episodes:,} of {total:,})"


def _ranges(runs: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"[{start}, {stop}]" for start, stop in runs)


def _more(entry: Mapping[str, Any]) -> str:
    return f"… and {entry['more']:,} more"


def _cut(texts: list[str]) -> list[str]:
    more = len(texts) - MOST_LISTED
    return texts if more <= 0 else [*texts[:MOST_LISTED], f"… and {more:,} more (see --json)"]
