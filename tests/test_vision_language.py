"""The vision-language model: pictures stand where they are said to, and what is masked leaves no trace."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from foundry_testing.picture_rows import PairOf, packed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.llm import LLM, LLMConfig, TextInputs
from robot_foundry.trainer.models.sizes.presets import DECODERS, VISION_LANGUAGES, VITS
from robot_foundry.trainer.models.sizes.sizes import vision_language_problems
from robot_foundry.trainer.models.vision_language import (
    PictureRows,
    PicturesAndText,
    VisionLanguage,
    VisionLanguageConfig,
    embedded,
)
from robot_foundry.trainer.models.vit import ViT, ViTConfig

IMAGE = (8, 16)  # 2 × 4 patches, so 1 × 2 image tokens
VISION = ViTConfig(patch=4, width=24, depth=2, heads=2, mlp_hidden=32)
DECODER = DecoderConfig(width=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=97)
SMALL = VisionLanguageConfig(BackboneConfig(VISION, 2, DECODER))
TOKENS = SMALL.backbone.tokens_of(IMAGE)


def made(config: VisionLanguageConfig = SMALL, seed: int = 0) -> VisionLanguage:
    """A model whose every parameter matters."""
    model = initialise(allocated(lambda: VisionLanguage(config, IMAGE), "cpu"), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def model() -> VisionLanguage:
    return made()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_of_the_presets_are_those_of_their_parts() -> None:
    """The towers' counts are those of transformers' own; all presets make 64 tokens but the smallest."""
    with torch.device("meta"):
        so400m, s14 = ViT(VITS["vit_so400m"], (378, 378)), ViT(VITS["vit_s14"], (518, 518))
        siglip = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
                image_size=378, patch_size=14, vision_use_head=False,
            )
        )  # fmt: skip
        dinov2 = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518))
        assert count(so400m) == count(siglip) == 412_987_248
        # Its token for masked patches, and the class token's position, which is added to that token here.
        assert count(s14) == count(dinov2) - 2 * 384 == 22_055_808
        sizes = {"vlm_1_7b": 224, "vlm_1_3b": 256, "vlm_200m": 256, "vlm_160m": 224}
        assert {*sizes, "vlm_tiny"} == {*VISION_LANGUAGES}
        for name, pixels in sizes.items():
            config, image = VISION_LANGUAGES[name], (pixels, pixels)
            assert not list(vision_language_problems(config, image))
            assert config.backbone.tokens_of(image) == 64
            parts = VisionLanguage(config, image).backbone
            assert count(parts.projector) == 4 * config.backbone.vision.width * config.backbone.decoder.width
        smollm2 = count(LLM(LLMConfig(DECODERS["smollm2_135m"])))
        assert smollm2 == 134_515_008  # as its publisher's own model has


def loss_and_gradients(model: VisionLanguage, inputs: PictureRows) -> list[Tensor]:
    model.zero_grad()
    loss, count = model(inputs)["answer"]
    (loss / count.clamp(min=1)).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [loss.detach(), count, *(g for g in gradients if g is not None)]


def garbled(inputs: PictureRows) -> PictureRows:
    """The same with other values in every masked place."""
    real, absent = inputs.segment_BS >= 0, ~inputs.image_mask_N
    is_image = torch.zeros(inputs.token_BS.numel() + TOKENS, dtype=torch.bool)
    for at in inputs.image_at_N[inputs.image_mask_N].tolist():
        is_image[at : at + TOKENS] = True
    words = real & ~is_image[: real.numel()].view_as(real)
    return replace(
        inputs,
        token_BS=torch.where(words, inputs.token_BS, torch.where(real, 96, 10**9)),
        target_BS=torch.where(real & inputs.learn_BS, inputs.target_BS, -(10**6)),
        learn_BS=inputs.learn_BS | ~real,
        position_BS=torch.where(real, inputs.position_BS, 10**6),
        image_NHWC=torch.where(absent[:, None, None, None], 211, inputs.image_NHWC),
        image_at_N=torch.where(absent, -(10**9), inputs.image_at_N),
    )


PAIRS = [
    PairOf(images=1, question=3, answer=4),
    PairOf(images=0, question=5, answer=2),
    PairOf(images=2, question=1, answer=1),
]


def test_a_row_reads_the_projected_patches_where_a_picture_stands(model: VisionLanguage) -> None:
    """The tokens of a picture are its patches, in squares of `shuffle`, beside each other: by loops here."""
    inputs = packed([PAIRS], IMAGE, TOKENS, length=40)
    embedded_BSD = embedded(model.backbone, inputs)
    table_VD = model.backbone.decoder.embedding.weight
    expected_BSD = torch.where((inputs.segment_BS >= 0)[..., None], table_VD[inputs.token_BS], table_VD[0])
    patches_NPD = model.backbone.vision(inputs.image_NHWC)
    for patches_PD, at in zip(patches_NPD, inputs.image_at_N.tolist(), strict=True):
        for token in range(TOKENS):
            top, left = 0, 2 * token
            cells = [(top + row) * 4 + left + column for row in range(2) for column in range(2)]
            channels = torch.cat([patches_PD[cell] for cell in cells])
            expected_BSD[0, at + token] = model.backbone.projector.weight @ channels
    assert torch.allclose(embedded_BSD, expected_BSD, atol=1e-6)


@given(st.permutations(range(3)), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=20)
def test_a_packed_loss_is_the_sum_of_those_of_its_pairs(order: list[int], padding: int, tied: bool) -> None:
    model = made(replace(SMALL, tied=tied))
    pairs = [PAIRS[i] for i in order]
    length = sum(pair.length(TOKENS) for pair in pairs) + padding
    together = loss_and_gradients(model, packed([pairs], IMAGE, TOKENS, length))
    apart = [
        loss_and_gradients(model, packed([[pair]], IMAGE, TOKENS, pair.length(TOKENS))) for pair in pairs
    ]
    assert torch.allclose(together[0], sum(one[0] for one in apart), rtol=1e-6)
    assert int(together[1]) == sum(int(one[1]) for one in apart) == sum(pair.answer + 1 for pair in pairs)
    for ours, *theirs in zip(together[2:], *(one[2:] for one in apart), strict=True):
        total = sum(g * one[1] for g, one in zip(theirs, apart, strict=True)) / together[1]
        assert torch.allclose(ours, total, atol=1e-5)


def test_masked_places_and_absent_pictures_change_not_one_bit(model: VisionLanguage) -> None:
    inputs = packed([PAIRS, PAIRS[:1]], IMAGE, TOKENS, length=40, absent=2)
    for ours, theirs in zip(
        loss_and_gradients(model, inputs), loss_and_gradients(model, garbled(inputs)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_absent_pictures_are_as_if_they_were_not_there(model: VisionLanguage) -> None:
    with_absent, without = (packed([PAIRS], IMAGE, TOKENS, length=40, absent=n) for n in (3, 0))
    assert torch.allclose(model.logits(with_absent), model.logits(without), atol=1e-6)


def test_every_present_thing_matters(model: VisionLanguage) -> None:
    inputs = packed([PAIRS], IMAGE, TOKENS, length=40)
    loss = model(inputs)["answer"][0]
    for n in range(len(inputs.image_NHWC)):
        image_NHWC = inputs.image_NHWC.clone()
        image_NHWC[n, 0, 0, 0] ^= 255
        assert model(replace(inputs, image_NHWC=image_NHWC))["answer"][0] != loss
    swapped = replace(inputs, image_NHWC=inputs.image_NHWC.flip(0))
    assert model(swapped)["answer"][0] != loss


def test_attention_is_causal_and_stays_in_its_pair(model: VisionLanguage) -> None:
    """Exactly the positions of the same pair from a changed picture on see the change."""
    inputs = packed([PAIRS], IMAGE, TOKENS, length=40)
    for n, at in enumerate(inputs.image_at_N.tolist()):
        image_NHWC = inputs.image_NHWC.clone()
        image_NHWC[n] = 255 - image_NHWC[n]
        changed_S = (model.hidden(inputs) != model.hidden(replace(inputs, image_NHWC=image_NHWC))).any(-1)[0]
        same_pair_S = inputs.segment_BS[0] == inputs.segment_BS[0, at]
        assert torch.equal(changed_S, same_pair_S & (torch.arange(40) >= at))


@pytest.mark.parametrize("pairs", [[PairOf(0, 3, 2)], [PairOf(1, 0, 0)]], ids=["no picture", "no text"])
def test_rows_without_pictures_or_text_have_finite_gradients_everywhere(
    model: VisionLanguage, pairs: list[PairOf]
) -> None:
    absent = 0 if pairs[0].images else 1
    found = loss_and_gradients(model, packed([pairs], IMAGE, TOKENS, length=10, absent=absent))
    assert all(torch.isfinite(tensor).all() for tensor in found)
    tower = [p.grad for p in model.backbone.vision.parameters()]
    assert all(g is not None and (g == 0).all() for g in tower) == (not pairs[0].images)


def test_rows_where_nothing_counts_lose_nothing(model: VisionLanguage) -> None:
    inputs = packed([PAIRS], IMAGE, TOKENS, length=40)
    nothing = replace(inputs, learn_BS=torch.zeros_like(inputs.learn_BS))
    loss, count, *gradients = loss_and_gradients(model, nothing)
    assert loss == 0 and count == 0 and all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_that_of_ids_at_random(tied: bool) -> None:
    preset = replace(VISION_LANGUAGES["vlm_tiny"], tied=tied)
    model = initialise(allocated(lambda: VisionLanguage(preset, (64, 64)), "cpu"), 0)
    vocabulary = preset.backbone.decoder.vocabulary
    pairs = [[PairOf(1, 3, 40)]] * 8
    loss, count = model(packed(pairs, (64, 64), 16, length=64, vocabulary=vocabulary))["answer"]
    assert abs(loss.item() / count.item() - math.log(vocabulary)) < 0.3


def test_rows_of_text_are_learnt_as_a_language_model_learns_them(model: VisionLanguage) -> None:
    """The decoder's part of the model is a language model, number for number."""
    pictures = packed([PAIRS], IMAGE, TOKENS, length=40)
    rows = packed([[PairOf(0, 9, 9), PairOf(0, 4, 7)]], IMAGE, TOKENS, length=36)
    text = TextInputs(rows.token_BS, rows.target_BS, rows.segment_BS, rows.position_BS)
    alone = LLM(LLMConfig(DECODER))
    alone.decoder.load_state_dict(model.backbone.decoder.state_dict())
    losses = model(PicturesAndText(pictures, text))
    assert list(losses) == ["answer", "text"]
    for ours, theirs in zip(losses["text"], alone(text)["text"], strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(losses["answer"], model(pictures)["answer"], strict=True):
        assert torch.equal(ours, theirs)
