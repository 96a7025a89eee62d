"""From the configuration of a policy to what it is trained on, found in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from robot_foundry.catalog.mixture import make_mixture, parse_weights
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.selection import DEFAULT_FRACTION, SPLIT_BY, SelectionSpec
from robot_foundry.catalog.store import as_store
from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.tasks.vla.config import DataConfig, VLATaskConfig
from robot_foundry.trainer.tasks.vla.origin import find_origin
from robot_foundry.trainer.tasks.vla.policy_spaces import mixture_spaces
from robot_foundry.trainer.tasks.vla.vla_task import VLATask
from robot_foundry.windows.mixtures import warnings_for, window_rows


def resolve_vla(config: VLATaskConfig) -> VLATask:
    """Find the mixture and its spaces; reads the store, writes nothing."""
    versions = OpenVersions(as_store(config.data.store))
    data, window = config.data, config.data.window
    assert data.mix is not None
    weights = mix_weights(data.mix)
    _check_held_out(versions, weights, data)
    split_by, val_fraction = data.split_by or SPLIT_BY[0], data.val_fraction or DEFAULT_FRACTION
    by_time = split_by == "time"
    opened = make_mixture(
        versions,
        weights,
        split_by=split_by,
        val_fraction=val_fraction,
        gap=window_rows(make_mixture(versions, weights), window.timing) if by_time else None,
        skip=window.skipped,
    )
    spaces = mixture_spaces(opened, config)
    warnings = warnings_for(opened, weights, timing=window.timing)
    for dataset in spaces.datasets:
        warnings += base_axes_note(dataset.name, dataset.state, dataset.action, window.representation)
    task = VLATask(config, opened, spaces, tuple(warnings))
    if config.init.weights is None:
        return task
    return replace(task, origin=find_origin(config.init.weights, task.run_dir))


def mix_weights(mix: str) -> dict[str, Fraction]:
    """The references of `data.mix` and their weights."""
    return parse_weights(mix) if "=" in mix else {mix: Fraction(1)}


def pinned(config: VLATaskConfig) -> VLATaskConfig:
    """The same configuration with the very versions that its references mean now."""
    assert config.data.mix is not None
    store = as_store(config.data.store)
    shares: dict[str, Fraction] = {}
    for ref, weight in mix_weights(config.data.mix).items():
        resolved = resolve(store, ref)
        version = f"{resolved.dataset}@{resolved.version_id}"
        shares[version] = shares.get(version, Fraction(0)) + weight
    mix = ",".join(f"{version}={weight}" for version, weight in shares.items())
    return replace(
        config, data=replace(config.data, mix=mix if "=" in config.data.mix else next(iter(shares)))
    )


def _check_held_out(versions: OpenVersions, weights: Mapping[str, Fraction], data: DataConfig) -> None:
    """A stored mixture says itself what is held out: UsageError where the recipe says something else."""
    for ref in weights:
        stored = versions.open(ref).manifest.mixture
        for component in stored.components if stored is not None else ():
            selection = SelectionSpec.from_json(component.selection)
            asked = replace(
                selection,
                split_by=data.split_by or selection.split_by,
                val_fraction=data.val_fraction or selection.val_fraction,
            )
            for name in ("split_by", "val_fraction"):
                here, there = getattr(asked, name), getattr(selection, name)
                if here != there:
                    raise UsageError(
                        f"data.{name} is {here}, but the stored mixture '{ref}' was made with {there}",
                        hint=f"leave data.{name} out, or make a mixture with it: foundry-data mix",
                    )
