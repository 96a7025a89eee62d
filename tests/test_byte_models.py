"""The byte models that language models are compared with, beside a naive form of the same."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from corpus import byte_models
from corpus.byte_models import END, NUM_SYMBOLS, ByteModels
from foundry_testing.small_corpus import ODD, small_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

documents = st.lists(st.binary(max_size=12) | st.text("ab", max_size=12).map(str.encode), max_size=6)


class Naive:
    """Witten and Bell's interpolation over dicts, a symbol at a time."""

    def __init__(self, fitted: list[bytes], order: int) -> None:
        self.order = order
        self.count: Counter[tuple[tuple[int, ...], int]] = Counter()
        for document in fitted:
            for before, symbol in self.places(document):
                for length in range(order + 1):
                    self.count[before[len(before) - length :], symbol] += 1

    def places(self, document: bytes) -> list[tuple[tuple[int, ...], int]]:
        symbols = [END, END, *document, END]
        return [(tuple(symbols[i - 2 : i]), symbols[i]) for i in range(2, len(symbols))]

    def probability(self, before: tuple[int, ...], symbol: int) -> float:
        lower = self.probability(before[1:], symbol) if before else 1 / NUM_SYMBOLS
        behind = [count for (known, _), count in self.count.items() if known == before]
        if not behind:
            return lower
        return (self.count[before, symbol] + len(behind) * lower) / (sum(behind) + len(behind))

    def bits(self, document: bytes) -> float:
        shortened = [(before[2 - self.order :], symbol) for before, symbol in self.places(document)]
        return -sum(math.log2(self.probability(before, symbol)) for before, symbol in shortened)


@given(fitted=documents, asked=documents.filter(any))
@settings(deadline=None, max_examples=15)
def test_bits_are_those_of_a_naive_form(fitted: list[bytes], asked: list[bytes]) -> None:
    models = ByteModels()
    models.fit(fitted)
    found = models.bits_per_byte(asked)
    for order in (0, 1, 2):
        naive = Naive(fitted, order)
        expected = sum(naive.bits(document) for document in asked) / sum(map(len, asked))
        assert found[order] == pytest.approx(expected, rel=1e-12)


def test_probabilities_of_all_symbols_are_one_in_sum() -> None:
    naive = Naive([b"abracadabra", b"", b"\x00\xff"], 2)
    for before in [(97, 98), (END, END), (1, 2), (1, 97)]:
        assert math.fsum(naive.probability(before, symbol) for symbol in range(NUM_SYMBOLS)) == pytest.approx(
            1
        )


def test_noise_costs_eight_bits_and_what_is_known_nothing() -> None:
    noise = np.random.default_rng(0).bytes(1 << 20)
    known = b"abc" * 20_000
    models = ByteModels()
    models.fit([noise[: 1 << 19]])
    assert models.bits_per_byte([noise[1 << 19 :]])[0] == pytest.approx(8, abs=0.01)
    models = ByteModels()
    models.fit([known])
    bits = models.bits_per_byte([known])
    assert bits[0] == pytest.approx(math.log2(3), abs=0.01) and bits[2] < 0.01


def test_a_longer_memory_knows_held_out_sentences_better() -> None:
    texts = [text.encode() for text in small_corpus(300)]
    models = ByteModels()
    models.fit(texts[:250])
    bits = models.bits_per_byte(texts[250:])
    assert bits[2] < 0.8 * bits[1] < 0.8 * bits[0]


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text.encode() for text in (*ODD, *small_corpus(50))]
    found = []
    for size in (1 << 20, 40):
        monkeypatch.setattr(byte_models, "CHUNK_BYTES", size)
        models = ByteModels()
        models.fit(texts[:40])
        found.append(models.bits_per_byte(iter(texts[40:])))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_no_byte_to_divide_by_is_an_error() -> None:
    with pytest.raises(ValueError, match="no byte"):
        ByteModels().bits_per_byte([b""])
