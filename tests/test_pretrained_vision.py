"""Vision towers of others: features of transformers, and every tensor there accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing import vision_folders
from foundry_testing.vision_folders import FAMILIES, IMAGE, pictures, their_features, write_timm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    PreTrainedConfig,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    ViTConfig,
    ViTForImageClassification,
)

from robot_foundry.runtime.errors import FoundryError, FoundryWarning, UsageError
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.vit import ViT, resized_positions
from robot_foundry.trainer.pretrained.values import Values
from robot_foundry.trainer.pretrained.vision import PretrainedVision, read_vision
from robot_foundry.trainer.pretrained.vision_families import tower_of


def filled(found: PretrainedVision, image: tuple[int, int]) -> ViT:
    vit = allocated(lambda: ViT(found.config, image), "cpu")
    found.fill(dict(vit.named_parameters()), image)
    return vit


@torch.no_grad()
def our_features(found: PretrainedVision, height: int, width: int) -> Tensor:
    return filled(found, (height, width))(torch.from_numpy(pictures(height, width)))


def theirs_of(model: Any, found: PretrainedVision, height: int, width: int) -> Tensor:
    config = found.config
    return their_features(model, pictures(height, width), config.pixel_mean, config.pixel_std)


def restate(folder: Path, **stated: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | stated))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    vision_folders.made("dinov2").save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def tower(dinov2: Path) -> PretrainedVision:
    return read_vision(dinov2)


@pytest.mark.parametrize("size", [(IMAGE, IMAGE), (12, 32)], ids=["its grid", "another grid"])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(family: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Of positions resized to another grid, too, as the library does it when it is told to."""
    model = vision_folders.made(family)
    model.save_pretrained(tmp_path)
    found = read_vision(tmp_path)
    assert found.grid == (5, 5)
    assert torch.allclose(our_features(found, *size), theirs_of(model, found, *size), atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_a_tower_of_timm_is_that_of_transformers_whose_weights_it_has(family: str, tmp_path: Path) -> None:
    model = vision_folders.made(family, hidden_size=36, num_attention_heads=3, layer_norm_eps=1e-6)
    scale = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    write_timm(model, tmp_path, "vit_tiny_patch4_20", pretrained_cfg=scale)
    found = read_vision(tmp_path)
    assert found.config.pixel_mean == (0.4, 0.5, 0.6) and found.config.pixel_std == (0.2, 0.3, 0.25)
    expected = theirs_of(model, found, IMAGE, IMAGE)
    assert torch.allclose(our_features(found, IMAGE, IMAGE), expected, atol=1e-5)
    told = found.told()
    assert "blocks.N.attn.qkv.weight → blocks.N.attention.key.weight × 3" in told
    assert "head.weight: is of a loss that is not ours" in told


def test_values_left_out_are_the_defaults_of_the_class(tmp_path: Path) -> None:
    classes: tuple[type[PreTrainedConfig], ...] = (
        ViTConfig, Dinov2Config, Dinov2WithRegistersConfig, SiglipVisionConfig, CLIPVisionConfig,
    )  # fmt: skip
    for made in classes:
        whole = made().to_dict()
        bare = {"model_type": whole["model_type"]}
        found = [tower_of(tmp_path, Values("config.json", stated), {}) for stated in (whole, bare)]
        assert found[0] == found[1]
        assert found[0].config.width == whole["hidden_size"]
        assert found[0].config.patch == whole["patch_size"]


def test_nothing_is_told_of_what_transformers_writes(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for family in FAMILIES:
        vision_folders.made(family).save_pretrained(tmp_path / family)
        read_vision(tmp_path / family)
    assert not [w for w in recwarn if issubclass(w.category, FoundryWarning)]


def test_a_tower_inside_of_another_model_is_found(tmp_path: Path) -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    vision = {**small, "image_size": IMAGE, "patch_size": 4}
    both = SiglipModel(SiglipConfig(vision_config=vision, text_config={**small, "vocab_size": 50}))
    vision_folders.moved(both)
    both.save_pretrained(tmp_path / "siglip")
    found = read_vision(tmp_path / "siglip")
    expected = theirs_of(both.vision_model, found, IMAGE, IMAGE)
    assert torch.allclose(our_features(found, IMAGE, IMAGE), expected, atol=1e-5)
    assert found.unused["text_model.final_layer_norm.bias"] == "is of the text tower"
    classifier = ViTForImageClassification(ViTConfig(**vision))
    classifier.save_pretrained(tmp_path / "vit")
    found = read_vision(tmp_path / "vit")
    assert set(found.unused) == {"classifier.weight", "classifier.bias"}


def test_the_first_layers_can_be_taken_alone(dinov2: Path) -> None:
    whole, model = read_vision(dinov2), vision_folders.made("dinov2")
    cut = whole.cut(2)
    assert cut.config == replace(whole.config, depth=2) and cut.id != whole.id
    model.encoder.layer = model.encoder.layer[:2]
    assert torch.allclose(our_features(cut, IMAGE, IMAGE), theirs_of(model, cut, IMAGE, IMAGE), atol=1e-5)
    assert (
        len([why for why in cut.unused.values() if why == "is of layer 2, and the first 2 are taken"]) == 18
    )
    for depth in (0, 4):
        with pytest.raises(UsageError, match=f"has 3 layers, of which {depth} cannot be taken"):
            whole.cut(depth)


def test_pixels_are_scaled_as_the_preprocessor_says(dinov2: Path) -> None:
    before = read_vision(dinov2)
    id_before = before.id
    stated = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 0.5, 0.25]}
    (dinov2 / "preprocessor_config.json").write_text(json.dumps(stated))
    found = read_vision(dinov2)
    assert found.config == replace(before.config, pixel_mean=(0.1, 0.2, 0.3), pixel_std=(1.0, 0.5, 0.25))
    assert found.id != id_before
    (dinov2 / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.5}))
    with pytest.raises(FoundryError, match="image_mean must be three numbers, not 0.5"):
        read_vision(dinov2)


def test_the_map_tells_what_became_of_every_tensor(dinov2: Path) -> None:
    told = read_vision(dinov2).told()
    assert "encoder.layer.N.attention.attention.query.weight → blocks.N.attention.query.weight × 3" in told
    assert "embeddings.cls_token → before_embedding" in told
    assert "embeddings.mask_token: stands for masked patches" in told
    assert "5 × 5 positions, resized to the pictures' grid" in told


def test_tensors_that_are_missing_left_over_or_of_another_shape_are_all_listed(dinov2: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        del tensors["layernorm.bias"]
        tensors["encoder.layer.3.norm1.bias"] = torch.zeros(32)
        tensors["odd"] = torch.zeros(1)
        tensors["embeddings.position_embeddings"] = torch.zeros(1, 17, 32)

    change_tensors(dinov2, change)
    with pytest.raises(FoundryError) as caught:
        read_vision(dinov2)
    assert str(caught.value).splitlines()[1:] == [
        "  layernorm.bias (32,) is not there",
        "  encoder.layer.3.norm1.bias (32,) is there and becomes nothing",
        "  odd (1,) is there and becomes nothing",
        "  embeddings.position_embeddings is (1, 17, 32) there, and (26, 32) is expected",
    ]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"model_type": "dinov3"}, "model_type 'dinov3' is none of vit, dinov2, .* did you mean 'dinov2'"),
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn: its MLPs are gated"),
        ({"qkv_bias": False}, "qkv_bias: queries, keys and values of our ViT have biases"),
        ({"num_channels": 1}, "num_channels: our pictures have 3 channels"),
        ({"hidden_act": "silu"}, "hidden_act: silu is none of gelu, relu, gelu_pytorch_tanh, quick_gelu"),
        ({"patch_size": [4, 4]}, "patch_size must be a whole number above 0, not \\[4, 4\\]"),
        ({"image_size": 3}, "image_size is less than patch_size"),
        ({"num_attention_heads": 5}, "width: 32 is no multiple of heads \\(5\\)"),
        ({"mlp_ratio": 10**18}, "describes a tower that is too large"),
        ({"image_size": 10**18}, "embeddings.position_embeddings is"),
        ({"num_hidden_layers": 10**9}, "says it has 1000000000 layers, and holds 61 tensors"),
    ],
)
def test_what_our_vit_is_not_is_refused_by_its_key(
    dinov2: Path, stated: Mapping[str, Any], said: str
) -> None:
    restate(dinov2, **stated)
    with pytest.raises(FoundryError, match=said):
        read_vision(dinov2)


def test_keys_that_are_not_heeded_are_told(dinov2: Path) -> None:
    before = read_vision(dinov2).config
    restate(dinov2, window_size=7)
    with pytest.warns(FoundryWarning, match="not heeded: window_size"):
        assert read_vision(dinov2).config == before


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "resnet50", "vit_small"])
def test_other_architectures_of_timm_are_refused(tmp_path: Path, name: str) -> None:
    write_timm(vision_folders.made("vit"), tmp_path, name)
    with pytest.raises(FoundryError, match=r"of timm vit_\(tiny\|small.*_patch… is known here, not"):
        read_vision(tmp_path)


def test_what_is_no_tower_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="has no config.json"):
        read_vision(tmp_path)
    with pytest.raises(FoundryError, match="is no folder"):
        read_vision(tmp_path / "nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(FoundryError, match="has neither model.safetensors"):
        read_vision(tmp_path)


def test_resized_positions_of_the_same_grid_stay() -> None:
    position_PD = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert resized_positions(position_PD, (2, 3), (2, 3)) is position_PD
    constant = resized_positions(torch.ones(6, 4), (2, 3), (5, 7), antialias=True)
    assert constant.shape == (35, 4) and torch.allclose(constant, torch.ones(1))


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_config_of_anything_gives_errors_of_ours_or_a_tower(
    dinov2: Path, tower: PretrainedVision, data: st.DataObject
) -> None:
    """A tower of the tensors that are there, whatever the config says of the rest."""
    file = dinov2 / "config.json"
    before = file.read_text()
    key = data.draw(st.sampled_from(sorted(json.loads(before))))
    numbers = st.integers() | st.floats(allow_nan=False) | st.integers(10**15, 10**40)
    value = data.draw(st.none() | st.booleans() | numbers | st.text() | st.lists(st.integers(), max_size=2))
    restate(dinov2, **{key: value})
    try:
        found = read_vision(dinov2)
    except FoundryError:
        return
    finally:
        file.write_text(before)
    assert found.shapes((IMAGE, IMAGE)) == tower.shapes((IMAGE, IMAGE))
