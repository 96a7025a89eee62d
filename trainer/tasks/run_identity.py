"""What makes two runs over mixtures the same run, and where a run comes from."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.order import ORDER_VERSION
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.later import without_later
from robot_foundry.trainer.ranks.agreement import versions
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.recipes.layers import overlay
from robot_foundry.trainer.tasks.mixtures import MixtureSettings


def decisive(config: Any) -> dict[str, Any]:
    """What of a task's configuration decides the weights, without where they are written and how fast."""
    values = resolved(config)
    del values["run"], values["name"], values["data"]["threads"]
    _leave_mixture_out(values["data"])
    for name, settings in vars(config.data).items():
        if isinstance(settings, MixtureSettings) and settings.mix is None:
            del values["data"][name]  # what there is none of decides nothing
        elif isinstance(settings, MixtureSettings):
            _leave_mixture_out(values["data"][name])
    if not config.init.begins:
        del values["init"]
    return values


def _leave_mixture_out(values: dict[str, Any]) -> None:
    """Without what names a mixture, whose id stands for it."""
    for item in fields(MixtureSettings):
        del values[item.name]


def identity(mixture: Mixture, deciding: Mapping[str, Any], origin: str | None) -> dict[str, Any]:
    """What a run is, as JSON: what it reads in which order, the id of its `origin`, and all that decides."""
    order = {"mixture": mixture.id, "order_version": ORDER_VERSION}
    began = {} if origin is None else {"origin": origin}
    return {**order, **began, **json.loads(json.dumps(deciding))}


def completed(before: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """The identity of a checkpoint's run as it would be now: keys that are newer than it have their defaults,
    which are those of the configuration `default`."""
    return overlay(json.loads(json.dumps(decisive(default))), before)


def default_dir(config: Any, mixture_id: str, deciding: Mapping[str, Any] | None = None) -> str:
    """The folder of a run that names none: runs of equal weights share it, also with those of older versions.

    `deciding` is what of the configuration decides the weights, where that is not `decisive` of it.
    """
    deciding = decisive(config) if deciding is None else deciding
    named = {"config": without_later(deciding, config), "mixture": mixture_id}
    few = config.data.overfit
    name = config.name if few is None else f"{config.name}-overfit{few}"
    return f"runs/{name}-{digest_of(named)[:8]}"


def lineage(
    opened: OpenMixture, seed: int, init: Mapping[str, Any] | None, orders: Mapping[str, str]
) -> dict[str, Any]:
    """Where a run comes from; `init` says which weights it began with, `orders` the order of each stream by
    its name."""
    store, mixture = opened.store, opened.mixture
    return {
        "init": init,
        "mixture_id": mixture.id,
        "mixture": mixture.to_json(),
        "store": store.url if "://" in store.url else str(Path(store.url).resolve()),
        "seed": seed,
        "order_version": ORDER_VERSION,
        "order": digest_of(list(orders.values())),
        "orders": dict(orders),
        "code": versions(),
        "packages": {name: package_version(name) for name in ("robot-foundry", "torch", "numpy")},
        "python": platform.python_version(),
    }
