"""What became of all variants of each form in a soak: kept in a file beside this, shown on the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foundry_testing.corruption.declared import LETTERS, Damage, Variant
from foundry_testing.corruption.trial import Trial

KEPT = Path(__file__).with_name("soak.json")


def counted(seed: int, tries: Iterable[tuple[Variant, Trial]]) -> dict[str, Any]:
    """The seed, and by class how many variants had which outcomes, as letters of the page in a row."""
    by_class: dict[str, Counter[str]] = {}
    for variant, trial in tries:
        letters = "".join(LETTERS[outcome] for outcome in trial.outcome)
        by_class.setdefault(variant.case.damage.value, Counter())[letters] += 1
    return {"seed": seed, "classes": {name: dict(sorted(of.items())) for name, of in by_class.items()}}


def keep(form: str, summary: Mapping[str, Any]) -> None:
    """Add the summary of a form to those that are kept, in place of an older one."""
    held = kept() | {form: summary}
    text = json.dumps(dict(sorted(held.items())), indent=1, ensure_ascii=False)
    KEPT.write_text(f"{text}\n", encoding="utf-8")


def kept() -> dict[str, Any]:
    """By form."""
    return dict(json.loads(KEPT.read_text("utf-8"))) if KEPT.exists() else {}


def by_class(summaries: Mapping[str, Any]) -> Iterator[str]:
    """A table: for each class the variants of all forms, and of how many each outcome holds."""
    yield "| | variants | " + " | ".join(LETTERS.values()) + " |"
    yield "|---" * (len(LETTERS) + 2) + "|"
    total = Counter[str]()
    for damage in Damage:
        counts = _counts(summary["classes"].get(damage.value, {}) for summary in summaries.values())
        total += counts
        yield _row(damage.value, counts)
    yield _row("all", total)


def by_form(summaries: Mapping[str, Any]) -> Iterator[str]:
    """A table: for each form its seed, its variants, and of how many each outcome holds."""
    yield "| | seed | variants | " + " | ".join(LETTERS.values()) + " |"
    yield "|---" * (len(LETTERS) + 3) + "|"
    for form, summary in summaries.items():
        yield _row(f"{form} | {summary['seed']}", _counts(summary["classes"].values()))


def _counts(classes: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Of how many variants each letter holds, and of the empty text how many there are."""
    counts = Counter[str]()
    for of in classes:
        for letters, number in of.items():
            counts.update({letter: number for letter in ("", *letters)})
    return counts


def _row(name: str, counts: Mapping[str, int]) -> str:
    return f"| {name} | {' | '.join(str(counts[letter]) for letter in ('', *LETTERS.values()))} |"
