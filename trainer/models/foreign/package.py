"""Modules of `transformers` made of the values of a config.json alone: no file, no weights, no remote code.

The package is imported where one is made, and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.models.layers.initial import Constant, Distribution, Normal
from robot_foundry.trainer.models.layers.lora import is_adapter


def transformers() -> ModuleType:
    """The package. FoundryError if it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise FoundryError(
            "a backbone of another needs the package transformers, which is not installed",
            hint="pip install 'robot-foundry[hf]'",
        ) from error
    return transformers


def made_config(values: Mapping[str, Any]) -> Any:
    """The config of `transformers` that these values make; FoundryError where they make none."""
    package = transformers()
    known = package.CONFIG_MAPPING
    name = values.get("model_type")
    if not isinstance(name, str) or name not in known:
        near = nearest(str(name), list(known.keys()))
        raise FoundryError(f"transformers {package.__version__} has no model_type {name!r}{near}")
    if values.get("quantization_config") is not None:
        raise FoundryError(
            f"the weights of this {name} are quantised", hint="start from those before they were"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are older than the package
            return known[name].from_dict({k: v for k, v in values.items() if k != "auto_map"})
    except Exception as error:  # each model checks its values in its own way
        raise FoundryError(f"the values of its config.json make no {name}: {error}") from error


def made_model(config: Any) -> Any:
    """The body of a model, without what writes text; in float32, on the default device.

    On the meta device its constants have values all the same.
    """
    model = transformers().AutoModel.from_config(
        config, dtype=torch.float32, attn_implementation=_attention(config)
    )
    _fill_constants(model)
    return model.eval()  # a module begins as one that trains, with its dropout


def _attention(config: Any) -> str:
    """Soft caps on attention are a matter of the spelled-out kind alone."""
    text = config.get_text_config()
    return "eager" if getattr(text, "attn_logit_softcapping", None) is not None else "sdpa"


def _fill_constants(model: Any) -> None:
    """Values for buffers on the meta device: no checkpoint has them, so each model knows how to make them."""
    empty: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
                empty[f"{path}.{name}"] = module
    first, second = (_made_constants(model, empty, fill) for fill in (0, 1))
    if unset := [path for path in empty if not torch.equal(first[path], second[path])]:
        raise FoundryError(f"transformers does not say which values {unset[0]} has without weights")


@torch.no_grad()
def _made_constants(model: Any, empty: Mapping[str, nn.Module], fill: int) -> dict[str, Tensor]:
    """The buffers as the model makes them, which hold `fill` before; those it does not make still do."""
    buffers = {path: module.get_buffer(path.rpartition(".")[2]) for path, module in empty.items()}
    for buffer in buffers.values():
        buffer.fill_(fill)
    owners = {path: part for path, part in model.named_modules() if hasattr(part, "_init_weights")}
    with torch.device("cpu"):
        for path, module in empty.items():
            # The innermost model that a module is of; parameters have no memory, so nothing else is filled.
            inside = [owner for owner in owners if not owner or f"{path}.".startswith(f"{owner}.")]
            owners[max(inside, key=len)]._init_weights(module)
    return {path: buffer.clone() for path, buffer in buffers.items()}


def initial(module: nn.Module) -> dict[str, Distribution]:
    """How parameters of such a module begin where no weights are given: as `transformers` has it."""
    rules: dict[str, Distribution] = {}
    for path, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            if is_adapter(name):  # begins as adapters do
                continue
            rules[f"{path}.{name}".lstrip(".")] = _rule(part, name, parameter.ndim)
    return rules


def _rule(part: nn.Module, name: str, axes: int) -> Distribution:
    if axes > 1:
        return Normal(0.02)
    # Norms of Gemma scale by 1 + weight.
    is_scale = name == "weight" and not type(part).__name__.startswith("Gemma")
    return Constant(1.0 if is_scale else 0.0)
