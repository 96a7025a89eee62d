"""docs/corruption.md, made of what the suite declares. As a program it writes the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foundry_testing.corruption.declared import LETTERS, WORDS, Damage, Form, Outcome
from foundry_testing.corruption.suite import FORMS
from foundry_testing.corruption.summary import by_class, by_form, kept

PAGE = Path(__file__).resolve().parents[4] / "docs/corruption.md"
HEAD = """# Damaged sources

What `foundry-data ingest` makes of a source that is damaged, by the class of the damage and by format.
`python -m pytest -m soak tests/test_corruption.py` damages small sources in each of these ways, at random
places, ingests them and looks at all that came of it; the seed is printed, and `FOUNDRY_SOAK_SEED` repeats
it. The tables are made of what that test declares, and `make test` tries 40 of them.

In every case there is no traceback, and nothing is visible of a run that failed. What was discovered is
what was written, quarantined and left out, in the report, in the manifest and in the tables.
`validate --deep` finds the version whole, but for pictures that came damaged. What was not damaged is in it,
bit for bit as from the whole source. `foundry-data inspect` ends with exit code 0 or 3.

| | |
|---|---|
| R, refused | nothing of the source can be trusted: one sentence, exit code 1, no version |
| Q, quarantined | the unit, or its file where nothing in it can be found, is left out, named and counted |
| E, equal | nothing that is read was touched, and the version is the same |
| T, told | taken as far as it is there; a warning, a count or `foundry-data show` says what is odd |
| F, flagged | frames or images are flagged, and masked in training |
| V, found by `validate` | exit code 3: the checks doubt the numbers, or `--deep` cannot decode a picture |
| **U**, not detected | nothing in the source says what was there before; the reason is given |

Of several words in a row below, all hold, or, of bits that flip and files that are cut off at random, it
depends on where.
"""

MEASURED = """## What the soak found

Of how many variants each outcome holds; several may hold of one. All were declared, and none had a fault. The
second table has the formats that were counted, each with the seed that repeats it.
`FOUNDRY_SOAK_KEEP=1 python -m pytest -m soak tests/test_corruption.py -k all_damage` counts them again.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD, "## Overview", "", *_overview(), ""]
    lines += [MEASURED, *by_class(kept()), "", *by_form(kept()), ""]
    for form in FORMS:
        lines += [f"## {form.name}", "", *_of_form(form), ""]
    return "\n".join(lines).rstrip() + "\n"


def _overview() -> Iterator[str]:
    """A row for each class, a column for each form."""
    yield "| | " + " | ".join(form.name for form in FORMS) + " |"
    yield "|---" * (len(FORMS) + 1) + "|"
    for damage in Damage:
        cells = []
        for form in FORMS:
            outcomes = Outcome(0)
            for case in form.cases:
                outcomes |= case.outcomes if case.damage is damage else Outcome(0)
            cells.append(" ".join(map(_letter, outcomes)) or "–")
        yield f"| {damage.value} | {' | '.join(cells)} |"


def _letter(outcome: Outcome) -> str:
    """In bold what is not detected."""
    return f"**{LETTERS[outcome]}**" if outcome is Outcome.UNSEEN else LETTERS[outcome]


def _of_form(form: Form) -> Iterator[str]:
    yield "| class | damage | what happens |"
    yield "|---|---|---|"
    for damage in Damage:
        if damage in form.without:
            yield f"| {damage.value} | – | {form.without[damage]} |"
        for case in form.cases:
            if case.damage is damage:
                words = ", ".join(WORDS[outcome] for outcome in case.outcomes)
                why = f": {case.why}" if case.why else ""
                yield f"| {damage.value} | {case.what} | {words}{why} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
