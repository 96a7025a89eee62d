"""Backbones of `transformers` in the place of ours: equal hidden states, masks without a trace, prompts.

The second source is `transformers` itself: each row alone, without pictures that are absent.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from foundry_testing import foreign_folders
from foundry_testing.foreign_folders import DEPTH, SIDE, WIDTH
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.backbone import Backbone, BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.foreign.backbone import ForeignBackbone, made
from robot_foundry.trainer.models.foreign.config import ForeignVLMConfig
from robot_foundry.trainer.models.foreign.families import patches
from robot_foundry.trainer.models.foreign.package import made_config
from robot_foundry.trainer.models.foreign.templates import TEMPLATES, TemplatePrompts, ids_of
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.sizes.presets import VLAS
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.pretrained.foreign import read_backbone
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin

SEEING = ("qwen3_vl", "paligemma", "smolvlm")
OURS = BackboneConfig(
    ViTConfig(patch=4, width=16, depth=1, heads=2, mlp_hidden=16),
    decoder=DecoderConfig(width=16, depth=2, heads=2, kv_heads=1, mlp_hidden=16, vocabulary=300),
)
TEXTS = ("lift it", "push the <image> cube to the left")
TOKENS = {"qwen3_vl": 4, "paligemma": 16, "smolvlm": 4}  # of a picture
Images = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("foreign")
    return {name: foreign_folders.save_folder(name, root / name) for name in foreign_folders.CONFIGS}


def filled(folder: Path) -> ForeignBackbone:
    """The backbone of a folder with its weights, made without any memory first as runs do."""
    origin = ForeignOrigin.find(str(folder))
    backbone = allocated(lambda: made(origin.backbone(OURS), (SIDE, SIDE)), "cpu")
    initialise(backbone, 0)
    origin.files.fill({n: p.detach() for n, p in backbone.named_parameters() if n in origin.files.source_of})
    return backbone


def words_of(folder: Path, num_obs: int = 2) -> TemplatePrompts:
    files = read_backbone(folder)
    return TemplatePrompts(files.tokenizer, 40, num_obs, files.model_type)


def pictures() -> Images:
    """Two views of two rows; the second row lacks the first view."""
    images = np.random.default_rng(0).integers(0, 256, (2, 2, SIDE, SIDE, 3), dtype=np.uint8)
    return torch.from_numpy(images), torch.tensor([[True, True], [False, True]])


def their_states(model: Any, family: str, ids: list[int], image_NHWC: Tensor, obs_KD: Tensor) -> list[Tensor]:
    """`hidden_states` of the whole model at the last tokens of one row, in whose place `obs_KD` stands."""
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    pixel_NCHW = ((image_NHWC / 255 - mean) / std).permute(0, 3, 1, 2)
    id_1S, num_obs = torch.tensor([ids]), len(obs_KD)
    more: dict[str, Any] = {"pixel_values": pixel_NCHW}
    if family == "qwen3_vl":
        twice = patches(pixel_NCHW, 4, 2)[:, :, None].expand(-1, -1, 2, -1).flatten(1)
        grid = torch.tensor([[1, 4, 4]] * len(image_NHWC))
        more = {"pixel_values": twice, "image_grid_thw": grid, "mm_token_type_ids": (id_1S == 261).int()}
    elif family == "paligemma":
        more["token_type_ids"] = torch.arange(len(ids))[None] >= len(ids) - num_obs  # 1: no question any more
    else:
        more["pixel_values"] = pixel_NCHW[None]
    embedding = model.get_input_embeddings()
    scale = getattr(embedding, "scalar_embed_scale", 1.0)

    def placed(_: Any, __: Any, out: Tensor) -> Tensor:
        return torch.cat((out[:, :-num_obs], scale * obs_KD[None]), dim=1)

    hook = embedding.register_forward_hook(placed)
    with torch.no_grad():
        said = model(
            input_ids=id_1S, attention_mask=torch.ones_like(id_1S), output_hidden_states=True, **more
        )
    hook.remove()
    return [states[0, -num_obs:] for states in said.hidden_states]


@pytest.mark.parametrize("family", SEEING)
def test_taps_are_the_hidden_states_of_transformers(family: str, folders: dict[str, Path]) -> None:
    """To 1e-5, of each row as that model says it of the row alone, without the picture that is absent."""
    backbone, words = filled(folders[family]), words_of(folders[family])
    model = transformers.AutoModelForImageTextToText.from_pretrained(folders[family]).eval()
    image_BVHWC, mask_BV = pictures()
    token_BS, obs_B = (torch.from_numpy(part) for part in words.rows(TEXTS))
    obs_KD = 0.3 * torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        taps = backbone.observe(image_BVHWC, mask_BV, token_BS, words.image_at, obs_B, 2, DEPTH, obs_KD)
    assert len(taps) == DEPTH and taps[0].shape == (2, 2, WIDTH)
    template, picture = TEMPLATES[family], made_config(foreign_folders.CONFIGS[family]).image_token_id
    begin, end = (ids_of(side, words.tokenizer) for side in (template.picture_begin, template.picture_end))
    for row in range(2):
        view = [*begin, *[picture] * TOKENS[family], *end]
        ids, at = token_BS[row, : obs_B[row] + 2].tolist(), words.image_at
        whole = [*ids[:at], *view * int(mask_BV[row].sum()), *ids[at:]]
        expected = their_states(model, family, whole, image_BVHWC[row, mask_BV[row]], obs_KD)[-DEPTH:]
        for tap, states in zip(taps, expected, strict=True):
            assert (tap[row] - states).abs().max() < 1e-5
            assert states.abs().max() > 0.1


@pytest.mark.parametrize("family", [*SEEING, "gemma3_text"])
def test_absent_views_padding_and_batch_mates_leave_no_trace(family: str, folders: dict[str, Path]) -> None:
    """Also of the gradient; every parameter has one, so no rank waits for another's."""
    backbone = filled(folders[family])
    image_BVHWC, mask_BV = pictures()
    at, obs_B = 3, torch.tensor([8, 19])
    token_BS = torch.randint(0, 250, (2, 24), generator=torch.Generator().manual_seed(1))
    obs_KD = torch.full((2, WIDTH), 0.1)

    def said(images: Tensor, tokens: Tensor, rows: slice) -> Tensor:
        taps = backbone.observe(images[rows], mask_BV[rows], tokens[rows], at, obs_B[rows], 2, 2, obs_KD)
        return torch.stack(taps)

    together = said(image_BVHWC, token_BS, slice(0, 2))
    other_images, other_tokens = image_BVHWC.clone(), token_BS.clone()
    other_images[1, 0] = 77  # absent
    for row in range(2):
        other_tokens[row, obs_B[row] + 2 :] = 9  # padding
    assert (said(other_images, other_tokens, slice(0, 2)) - together).abs().max() <= 1e-6
    alone = said(image_BVHWC, token_BS[:, :10], slice(0, 1))
    # A batch of another size is added up in another order: last bits of the largest values, which are over 1.
    assert (alone - together[:, :1]).abs().max() <= 1e-6 * together.abs().max()
    seen = image_BVHWC.clone()
    seen[1, 1] = 77  # present
    assert (said(seen, token_BS, slice(0, 2)) - together)[:, 1].abs().max() > 1e-4
    (together.sum() + 0 * obs_KD.sum()).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]


def test_a_language_model_reads_the_tokens_of_our_tower_with_its_own_windows(
    folders: dict[str, Path],
) -> None:
    """Gemma 3: layers that see four tokens back, beside layers that see all."""
    backbone = filled(folders["gemma3_text"])
    model = transformers.AutoModelForCausalLM.from_pretrained(folders["gemma3_text"]).eval()
    token_BS = torch.randint(0, 250, (1, 15), generator=torch.Generator().manual_seed(2))
    images = torch.zeros(1, 1, SIDE, SIDE, 3, dtype=torch.uint8)
    with torch.no_grad():
        theirs = model(input_ids=token_BS, output_hidden_states=True)
        taps = backbone.observe(images, torch.tensor([[False]]), token_BS, 3, torch.tensor([13]), 2, DEPTH)
        logits = backbone.text_logits(
            images, torch.tensor([[False]]), token_BS, 3, torch.tensor([13]), torch.tensor([15])
        )
    for tap, states in zip(taps, theirs.hidden_states[-DEPTH:], strict=True):
        assert (tap - states[:, 13:]).abs().max() < 1e-5
    assert (logits - theirs.logits).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["qwen3_vl", "paligemma"])
def test_text_is_written_only_where_it_is_asked_for(family: str, folders: dict[str, Path]) -> None:
    backbone, words = filled(folders[family]), words_of(folders[family])
    token_BS, obs_B = (torch.from_numpy(part) for part in words.rows(TEXTS))
    image_BVHWC, mask_BV = pictures()
    asked = (image_BVHWC, mask_BV, token_BS, words.image_at)
    logits = backbone.text_logits(*asked, obs_B, obs_B + 2)
    (last,) = backbone.observe(*asked, obs_B, 2, 1)
    assert logits.shape == (2, token_BS.shape[1], foreign_folders.VOCABULARY)
    expected = last[0, 0] @ backbone.decoder.get_input_embeddings().weight.T
    assert torch.allclose(logits[0, obs_B[0]], expected, atol=1e-5)


def test_a_model_whose_text_another_matrix_writes_has_no_logits(folders: dict[str, Path]) -> None:
    backbone = filled(folders["smolvlm"])
    words = words_of(folders["smolvlm"])
    token_BS, obs_B = (torch.from_numpy(part) for part in words.rows(TEXTS))
    with pytest.raises(FoundryError, match="is a matrix of its own, and left out"):
        backbone.text_logits(*pictures(), token_BS, words.image_at, obs_B, obs_B)


@pytest.mark.parametrize("family", [*SEEING, "gemma3_text"])
def test_constants_made_without_memory_are_those_of_transformers(
    family: str, folders: dict[str, Path]
) -> None:
    backbone, model = filled(folders[family]), foreign_folders.make_model(family)

    def by_end(module: torch.nn.Module) -> list[tuple[str, list[float]]]:
        ends = [(".".join(name.split(".")[-2:]), b.flatten().tolist()) for name, b in module.named_buffers()]
        return sorted(item for item in ends if "." in item[0])

    expected = by_end(model)
    assert [item for item in by_end(backbone) if item in expected] == expected != []


def test_units_are_all_blocks_in_their_order(folders: dict[str, Path]) -> None:
    backbone = filled(folders["qwen3_vl"])
    names = {id(module): name for name, module in backbone.named_modules()}
    assert [names[id(unit)] for unit in backbone.units()] == [
        "vision.blocks.0", "vision.blocks.1", "decoder.layers.0", "decoder.layers.1", "decoder.layers.2",
    ]  # fmt: skip
    assert list(backbone.parts()) == ["vision", "decoder"]
    ours = Backbone(OURS, (SIDE, SIDE))
    assert list(ours.units()) == [*ours.vision.blocks, *ours.decoder.blocks]
    assert list(filled(folders["smolvlm"]).parts()) == ["vision", "projector", "decoder"]


# --- prompts ----------------------------------------------------------------------------------------------


def prompt_ids(family: str, folder: Path, text: str) -> list[int]:
    """Ours of one picture, without `<obs>`."""
    words = words_of(folder, num_obs=0)
    (ids,), _ = words.rows([text])
    template, picture = TEMPLATES[family], made_config(foreign_folders.CONFIGS[family]).image_token_id
    begin, end = (ids_of(side, words.tokenizer) for side in (template.picture_begin, template.picture_end))
    at = words.image_at
    return [*ids[:at].tolist(), *begin, *[picture] * TOKENS[family], *end, *ids[at:].tolist()]


def test_prompts_of_qwen3_vl_are_those_of_its_processor(folders: dict[str, Path]) -> None:
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 4096}
    )
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>lift it<|im_end|>\n"
    processed = images(images=[np.zeros((SIDE, SIDE, 3), np.uint8)], return_tensors="pt")
    tokens = int(processed["image_grid_thw"][0].prod()) // 4
    text = text.replace("<|image_pad|>", "<|image_pad|>" * tokens) + "<|im_start|>assistant\n"
    expected = foreign_folders.theirs("qwen3_vl")(text)["input_ids"]
    assert prompt_ids("qwen3_vl", folders["qwen3_vl"], "lift it") == expected


def test_patches_of_qwen3_vl_are_those_of_its_processor() -> None:
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 4096}, image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )  # fmt: skip
    picture = np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    expected = images(images=[picture], return_tensors="pt")["pixel_values"]
    pixel_NCHW = ((torch.from_numpy(picture)[None] / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    ours = patches(pixel_NCHW, 4, 2)[:, :, None].expand(-1, -1, 2, -1).flatten(1)
    assert torch.allclose(ours, expected, atol=1e-6)


def test_prompts_of_paligemma_are_those_of_its_processor(folders: dict[str, Path]) -> None:
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = TOKENS["paligemma"]
    processor = transformers.PaliGemmaProcessor(images, foreign_folders.theirs("paligemma"))
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    expected = processor(images=[[picture]], text=["<image>lift it"])["input_ids"][0]
    assert prompt_ids("paligemma", folders["paligemma"], "lift it") == list(expected)


def test_prompts_of_smolvlm_are_those_of_its_template(folders: dict[str, Path]) -> None:
    tokenizer = foreign_folders.theirs("smolvlm")
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "lift it"}]}
    text = tokenizer.apply_chat_template(
        [turn], chat_template=processing_smolvlm.DEFAULT_CHAT_TEMPLATE, tokenize=False,
        add_generation_prompt=True,
    )  # fmt: skip
    picture = processing_smolvlm.get_image_prompt_string(
        0, 0, TOKENS["smolvlm"], "<fake_token_around_image>", "<image>", "<global-img>"
    )
    expected = tokenizer(text.replace("<image>", picture))["input_ids"]
    assert prompt_ids("smolvlm", folders["smolvlm"], "lift it") == expected


# --- files ------------------------------------------------------------------------------------------------


def test_every_tensor_becomes_something_or_is_known_to_say_nothing(folders: dict[str, Path]) -> None:
    told = ForeignOrigin.find(str(folders["smolvlm"])).files.told()
    assert "lm_head.weight: writes text, which a policy does not" in told
    assert (
        "model.text_model.layers.N.self_attn.q_proj.weight → decoder.layers.N.self_attn.q_proj.weight × 3"
        in told
    )


def test_weights_in_parts_and_by_older_names_are_the_same(tmp_path: Path, folders: dict[str, Path]) -> None:
    parts = foreign_folders.save_folder("paligemma", tmp_path / "parts", max_shard_size="20KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    older = shutil.copytree(folders["paligemma"], tmp_path / "older")
    values = load_file(older / "model.safetensors")
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): v for name, v in values.items()}
    assert named.keys() != values.keys()
    save_file(named, older / "model.safetensors")
    one = filled(folders["paligemma"])
    for other in (filled(parts), filled(older)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    read = read_backbone(parts)
    assert read.pixel_mean == (0.4, 0.5, 0.6) and read.pixel_std == (0.2, 0.3, 0.4)


# --- sizes ------------------------------------------------------------------------------------------------

QWEN3_VL_2B = {
    "model_type": "qwen3_vl", "tie_word_embeddings": True, "image_token_id": 151655,
    "text_config": {
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
    },
    "vision_config": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
        "out_hidden_size": 2048, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17],
    },
}  # fmt: skip


def test_sizes_of_policies_on_large_backbones() -> None:
    """Qwen3-VL-2B with our head, and the same head on ours from nothing; no memory is taken."""

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    geometry, ours = Geometry(10, 10, 1, 16, (256, 256)), VLAS["vla_1_7b"]
    with torch.device("meta"):
        policy = VLA(replace(ours, backbone=ForeignVLMConfig(QWEN3_VL_2B)), geometry)
        scratch = VLA(ours, geometry)
    # Embedding; 28 layers of attention with norms of heads, of a gated MLP and two norms; the last norm.
    layer = 2 * 2048 * 2048 + 2 * 2048 * 1024 + 2 * 128 + 3 * 2048 * 6144 + 2 * 2048
    assert count(policy.backbone.parts()["decoder"]) == 151936 * 2048 + 28 * layer + 2048
    assert count(policy.backbone) == 2_127_532_032
    assert count(policy) == count(policy.backbone) + count(policy.head) + 4 * 2048 == 2_452_039_680
    assert abs(count(policy.head) / 325e6 - 1) < 0.02
    assert abs(count(scratch) / 1.7e9 - 1) < 0.03
