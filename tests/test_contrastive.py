"""The contrastive loss: that of its equation, of the pairs that have both, whatever row they stand in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from foundry_testing.picture_rows import PairOf, packed
from numpy.typing import NDArray
from torch import Tensor

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.contrastive import SigmoidLoss
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.sizes.sizes import vision_language_problems
from robot_foundry.trainer.models.vision_language import PictureRows, VisionLanguage, VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig

IMAGE = (8, 16)
CONFIG = VisionLanguageConfig(
    BackboneConfig(
        ViTConfig(patch=4, width=24, depth=1, heads=2, mlp_hidden=32),
        2,
        DecoderConfig(width=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=97),
    ),
    objective="contrastive",
)
TOKENS = CONFIG.backbone.tokens_of(IMAGE)
BOTH = [PairOf(1, 3, 4), PairOf(2, 1, 0), PairOf(1, 5, 2)]
PAIRS = [BOTH[0], PairOf(0, 4, 1), BOTH[1], BOTH[2]]  # the second has no picture


@pytest.fixture(scope="module")
def model() -> VisionLanguage:
    return initialise(allocated(lambda: VisionLanguage(CONFIG, IMAGE), "cpu"), 0)


def by_hand(image_GD: NDArray[np.float64], text_GD: NDArray[np.float64], t: float, b: float) -> float:
    """The equation, couple by couple."""
    total = 0.0
    for i, image in enumerate(image_GD):
        for j, text in enumerate(text_GD):
            cosine = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
            z = 1 if i == j else -1
            total += math.log1p(math.exp(-z * (math.exp(t) * cosine + b)))
    return total


def vectors(model: VisionLanguage, pair: PairOf) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a pair alone: the mean of all its image tokens, and the last state of its text without them."""
    rows = packed([[pair]], IMAGE, TOKENS, pair.length(TOKENS))
    tokens = torch.cat([model.backbone.image_tokens(image[None, None])[0] for image in rows.image_NHWC])
    text_1S = rows.token_BS[:, pair.images * TOKENS :]
    length = text_1S.shape[1]
    causal = torch.full((length, length), float("-inf")).triu(1)[None, None]
    states = model.backbone.decoder.states(text_1S, torch.arange(length)[None], causal)
    return tokens.mean(dim=0).double().numpy(), states[0, -1].double().numpy()


@torch.no_grad()
@pytest.mark.parametrize("rows", [[PAIRS], [PAIRS[:2], PAIRS[2:]], [PAIRS[3:], PAIRS[:3]]])
def test_it_is_the_equation_of_all_pairs_with_both(model: VisionLanguage, rows: list[list[PairOf]]) -> None:
    order = [pair for row in rows for pair in row if pair.images]
    images, texts = zip(*(vectors(model, pair) for pair in order), strict=True)
    expected = by_hand(np.array(images), np.array(texts), math.log(10), -10)
    loss, count = model(packed(rows, IMAGE, TOKENS, length=40, absent=1))["contrastive"]
    assert int(count) == 3
    assert abs(loss.item() / expected - 1) < 1e-4


def test_temperature_and_bias_are_those_of_the_equation() -> None:
    loss = SigmoidLoss()
    with torch.no_grad():
        loss.log_temperature.fill_(0.7)
        loss.bias.fill_(-1.5)
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((2, 5, 8))
    found = loss(torch.from_numpy(image), torch.from_numpy(text))
    assert abs(found.item() - by_hand(image, text, 0.7, -1.5)) < 1e-4


def loss_and_gradients(model: VisionLanguage, inputs: PictureRows) -> list[Tensor]:
    model.zero_grad()
    loss, _ = model(inputs)["contrastive"]
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [loss.detach(), *(g for g in gradients if g is not None)]


def test_what_is_masked_changes_not_one_bit(model: VisionLanguage) -> None:
    inputs = packed([PAIRS], IMAGE, TOKENS, length=40, absent=1)
    real = inputs.segment_BS >= 0
    garbled = replace(
        inputs,
        token_BS=torch.where(real, inputs.token_BS, 10**9),
        position_BS=torch.where(real, inputs.position_BS, -5),
        image_NHWC=torch.where(inputs.image_mask_N[:, None, None, None], inputs.image_NHWC, 3),
        image_at_N=torch.where(inputs.image_mask_N, inputs.image_at_N, -(10**9)),
    )
    for ours, theirs in zip(
        loss_and_gradients(model, inputs), loss_and_gradients(model, garbled), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("pairs", [[PairOf(0, 3, 2)], []], ids=["no picture", "nothing"])
def test_without_pairs_nothing_is_lost_and_every_parameter_takes_part(
    model: VisionLanguage, pairs: list[PairOf]
) -> None:
    inputs = packed([pairs], IMAGE, TOKENS, length=10, absent=1)
    assert int(model(inputs)["contrastive"][1]) == 0
    assert all((value == 0).all() for value in loss_and_gradients(model, inputs))


def test_an_output_of_its_own_is_refused() -> None:
    assert list(vision_language_problems(replace(CONFIG, tied=False), IMAGE)) == [
        "model.tied: a contrastive model has no output of its own; tied: true"
    ]
    assert list(vision_language_problems(replace(CONFIG, objective="contrast"), IMAGE)) == [
        "model.objective: 'contrast' is none of answer, contrastive, did you mean 'contrastive'?"
    ]
