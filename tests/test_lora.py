"""Low-rank adapters: they begin as nothing, they alone move, and they can be put into the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foundry_testing import trainer_runs, vlm_runs
from foundry_testing.trainer_runs import differing, noise, tensors, tiny
from foundry_testing.vla_models import make, make_inputs
from safetensors.torch import load_file
from torch import nn

from robot_foundry.catalog.store import Store
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.flow import FlowConfig
from robot_foundry.trainer.models.foreign.config import ForeignLLMConfig
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.layers.lora import AdaptedLinear, LoRAConfig, adapt, is_adapter, merge
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, parameter_groups
from robot_foundry.trainer.pretrained.exporting import as_safetensors
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

LORA = "model.lora={rank: 2, alpha: 4, parts: [decoder, vision]}"


class Two(nn.Module):
    """Layers of a module that is none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))
        self.outer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(self.inner(x))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trainer_runs.make_store(tmp_path_factory.mktemp("robots"))


@pytest.fixture(scope="module")
def learnt(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "run"
    trainer_runs.run(store, folder, LORA, "optim.lr=0.05", "run.keep_last=9")
    return folder


def test_linear_layers_of_any_module_get_them_and_do_as_before() -> None:
    plain, model = initialise(Two(), 3), Two()
    adapt(model, LoRAConfig(rank=2, alpha=6.0, parts=("inner",)))
    initialise(model, 3)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"inner.{layer}.{factor}" for layer in (0, 2) for factor in ("lora_a", "lora_b")
    }
    assert {name for name, _ in plain.named_parameters()} < {name for name, _ in model.named_parameters()}
    x = noise(7, 6)
    assert torch.equal(model(x), plain(x))


def test_what_an_adapter_adds_is_its_product_by_alpha_over_rank() -> None:
    layer = nn.Linear(6, 5)
    adapted = AdaptedLinear(layer, LoRAConfig(rank=2, alpha=6.0))
    for parameter, seed in ((adapted.lora_a, 1), (adapted.lora_b, 2)):
        parameter.data = noise(*parameter.shape, seed=seed)
    x = noise(7, 6, seed=3)
    delta = 3.0 * (adapted.lora_b.detach().numpy() @ adapted.lora_a.detach().numpy() @ x.numpy().T).T
    assert (adapted(x) - layer(x)).detach().numpy() == pytest.approx(delta, abs=1e-5)


def test_merged_layers_are_plain_and_do_the_same() -> None:
    model = Two()
    adapt(model, LoRAConfig(rank=2, parts=("inner", "outer")))
    initialise(model, 3)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            parameter.data = noise(*parameter.shape)
    x = noise(7, 6)
    before = model(x)
    merge(model)
    assert [type(module) for module in model.modules() if isinstance(module, nn.Linear)] == [nn.Linear] * 3
    assert not any(is_adapter(name) for name, _ in model.named_parameters())
    assert float(((model(x) - before).abs().max() / before.abs().max()).detach()) < 1e-6


def test_parts_without_a_linear_layer_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match="no linear layer of the backbone lies in 'iner', did you mean 'inner'"
    ):
        adapt(Two(), LoRAConfig(rank=2, parts=("iner", "outer")))


def test_adapters_are_not_for_muon() -> None:
    model = nn.ModuleDict({"blocks": Two(), "backbone": nn.ModuleDict({"blocks": Two()})})
    adapt(model["backbone"], LoRAConfig(rank=2, parts=("blocks",)))
    adamw, muon = parameter_groups(model, OptimConfig(optimizer="muon", backbone_lr_scale=0.5))
    of = {parameter: name for name, parameter in model.named_parameters()}
    assert {of[p] for group in muon for p in group["params"]} == {
        f"blocks.{name}.weight" for name in ("inner.0", "inner.2", "outer")
    }
    rates = {of[p]: group["peak"] for group in adamw for p in group["params"]}
    adapters = [name for name in of.values() if is_adapter(name)]
    assert len(adapters) == 6 and {rates[name] for name in adapters} == {OptimConfig().lr / 2}


def test_only_adapters_and_the_head_move(store: Store, learnt: Path) -> None:
    task = resolve_vla(tiny(store, learnt, LORA))
    first = dict(initialise(task.build_model(), task.config.seed).named_parameters())
    last = tensors(checkpoint.find(learnt))
    for name, begun in first.items():
        is_base = name.startswith("backbone.") and not is_adapter(name)
        assert torch.equal(last[f"model/{name}"], begun) == is_base, name
        assert (f"ema/{name}" not in last) == is_base, name
        assert (not any(key.startswith(f"optim/{name}/") for key in last)) == is_base, name
    assert sum(map(is_adapter, first)) == 2 * 6 * (1 + 2)  # six linear layers in each block


def test_a_run_with_adapters_goes_on_to_the_same_bits(store: Store, learnt: Path, tmp_path: Path) -> None:
    settings = (LORA, "optim.lr=0.05", "run.keep_last=9")
    trainer_runs.run(store, tmp_path / "cut", *settings)
    checkpoint.remove(tmp_path / "cut" / "checkpoints" / "step-00000006")
    outcome = trainer_runs.run(store, tmp_path / "cut", *settings)
    assert outcome.resumed_from == 4
    assert differing(outcome.checkpoint, checkpoint.find(learnt)) == []


def test_export_and_policies_have_them_in_their_weights(store: Store, learnt: Path, tmp_path: Path) -> None:
    export = as_safetensors(checkpoint.find(learnt))
    export.write(tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    policy = Policy.load(learnt)
    stored = tensors(checkpoint.find(learnt))
    layer = "backbone.decoder.blocks.1.mlp.up"
    base, down, up = stored[f"model/{layer}.weight"], *(stored[f"ema/{layer}.lora_{x}"] for x in "ab")
    delta = 2.0 * (up @ down)
    assert float(delta.abs().max()) > 1e-3
    assert float((written[f"{layer}.weight"] - base - delta).abs().max()) < 1e-6
    weights = dict(policy.model.named_parameters())
    assert weights.keys() == written.keys() and export.num_parameters == sum(
        t.numel() for t in written.values()
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in written.items())
    assert "lora:" not in (tmp_path / "out" / "config.yaml").read_text()


def test_what_adapters_learnt_goes_on_without_them(store: Store, learnt: Path, tmp_path: Path) -> None:
    task = resolve_vla(tiny(store, tmp_path, f"init.weights={learnt}"))
    model = initialise(task.build_model(), task.config.seed)
    task.take_origin(model)
    expected = dict(Policy.load(learnt).model.named_parameters())
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_that_would_count_otherwise_are_not_taken(
    store: Store, learnt: Path, tmp_path: Path
) -> None:
    more = "model.lora.alpha=16"
    task = resolve_vla(tiny(store, tmp_path, LORA, more, f"init.weights={learnt}"))
    with pytest.raises(FoundryError, match="count alpha / rank = 2 there and 8 here"):
        task.check_origin()
    only = resolve_vla(tiny(store, tmp_path, LORA, more, f"init.weights={learnt}", "init.only=[head]"))
    only.check_origin()
    assert only.config.model.lora.scale == 8


def test_a_vision_language_model_fills_what_adapters_stand_beside(store: Store, tmp_path: Path) -> None:
    vlm_runs.run(vlm_runs.make_store(tmp_path / "pairs"), tmp_path / "vlm", "run.steps=2")
    task = resolve_vla(
        tiny(store, tmp_path / "run", LORA, f"init.vlm={tmp_path / 'vlm'}", "model.text_length=12")
    )
    begun = []
    for lora in (task.config.model.lora, LoRAConfig()):
        config = replace(task.config, model=replace(task.config.model, lora=lora))
        model = initialise(replace(task, config=config).build_model(), task.config.seed)
        task.take_origin(model)
        begun.append({name: p.detach() for name, p in model.named_parameters() if not is_adapter(name)})
    adapted, plain = begun
    assert adapted.keys() == plain.keys() and all(torch.equal(adapted[name], plain[name]) for name in plain)


def test_layers_of_a_backbone_of_others_get_them_as_well() -> None:
    values = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 300,
    }  # fmt: skip
    backbone = ForeignLLMConfig(values, ViTConfig(patch=4, width=16, depth=1, heads=2, mlp_hidden=32))
    plain_config = VLAConfig(
        backbone, taps=2, tap_width=16, head=FlowConfig(width=16, depth=1, heads=2), draws=3
    )
    lora = LoRAConfig(rank=2, parts=("q_proj", "v_proj"))
    plain, adapted = (make(config, seed=0) for config in (plain_config, replace(plain_config, lora=lora)))
    inputs = make_inputs(["pick", "put it down"])
    assert torch.equal(adapted(inputs)["action"][0], plain(inputs)["action"][0])
    learning = {name for name, p in adapted.backbone.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 2 * 2 and all(map(is_adapter, learning))
    names = {name for name, _ in adapted.named_parameters() if not is_adapter(name)}
    assert names == {name for name, _ in plain.named_parameters()}
