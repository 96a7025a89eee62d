"""Damaged sources of every format become what is declared, and nothing whole is lost (docs/corruption.md).

`make test` tries some of every class and format, `make soak` all, at random places; the seed is printed, and
FOUNDRY_SOAK_SEED repeats it. With FOUNDRY_SOAK_KEEP the page counts what became of them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from foundry_testing.corruption.children import tried_apart
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Variant
from foundry_testing.corruption.page import PAGE, page
from foundry_testing.corruption.suite import FORMS, chosen, variants
from foundry_testing.corruption.summary import counted, keep, kept
from foundry_testing.corruption.trial import Sound, tried
from foundry_testing.pages import missing_links

CHOSEN, LEAST_OF_A_CLASS, LEAST_CLASSES = 40, 15, 10
# One of each form is inspected too, and all in the soak.
SOME = chosen(CHOSEN)


@pytest.fixture(scope="module")
def sound_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Sound]:
    """Each whole source with what is made of it, made once."""
    made: dict[str, Sound] = {}

    def sound(form: Form) -> Sound:
        if form.name not in made:
            made[form.name] = Sound.of(form, tmp_path_factory.mktemp("sound") / "of")
        return made[form.name]

    return sound


@pytest.mark.parametrize("variant", SOME, ids=lambda variant: variant.name)
def test_damage_becomes_what_is_declared(
    variant: Variant, sound_of: Callable[[Form], Sound], tmp_path: Path
) -> None:
    is_first = variant is next(each for each in SOME if each.form is variant.form)
    trial = tried(variant, sound_of(variant.form), tmp_path / "tried", inspected=is_first)
    assert not trial.faults, (trial.outcome, trial.said)


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_all_damage_becomes_what_is_declared(form: Form, capfd: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("FOUNDRY_SOAK_SEED") or random.SystemRandom().randrange(2**32))
    with capfd.disabled():
        print(f"\nFOUNDRY_SOAK_SEED={seed}", flush=True)
    every = list(variants(form, seed))
    tries = list(tried_apart(every))
    summary = counted(seed, tries)
    with capfd.disabled():
        print(summary["classes"], flush=True)
    assert [variant for variant, _ in tries] == every
    assert [(v.name, t.faults, t.said) for v, t in tries if t.faults] == []
    if os.environ.get("FOUNDRY_SOAK_KEEP"):
        keep(form.name, summary)


@pytest.mark.soak
def test_a_child_that_dies_is_told_and_another_goes_on() -> None:
    """The harness sees what it is there to see."""
    form = next(form for form in FORMS if form.name == "text, JSON lines")
    ended = Case(Damage.EMPTY, "none of the suite", lambda folder, rng: "*", Outcome.EQUAL)
    whole = next(variants(form, 0))
    (_, first), (_, second) = tried_apart([Variant(form, ended, 0, 0), whole])
    assert first.faults == ("the process died: 1",) and not second.faults


def test_the_harness_finds_what_is_lost_and_what_is_not_declared(
    sound_of: Callable[[Form], Sound], tmp_path: Path
) -> None:
    form = next(form for form in FORMS if form.name == "text, JSON lines")

    def lose(folder: Path, rng: random.Random) -> str:
        lines = (folder / "b.jsonl").read_text().splitlines(keepends=True)
        (folder / "b.jsonl").write_text("".join(lines[:-1]))
        return "b.jsonl#1"

    variant = Variant(form, Case(Damage.STEP, "a line less", lose, Outcome.EQUAL), 0, 0)
    faults = tried(variant, sound_of(form), tmp_path / "tried", inspected=False).faults
    assert faults == (
        "b.jsonl#8 was not damaged, and is lost",
        f"it was {Outcome.UNSEEN}, and {Outcome.EQUAL} is declared",
    )


def test_the_suite_has_many_variants_of_every_class_and_says_why_one_is_not_detected() -> None:
    every = [variant for form in FORMS for variant in variants(form, 0)]
    counted = Counter(variant.case.damage for variant in every)
    assert len(counted) >= LEAST_CLASSES and min(counted.values()) >= LEAST_OF_A_CLASS, counted
    assert {variant.case.damage for variant in SOME} == set(Damage)
    assert {variant.form.name for variant in SOME} == {form.name for form in FORMS}
    for form in FORMS:
        assert len({case.what for case in form.cases}) == len(form.cases), form.name
        assert {case.damage for case in form.cases} | form.without.keys() == set(Damage), form.name
        for case in form.cases:
            assert bool(case.why) == (Outcome.UNSEEN in case.outcomes), (form.name, case.what)


def test_the_page_is_what_the_suite_declares() -> None:
    assert kept() and set(kept()) <= {form.name for form in FORMS}
    assert PAGE.read_text("utf-8") == page(), "python -m foundry_testing.corruption.page writes it"
    assert not missing_links("docs/corruption.md")
