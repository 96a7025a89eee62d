"""Answers in batches: those of each prompt alone, and those of whole passes without a cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robot_foundry.loader.pairs.at_hand import batch_of
from robot_foundry.loader.pairs.batch import Row
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.loader.pairs.template import Rendered
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.answers import answer_ids
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.vision_language import PictureRows, VisionLanguage, VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.tasks.vlm.inputs import picture_rows

IMAGE = (8, 8)
CONFIG = VisionLanguageConfig(
    BackboneConfig(
        ViTConfig(patch=4, width=16, depth=1, heads=2, mlp_hidden=32),
        1,
        DecoderConfig(width=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=61),
    ),
    tied=False,  # so that answers are not one token again and again
)
TOKENS = CONFIG.backbone.tokens_of(IMAGE)


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    starts: list[int]
    images: list[NDArray[np.uint8]]


def prompt(pictures: int, words: int, seed: int) -> Prompt:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 61, pictures * TOKENS + words).tolist()
    images = list(rng.integers(0, 256, (pictures, *IMAGE, 3), dtype=np.uint8))
    return Prompt(ids, [n * TOKENS for n in range(pictures)], images)


def rows(prompts: list[Prompt]) -> PictureRows:
    """As a batch of rows has them, one prompt each; nothing is to be learnt."""
    spec = PairSpec(PairRows(image=IMAGE), image_tokens=TOKENS)
    parts = [Rendered(np.array(p.ids), np.zeros(len(p.ids), bool), tuple(p.starts)) for p in prompts]
    return picture_rows(batch_of([Row([part]) for part in parts], [p.images for p in prompts], spec))


@pytest.fixture(scope="module")
def model() -> VisionLanguage:
    return initialise(allocated(lambda: VisionLanguage(CONFIG, IMAGE), "cpu"), 1)


@given(
    shapes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=15)
def test_a_batch_answers_as_each_prompt_alone_and_as_whole_passes(
    model: VisionLanguage, shapes: list[tuple[int, int]], seed: int
) -> None:
    prompts = [prompt(pictures, words, seed + n) for n, (pictures, words) in enumerate(shapes)]
    together = answer_ids(model, rows(prompts), tokens=6, ends=())
    assert together == [answer_ids(model, rows([one]), tokens=6, ends=())[0] for one in prompts]
    for one, answer in zip(prompts, together, strict=True):
        for place, chosen in enumerate(answer):
            longer = Prompt([*one.ids, *answer[:place]], one.starts, one.images)
            assert int(model.logits(rows([longer]))[0, len(longer.ids) - 1].argmax()) == chosen


def test_a_picture_changes_an_answer(model: VisionLanguage) -> None:
    seen = [np.full((*IMAGE, 3), grey, np.uint8) for grey in (0, 90, 255)]
    prompts = [Prompt([0] * TOKENS + [5], [0], [image]) for image in seen]
    assert len({tuple(answer) for answer in answer_ids(model, rows(prompts), tokens=6, ends=())}) > 1


def test_an_end_ends_its_own_answer_alone(model: VisionLanguage) -> None:
    prompts = [prompt(1, 3, seed) for seed in range(5)]
    free = answer_ids(model, rows(prompts), tokens=8, ends=())
    ends = {free[0][2], free[1][5]}
    expected = [answer[: min((answer.index(e) for e in ends if e in answer), default=8)] for answer in free]
    assert answer_ids(model, rows(prompts), tokens=8, ends=ends) == expected
    assert {len(answer) for answer in expected} != {8}


def test_only_ids_of_the_tokenizer_are_chosen(model: VisionLanguage) -> None:
    prompts = [prompt(1, 3, seed) for seed in range(5)]
    assert max(max(a) for a in answer_ids(model, rows(prompts), tokens=8, ends=())) >= 20
    assert max(max(a) for a in answer_ids(model, rows(prompts), tokens=8, ends=(), size=20)) < 20
    with pytest.raises(UsageError, match="the tokenizer has 62 ids, the model 61"):
        answer_ids(model, rows(prompts), tokens=1, ends=(), size=62)


def test_no_tokens_are_no_answer(model: VisionLanguage) -> None:
    assert answer_ids(model, rows([prompt(0, 2, 0)]), tokens=0, ends=()) == [[]]
