"""Generation: the cache changes nothing, draws are a function of the seed, and their law is as asked for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.generation import PIECE, choose, generate, next_logits
from robot_foundry.trainer.models.layers.attention import KeyValues
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.llm import LLM, LLMConfig, TextInputs

CONFIG = LLMConfig(
    DecoderConfig(width=32, depth=3, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=64, qk_norm=True)
)


@pytest.fixture(scope="module")
def model() -> LLM:
    """Random weights, larger than first ones, so that ids differ in their likelihood."""
    made = initialise(LLM(CONFIG), 0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 2
    return made


def whole(model: LLM, ids: list[int]) -> Tensor:
    """Logits [S, V] of one forward pass over all."""
    token = torch.tensor([ids])
    position = torch.arange(len(ids))[None]
    with torch.no_grad():
        return model.logits(TextInputs(token, token, torch.zeros_like(token), position))[0]


def test_cached_logits_are_those_of_one_pass(model: LLM) -> None:
    """Read at once, in pieces, and one by one."""
    ids = np.random.default_rng(0).integers(0, 64, PIECE + 40).tolist()
    expected = whole(model, ids)
    past = [KeyValues() for _ in range(3)]
    for start, end in ((0, 7), (7, PIECE + 30), *((i, i + 1) for i in range(PIECE + 30, len(ids)))):
        found = next_logits(model, ids[start:end], past)
        assert torch.allclose(found, expected[end - 1], atol=1e-5, rtol=1e-5)


def test_greedy_generation_takes_the_likeliest_of_the_full_forward(model: LLM) -> None:
    ids = [3, 1, 4]
    for _ in range(12):
        ids.append(int(whole(model, ids)[-1].argmax()))
    assert list(generate(model, ids[:3], tokens=12, temperature=0.0)) == ids[3:]
    assert len(set(ids)) > 4


def test_a_seed_gives_one_text_whose_beginning_does_not_depend_on_its_length(model: LLM) -> None:
    long = list(generate(model, [5], tokens=30, seed=1))
    assert list(generate(model, [5], tokens=10, seed=1)) == long[:10]
    assert list(generate(model, [5], tokens=30, seed=2)) != long


def test_memory_is_of_what_is_generated_and_not_of_what_may_be(model: LLM) -> None:
    long = generate(model, [3, 1], tokens=10**15, seed=7)
    assert list(islice(long, 20)) == list(generate(model, [3, 1], tokens=20, seed=7))


def test_the_end_is_not_given_and_ends(model: LLM) -> None:
    ids = list(generate(model, [5], tokens=30, seed=1))
    at = next(i for i, token in enumerate(ids) if i > 3)
    cut = list(generate(model, [5], tokens=30, seed=1, end=ids[at]))
    assert cut == ids[: ids.index(ids[at])]


def test_only_ids_of_the_tokenizer_are_drawn(model: LLM) -> None:
    assert max(generate(model, [5], tokens=50)) >= 20
    assert max(generate(model, [5], tokens=50, size=20)) < 20


LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15]))


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.1, 0.4, 0.05, 0.3, 0.15]),
        (1.0, 0.69, [0, 4 / 7, 0, 3 / 7, 0]),
        (1.0, 0.71, [0, 8 / 17, 0, 6 / 17, 3 / 17]),
        (0.5, 1.0, np.array([0.01, 0.16, 0.0025, 0.09, 0.0225]) / 0.285),
        (1.0, 1e-9, [0, 1, 0, 0, 0]),
        (0.0, 1.0, [0, 1, 0, 0, 0]),
    ],
)
def test_choices_follow_the_law_that_was_asked_for(
    temperature: float, top_p: float, expected: list[float]
) -> None:
    """Over an even grid of numbers the frequencies are the law itself."""
    chosen = [choose(LOGITS, temperature, top_p, (i + 0.5) / 2000) for i in range(2000)]
    assert np.bincount(chosen, minlength=5) / 2000 == pytest.approx(expected, abs=1e-3)


@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20),
    temperature=st.floats(1e-3, 1e3),
    top_p=st.floats(0, 1, exclude_min=True),
    random=st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None)
def test_a_choice_is_always_one_of_the_ids(
    logits: list[float], temperature: float, top_p: float, random: float
) -> None:
    assert 0 <= choose(np.array(logits), temperature, top_p, random) < len(logits)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "the prompt has no tokens"),
        ([64], {}, "ids that are none of the model's 64"),
        ([-1], {}, "ids that are none of the model's 64"),
        ([1], {"temperature": -0.1}, "temperature must be finite and at least 0"),
        ([1], {"top_p": 0.0}, r"top_p must lie in \(0, 1\]"),
        ([1], {"size": 65}, "the tokenizer has 65 ids, the model 64"),
    ],
)
def test_arguments_out_of_range_are_refused(
    model: LLM, prompt: list[int], options: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        generate(model, prompt, tokens=1, **options)  # type: ignore[arg-type]
