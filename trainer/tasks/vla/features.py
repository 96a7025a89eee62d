"""The features of a backbone that does not move, kept in the store: a function of pictures and words alone.

They are known by all that decides their bits: the weights and the shape of the backbone, the code of the
models, what computes, and of each sample the pictures in the size in which they are seen, which of them are
there, and the tokens.
Shapes: B batch, V views, H W pixels, S tokens, K `<obs>` tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import torch
from blake3 import blake3

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.distributed.cluster import package_versions
from robot_foundry.runtime.distributed.shipping import ROOT
from robot_foundry.runtime.errors import FoundryWarning, UsageError
from robot_foundry.trainer.features.kept import KeptFeatures
from robot_foundry.trainer.features.segments import KEY_BYTES
from robot_foundry.trainer.models.layers.lora import is_adapter
from robot_foundry.trainer.models.vla import VLA, Inputs, VLAConfig
from robot_foundry.trainer.ranks.machine import facts
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.settings import RunConfig

KEY = "data.cache_features"
# Of the model's keys those that change no feature.
_BEHIND_FEATURES = (
    "tap_width", "head", "text_length", "draws", "density", "state_noise", "state_dropout", "objective",
    "backbone_grad_scale", "insulate",
)  # fmt: skip
_MODELS = ROOT / "trainer" / "models"


def obstacle(model: VLA) -> str | None:
    """Why the features of a model change as it learns; None where all that they depend on is frozen."""
    learning = [name for name, tensor in model.before_features().items() if tensor.requires_grad]
    if not learning:
        return None
    if all(map(is_adapter, learning)):
        return f"model.lora.rank={model.config.lora.rank} gives the backbone adapters, which learn"
    first = next(name for name in learning if not is_adapter(name))
    part = first.split(".")[0]
    return f"{first} learns, which {part}: 0 in optim.lr_scales would freeze"


def check_constant(why: str | None) -> None:
    """UsageError where features would be kept that change, for a reason that `obstacle` gives."""
    if why is not None:
        raise UsageError(f"{KEY}: features cannot be kept, as {why}", hint=f"or leave {KEY} out")


@contextmanager
def kept_features(model: VLA, store: Store, run: RunConfig, ranks: Ranks) -> Iterator[tuple[str, ...]]:
    """Around training: let the model, which has its weights, keep its features in the store.

    Gives a note on what is there; what came of it is told at the end. UsageError where they change.
    """
    check_constant(obstacle(model))
    folder = store.features_cache(features_id(model, run, ranks))
    with KeptFeatures(store.storage, folder, model.feature_shape) as kept:
        model.kept = kept
        try:
            yield (f"features of the frozen backbone are kept in {folder}, which holds {_amount(kept)}",)
        finally:
            model.kept = None
    if ranks.is_main:
        warnings.warn(
            f"features of {kept.made:,} samples were made and {kept.found:,} times found; "
            f"{folder} holds {_amount(kept)}",
            FoundryWarning,
            stacklevel=2,
        )


def features_id(model: VLA, run: RunConfig, ranks: Ranks) -> str:
    """Equal for models and machines that make the same bits of the same sample.

    Each row is computed alone on one thread, so neither ranks nor microbatches nor threads are in it.
    """
    versions = package_versions(_MODELS, ("torch", "transformers"))
    computing = {name: of for name, of in facts(ranks, run).items() if name not in ("threads", "accumulate")}
    return digest_of({
        "weights": _digest_of_weights(model),
        "model": _read_by_features(model.config),
        "code": {name: version for name, version in versions.items() if name != "python"},
        "computing": computing,
    })  # fmt: skip


def _read_by_features(config: VLAConfig) -> dict[str, object]:
    return {name: value for name, value in asdict(config).items() if name not in _BEHIND_FEATURES}


def _digest_of_weights(model: VLA) -> str:
    """Of all parameters and constants that features depend on, by name."""
    digest = blake3()
    for name, tensor in sorted(model.before_features().items()):
        values = tensor.detach().cpu().contiguous().flatten()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seen_by_features(inputs: Inputs, num_obs: int) -> tuple[bytes, ...]:
    """Of each row a digest of all that its features depend on beside the model."""
    image_BVHWC, view_mask_BV = inputs.image_BVHWC.numpy(), inputs.view_mask_BV.numpy()
    token_BS, end_B = inputs.token_BS.numpy(), inputs.obs_B.numpy() + num_obs
    shape = [*image_BVHWC.shape[1:], inputs.image_at, num_obs]
    seen = []
    for image_VHWC, is_there_V, token_S, end in zip(image_BVHWC, view_mask_BV, token_BS, end_B, strict=True):
        digest = blake3(canonical_json([shape, is_there_V.tolist(), token_S[:end].tolist()]))
        digest.update(np.ascontiguousarray(image_VHWC[is_there_V]).data)
        seen.append(digest.digest(length=KEY_BYTES))
    return tuple(seen)


def _amount(kept: KeptFeatures) -> str:
    return f"those of {kept.rows:,} samples ({kept.size / 2**20:.1f} MiB)"
