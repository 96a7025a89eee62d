"""All forms and their variants, and which of them every run of the tests tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from foundry_testing.corruption.cases import (
    of_hdf5,
    of_lerobot,
    of_packed,
    of_pairs,
    of_rlds,
    of_ros,
    of_text,
    of_zarr,
)
from foundry_testing.corruption.declared import Form, Variant

FORMS: tuple[Form, ...] = (
    of_hdf5.FORM,
    of_rlds.FORM,
    *of_ros.FORMS,
    *of_lerobot.FORMS,
    of_zarr.FORM,
    *of_pairs.FORMS,
    *of_text.FORMS,
    *of_packed.FORMS,
)


def variants(form: Form, seed: int) -> Iterator[Variant]:
    for case in form.cases:
        for number in range(case.variants):
            yield Variant(form, case, number, seed)


def chosen(count: int, seed: int = 0) -> list[Variant]:
    """So many variants of all forms in turns, each of a class of which fewest were chosen before."""
    seen, made = Counter[str](), list[Variant]()
    left = {form.name: list(form.cases) for form in FORMS}
    while len(made) < count:
        for form in FORMS[: count - len(made)]:
            case = min(left[form.name], key=lambda case: seen[case.damage.value])
            left[form.name].remove(case)
            seen[case.damage.value] += 1
            made.append(Variant(form, case, 0, seed))
    return made
