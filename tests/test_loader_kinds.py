"""The loader knows no kind of data: here it gives lines of text, of which none is ever replaced.

Legend: B rows.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader
from robot_foundry.loader.order import Order
from robot_foundry.loader.share import Share

LINES = {
    "proverbs": [f"proverb {i}" for i in range(11)],
    "letters": [f"letter {i}" for i in range(300)],
}


@dataclass(frozen=True)
class Lines:
    step: int
    k_B: NDArray[np.int64]
    line_B: tuple[str, ...]


class LineReader:
    def __init__(self, mixture: Mixture, share: Share) -> None:
        self.lines = [LINES[component.name] for component in mixture.components]
        self.share = share
        self.closed = False

    def read(self, step: int) -> tuple[Lines, tuple[()]]:
        k_B, dataset_B, sample_B = self.share.samples(step)
        chosen = tuple(self.lines[d][s] for d, s in zip(dataset_B, sample_B, strict=True))
        return Lines(step, k_B, chosen), ()

    def close(self) -> None:
        self.closed = True


class LineLoader(Loader[Lines]):
    def open_reader(self, share: Share) -> LineReader:
        return LineReader(self.mixture, share)


@pytest.fixture
def mixture() -> Mixture:
    weights = {"letters": "3/4", "proverbs": "1/4"}
    return Mixture(
        tuple(Component(n, n, "0" * 32, weight, {}, len(LINES[n])) for n, weight in weights.items())
    )


def line_loader(folder, mixture: Mixture, **options) -> LineLoader:
    opened = OpenMixture(mixture, (), OpenVersions(Store(folder)))
    return LineLoader(opened, None, **({"seed": 3, "global_batch": 8} | options))


def test_lines_come_in_the_order_of_the_mixture(tmp_path, mixture):
    dataset_n, _, sample_n = Order(mixture, seed=3).at(np.arange(1600))
    expected = [
        LINES[mixture.components[d].name][s]
        for d, s in zip(dataset_n.tolist(), sample_n.tolist(), strict=True)
    ]
    for world in (1, 4):
        found: dict[int, str] = {}
        for rank in range(world):
            with line_loader(tmp_path, mixture, rank=rank, world=world, threads=rank % 2) as loader:
                for _ in range(200):
                    lines = next(loader)
                    found |= dict(zip(lines.k_B.tolist(), lines.line_B, strict=True))
                assert loader.substitutions == ()
        assert [found[k] for k in range(1600)] == expected
    # 1600 draws are 1200 letters and 400 proverbs: four whole epochs, and 36 of eleven and 4 lines more.
    drawn = Counter(expected)
    assert {drawn[line] for line in LINES["letters"]} == {4}
    assert {drawn[line] for line in LINES["proverbs"]} == {36, 37}


def test_it_resumes_is_pickled_prepares_and_closes(tmp_path, mixture):
    with line_loader(tmp_path, mixture, prepare=pickle.dumps) as loader:
        given = [next(loader) for _ in range(3)]
        with pickle.loads(pickle.dumps(loader)) as other:
            assert next(other) == next(loader)
        loader.load_state_dict(loader.state_dict() | {"b": 1})
        assert [next(loader), next(loader)] == given[1:]
    assert loader._reader.closed


def test_no_robot_is_imported_for_it():
    code = "import sys, robot_foundry.loader.load; print([m for m in sys.modules if '.loader.robot' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
