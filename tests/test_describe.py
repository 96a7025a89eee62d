"""What a run takes, against what PyTorch counts: FLOPs, what autograd keeps, tensors of optimisers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robot_foundry.cli import foundry_train
from robot_foundry.cli.output import run
from robot_foundry.trainer.memory import Activations, StateBytes, gpu_memory, state_bytes
from robot_foundry.trainer.models.backbone import Backbone, BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers import attention
from robot_foundry.trainer.models.layers.attention import CausalBias
from robot_foundry.trainer.models.llm import LLM, LLMConfig, TextInputs
from robot_foundry.trainer.models.sizes.cost import NUMBER_BYTES, token_cost
from robot_foundry.trainer.models.sizes.picture_cost import picture_cost
from robot_foundry.trainer.models.vit import ViT, ViTConfig
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import OptimConfig, Optimizers
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

SMALL = DecoderConfig(width=64, depth=2, heads=4, kv_heads=4, mlp_hidden=192, vocabulary=128)
VARIANTS = {
    "llama": SMALL,
    "grouped": replace(SMALL, kv_heads=2),
    "wide heads": replace(SMALL, head_width=32, kv_heads=2),
    "relu": replace(SMALL, mlp="relu"),
    "gelu": replace(SMALL, mlp="gelu"),
    "gelu_tanh": replace(SMALL, mlp="gelu_tanh"),
    "quick_gelu": replace(SMALL, mlp="quick_gelu"),
    "qwen 3": replace(SMALL, kv_heads=2, qk_norm=True),
}
ROWS, LENGTH = 2, 128


def inputs() -> TextInputs:
    token = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    return TextInputs(token, token, token, torch.arange(LENGTH).repeat(ROWS, 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_are_those_that_pytorch_counts(variant: str) -> None:
    decoder = VARIANTS[variant]
    model = LLM(LLMConfig(decoder))
    with FlopCounterMode(display=False) as counter:
        loss, _ = model(inputs())["text"]
        loss.backward()
    cost = token_cost(model.config, LENGTH, "fp32")
    # A CPU computes all of a row of one tile, of which a query sees half on average.
    unseen = 4 * decoder.depth * decoder.heads * decoder.width_of_head * (LENGTH - 1) / 2
    assert counter.get_total_flops() == pytest.approx((cost.training_flops + 3 * unseen) * ROWS * LENGTH)
    assert cost.training_flops == 3 * cost.forward_flops


def fused(q: Tensor, k: Tensor, v: Tensor, bias: CausalBias) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.bias_B1SS.to(q.dtype))


def kept(model: nn.Module, given: Any, is_bf16: bool) -> int:
    """Bytes that autograd keeps of a pass, without weights and their copies."""
    weights = {parameter.shape for parameter in model.parameters()}
    found: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.shape not in weights and tensor.shape[::-1] not in weights:
            found[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        model(given)
    return sum(number for _, number in found.values())


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_are_what_autograd_keeps_of_a_layer(
    variant: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "attend", fused)
    configs = [LLMConfig(replace(VARIANTS[variant], depth=depth)) for depth in (2, 3)]
    shallow, deep = (kept(LLM(config), inputs(), precision == "bf16") for config in configs)
    less, more = (token_cost(config, LENGTH, precision).activation_bytes for config in configs)
    assert (deep - shallow) / (ROWS * LENGTH) == pytest.approx(more - less, rel=0.01)
    # What is outside of the layers: the loss adds what does not depend on the tokens, small here.
    assert shallow / (ROWS * LENGTH) == pytest.approx(less, rel=0.1)


SMALL_VIT = ViTConfig(patch=4, width=64, depth=2, heads=4, mlp_hidden=160)
TOWERS = {
    "vit": SMALL_VIT,
    "dinov2": replace(SMALL_VIT, class_token=True, registers=3, layer_scale=1.0),
    "siglip": replace(SMALL_VIT, mlp="gelu_tanh"),
    "clip": replace(SMALL_VIT, mlp="quick_gelu", class_token=True, pre_norm=True, final_norm=False),
    "conv stem": replace(SMALL_VIT, mlp="relu", stem="conv", position="sincos"),
}
IMAGE = (32, 48)


@pytest.mark.parametrize("variant", TOWERS)
def test_flops_of_a_picture_are_those_that_pytorch_counts(variant: str) -> None:
    config = BackboneConfig(TOWERS[variant], 2, SMALL)
    model = Backbone(config, IMAGE)
    pictures = torch.zeros(ROWS, 1, *IMAGE, 3, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        tokens = model.image_tokens(pictures)
    cost = picture_cost(config, IMAGE, "fp32")
    assert counter.get_total_flops() == pytest.approx(ROWS * cost.forward_flops)
    assert tokens.shape[1] == cost.tokens
    assert cost.training_flops == 3 * cost.forward_flops
    frozen = picture_cost(config, IMAGE, "fp32", frozen=True)
    projector = 2 * cost.tokens * 4 * 64 * SMALL.width
    assert frozen.training_flops == cost.forward_flops + 2 * projector
    assert frozen.activation_bytes == 4 * cost.tokens * 4 * 64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", TOWERS)
def test_what_a_picture_needs_is_what_autograd_keeps_of_it(
    variant: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "attend", lambda q, k, v, _: F.scaled_dot_product_attention(q, k, v))
    pictures = torch.zeros(ROWS, *IMAGE, 3, dtype=torch.uint8)
    towers = [replace(TOWERS[variant], depth=depth) for depth in (2, 3)]
    shallow, deep = (kept(ViT(tower, IMAGE), pictures, precision == "bf16") for tower in towers)
    less, more = (
        picture_cost(BackboneConfig(tower, 2, SMALL), IMAGE, precision).activation_bytes for tower in towers
    )
    assert (deep - shallow) / ROWS == pytest.approx(more - less, rel=0.01)
    projector = NUMBER_BYTES[precision] * 96 * 64  # which reads what the tower gives
    assert shallow / ROWS == pytest.approx(less - projector, rel=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("ema_max", [0.0, 0.999])
def test_the_state_is_that_of_optimisers_and_averages(optimizer: str, ema_max: float) -> None:
    model, optim = LLM(LLMConfig(SMALL)), OptimConfig(optimizer=optimizer, ema_max=ema_max)
    state = state_bytes(model, optim, "fp32")
    tensors = [tensor for _, tensor in Optimizers(model, optim).tensors() if tensor.ndim]
    average = Ema(model, power=0.75, maximum=ema_max).weights.values() if ema_max else ()
    assert state.weights == state.gradients == sum(p.nbytes for p in model.parameters())
    assert state.optimizer == sum(tensor.nbytes for tensor in tensors)
    assert state.average == sum(tensor.nbytes for tensor in average)
    assert state.unit == sum(p.nbytes for p in model.decoder.blocks[0].parameters())
    assert state.copies == 0
    assert state_bytes(model, optim, "bf16").copies * 2 == state.weights


def test_memory_on_several_gpus() -> None:
    """By hand: 16 rows of 10 bytes and 5 once, in two microbatches; 60 bytes of state, units of 4."""
    state = StateBytes(weights=12, copies=0, gradients=12, optimizer=24, average=12, unit=4)
    found = list(gpu_memory(state, Activations(10, 5), 16, 2, limit=100))
    assert [row.gpus for row in found] == [1, 2, 4, 8, 16]
    assert [row.rows for row in found] == [8, 4, 2, 1, None]  # one row a GPU is no two microbatches
    assert [row.activations for row in found] == [85, 45, 25, 15, None]
    assert [row.ddp for row in found] == [60, 72, 72, 72, 72]
    # A share, what is whole for a moment, and the whole gradients that the first microbatch leaves.
    once = [60, 30 + 12, 15 + 12, 8 + 12, 4 + 12]
    assert [row.sharded for row in found] == [60, *(memory + 12 for memory in once[1:])]
    assert [row.sharded for row in gpu_memory(state, Activations(10, 5), 16, 1, limit=100)] == once
    # 100 - 60 has room for 3 rows (16 in 8 parts), 100 - 72 for 2.
    assert [row.ddp_fits for row in found] == [8, 4, 2, 1, 1]
    # 100 - 42 - 12 has room for 4 rows, and 100 - 27 for all 4 at once.
    assert [row.sharded_fits for row in found] == [8, 2, 1, 1, 1]
    assert all(row.ddp_fits is None for row in gpu_memory(state, Activations(10, 5), 16, 2, limit=74))
    unknown = list(gpu_memory(state, None, 16, 16, limit=1))
    assert [row.activations for row in unknown] == [None] * 5
    assert [row.rows for row in unknown] == [1, None, None, None, None]


def described(capsys: Any, *arguments: str) -> Any:
    assert run(foundry_train.group, foundry_train.PROGRAM, ["describe", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_describe_a_language_model(capsys: Any) -> None:
    packaged = described(capsys, "llm_1_2b")["memory"]
    assert [row["gpus"] for row in packaged] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert [row["ddp_fits"] for row in packaged if row["rows"] is None] == [2, 1]
    found = described(capsys, "llm_1_2b", "run.accumulate=4")
    assert found["task"] == "llm"
    parameters = found["parameters"]
    assert parameters["total"] == 1_334_151_168
    assert abs((parameters["total"] - parameters["embedding"]) / 1.23e9 - 1) < 0.02
    assert found["tokens"]["cost"]["cache_bytes"] == 24 * 2 * 2048 * 2
    # Six FLOPs a parameter (Kaplan et al. 2020), and attention on top.
    assert 6 < found["tokens"]["cost"]["training_flops"] / parameters["total"] < 7
    by_gpus = {row["gpus"]: row for row in found["memory"]}
    assert list(by_gpus) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert by_gpus[128]["rows"] == 1 and by_gpus[1]["rows"] == 128
    assert by_gpus[128]["ddp"] == 26 * parameters["total"]
    assert by_gpus[128]["sharded"] < by_gpus[8]["sharded"] < by_gpus[1]["sharded"]


def test_describe_a_policy(capsys: Any) -> None:
    found = described(capsys, "vla_tiny")
    assert found["task"] == "vla" and "one arm of 10 dims" in found["assumed"]
    parameters = found["parameters"]
    assert sum(parameters[name] for name in ("vision", "projector", "decoder")) == 1_146_480
    assert parameters["head"] == 815_104 and found["tokens"] is None


def test_describe_what_a_policy_learns_beside(capsys: Any) -> None:
    pairs = "data.pairs={mix: scenes, global_batch: 6, rows: {length: 128}}"
    text = "data.text={mix: words, global_batch: 4, length: 96}"
    beside = described(capsys, "vla_tiny", pairs, text, "run.steps=50")["beside"]
    assert [(name, one["rows"], one["tokens"]["in_run"]) for name, one in beside.items()] == [
        ("pairs", 6, 50 * 6 * 128), ("text", 4, 50 * 4 * 96)
    ]  # fmt: skip
    config = read_recipe("vla_tiny", ["data.mix=none"])
    backbone = config.model.backbone
    assert isinstance(backbone, BackboneConfig) and config.data.window.image is not None
    alone = token_cost(LLMConfig(backbone.decoder), 96, config.run.precision)
    assert beside["text"]["tokens"]["cost"] == asdict(alone)
    picture = picture_cost(backbone, config.data.window.image, config.run.precision)
    assert beside["pairs"]["picture"] == asdict(picture)
    frozen = described(capsys, "vla_tiny", pairs, "optim.lr_scales={vision: 0}")["beside"]
    assert frozen["pairs"]["picture"]["training_flops"] < picture.training_flops and "text" not in frozen
    assert list(described(capsys, "vlm_tiny", text)["beside"]) == ["text"]
    assert run(foundry_train.group, foundry_train.PROGRAM, ["describe", "vla_tiny", pairs]) == 0
    out = capsys.readouterr().out
    assert "pairs beside, 6 rows a step" in out and "a picture, before its tokens" in out


def test_describe_a_vision_language_model(capsys: Any) -> None:
    """Of rows that are full of pictures, at which memory is largest."""
    rows = ("data.rows={length: 1024, packed: true, image: [256, 256]}", "data.global_batch=16")
    model = ("model=vlm_1_3b", *rows, "run.precision=bf16")
    free = described(capsys, "vlm_tiny", *model)
    frozen = described(capsys, "vlm_tiny", *model, "optim.lr_scales={vision: 0}")
    assert free["task"] == "vlm" and "rows of 16 pictures of 256 × 256 pixels" in free["assumed"]
    assert free["parameters"]["total"] == 1_426_285_824
    assert free["picture"]["tokens"] == 64
    token, picture = (free[name] for name in ("tokens", "picture"))
    row = 1024 * token["cost"]["activation_bytes"] + 16 * picture["activation_bytes"]
    more_rows = free["memory"][0]["activations"] - free["memory"][1]["activations"]
    assert more_rows == pytest.approx(8 * row)  # 16 rows on one GPU, 8 on two
    assert frozen["picture"]["forward_flops"] == picture["forward_flops"]
    assert frozen["picture"]["training_flops"] < 0.4 * picture["training_flops"]
    assert frozen["picture"]["activation_bytes"] < 0.01 * picture["activation_bytes"]
    assert free["state"]["weights"] == frozen["state"]["weights"]
    assert free["state"]["gradients"] - frozen["state"]["gradients"] == 4 * free["parameters"]["vision"]


@pytest.mark.parametrize("recipe", ["llm_tiny", "vla_tabletop", "vlm_tiny"])
def test_the_text_tells_parameters_and_memory(recipe: str, capsys: Any) -> None:
    assert run(foundry_train.group, foundry_train.PROGRAM, ["describe", recipe]) == 0
    out = capsys.readouterr().out
    assert "parameters" in out and "GPUs" in out and "fully sharded" in out


def test_a_gpu_with_more_memory_takes_more_at_a_time(capsys: Any) -> None:
    small, large = (described(capsys, "llm_1_2b", "--gpu-memory", gb)["memory"] for gb in ("40", "140"))
    assert [row["ddp_fits"] for row in small] > [row["ddp_fits"] for row in large]


def test_a_gpu_has_a_finite_memory(capsys: Any) -> None:
    for memory in ("nan", "inf"):
        arguments = ["describe", "llm_tiny", "--gpu-memory", memory]
        assert run(foundry_train.group, foundry_train.PROGRAM, arguments) == 2
        assert "must be a finite number of GB" in capsys.readouterr().err


def test_what_no_task_reads_is_refused_with_the_nearest_key(capsys: Any) -> None:
    for recipe, wrong, near in (
        ("llm_tiny", "model.tide=false", "tied"),
        ("vla_tiny", "model.tap=2", "taps"),
    ):
        assert run(foundry_train.group, foundry_train.PROGRAM, ["describe", recipe, wrong]) == 2
        assert f"did you mean '{near}'" in capsys.readouterr().err
