"""One flipped bit anywhere in a store is refused in a sentence, told, or changes nothing that is read.

`make test` flips some of every kind, `make soak` many more at random; the seed is printed, and
FOUNDRY_SOAK_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from foundry_testing.flipped_bits import KINDS, expected, faults, kinds, make_store, random_flips, read_all

from robot_foundry.catalog.validation.validate import validate

FLIPS, SOAK_FLIPS = 60, 306
HELD = {"frames", "episodes", "annotations", "leaves", "manifest", "mixture", "reference", "tag"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_store(tmp_path_factory.mktemp("flips"))


def check(made: tuple[Path, Path], number: int, seed: int, capture: pytest.CaptureFixture[str]) -> None:
    with capture.disabled():
        print(f"\nFOUNDRY_SOAK_SEED={seed}", flush=True)
    store, source = made
    whole = expected(store, source)
    flips = random_flips(store, number, random.Random(seed))
    bad, changed = [], set()
    for flip, found in zip(flips, read_all(store, source, flips), strict=True):
        bad += [(*flip, fault) for fault in faults(found, whole)]
        if found != whole:
            changed.add(flip[0])
    assert bad == []
    # The flips were seen by those who read: what names or holds data is never passed over.
    assert changed >= HELD
    assert expected(store, source) == whole
    assert [finding for one in validate("blend", store=store, deep=True) for finding in one.damage] == []


def test_flips_in_every_kind_of_file(made: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert {kind for kind, _ in kinds(made[0])} == set(KINDS)
    check(made, FLIPS, int(os.environ.get("FOUNDRY_SOAK_SEED") or 0), capfd)


@pytest.mark.soak
def test_many_flips_in_every_kind_of_file(made: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    seed = os.environ.get("FOUNDRY_SOAK_SEED") or random.SystemRandom().randrange(2**32)
    check(made, SOAK_FLIPS, int(seed), capfd)


def test_a_child_that_dies_is_told_and_another_goes_on(made: tuple[Path, Path], tmp_path: Path) -> None:
    """The harness sees what it is there to see."""
    store, source = made
    [path] = store.glob("refs/reach/v1")
    name = str(path.relative_to(store))
    flips = [("no such kind", name, 0), ("reference", name, 8)]
    first, second = read_all(store, source, flips)
    assert faults(first, expected(store, source)) != [] and "died" in first
    assert faults(second, expected(store, source)) == []
