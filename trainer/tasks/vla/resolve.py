"""What a run is trained on, resolved against the store, and what its checkpoints say about it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import torch

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.mixture import make_mixture, parse_weights
from robot_foundry.catalog.refs import component_version, resolve
from robot_foundry.catalog.selection import DEFAULT_FRACTION, SPLIT_BY, SelectionSpec
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.ingest.robot.interface import interface_of
from robot_foundry.loader.order import ORDER_VERSION
from robot_foundry.normalization.report import HEADERS, as_text
from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.recipes.reader import decisive, default_dir, resolved, write_yaml
from robot_foundry.trainer.tasks.vla.build import (
    Spaces,
    build_model,
    fit_scales,
    geometry,
    mixture_spaces,
    scales_report,
    scales_to_json,
)
from robot_foundry.trainer.tasks.vla.config import KEEP, Config, DataConfig
from robot_foundry.trainer.tasks.vla.inputs import Scales
from robot_foundry.trainer.tasks.vla.origin import Origin
from robot_foundry.windows.mixing import warnings_for, window_rows


@dataclass(frozen=True)
class Job:
    """What is trained on, resolved against the store."""

    config: Config
    store: Store
    mixture: Mixture
    spaces: Spaces
    notes: tuple[str, ...]
    origin: Origin | None = None  # what its first weights come from

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run.dir or default_dir(self.config, self.mixture.id))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        return {
            "mixture": self.mixture.id,
            "order_version": ORDER_VERSION,
            **({} if self.origin is None else {"origin": self.origin.id}),
            **json.loads(json.dumps(decisive(self.config))),
        }


def resolve_job(config: Config) -> Job:
    """Find the mixture and its spaces; reads the store, writes nothing."""
    store = as_store(config.data.store)
    data, window = config.data, config.data.window
    assert data.mix is not None
    weights = mix_weights(data.mix)
    _check_held_out(store, weights, data)
    split_by, val_fraction = data.split_by or SPLIT_BY[0], data.val_fraction or DEFAULT_FRACTION
    by_time = split_by == "time"
    mixture = make_mixture(
        store,
        weights,
        split_by=split_by,
        val_fraction=val_fraction,
        gap=window_rows(store, make_mixture(store, weights), window.timing) if by_time else None,
        skip=window.skipped,
    )
    spaces = mixture_spaces(store, mixture, config)
    warnings = warnings_for(store, mixture, weights, timing=window.timing)
    for own in spaces.datasets:
        warnings += base_axes_note(own.name, own.state, own.action, window.representation)
    job = Job(config, store, mixture, spaces, tuple(warnings))
    return (
        job if config.init.weights is None else replace(job, origin=_origin(config.init.weights, job.run_dir))
    )


def mix_weights(mix: str) -> dict[str, Fraction]:
    """The references of `data.mix` and their weights."""
    return parse_weights(mix) if "=" in mix else {mix: Fraction(1)}


def pinned(config: Config) -> Config:
    """The same configuration with the very versions that its references mean now."""
    assert config.data.mix is not None
    store = as_store(config.data.store)
    shares: dict[str, Fraction] = {}
    for ref, weight in mix_weights(config.data.mix).items():
        found = resolve(store, ref)
        version = f"{found.dataset}@{found.version_id}"
        shares[version] = shares.get(version, Fraction(0)) + weight
    mix = ",".join(f"{version}={weight}" for version, weight in shares.items())
    return replace(
        config, data=replace(config.data, mix=mix if "=" in config.data.mix else next(iter(shares)))
    )


def _check_held_out(store: Store, weights: Mapping[str, Fraction], data: DataConfig) -> None:
    """A stored mixture says itself what is held out: UsageError where the recipe says something else."""
    for ref in weights:
        stored = known_manifest(store, resolve(store, ref)).mixture
        for component in stored.components if stored is not None else ():
            own = SelectionSpec.from_json(component.selection)
            asked = replace(
                own,
                split_by=data.split_by or own.split_by,
                val_fraction=data.val_fraction or own.val_fraction,
            )
            for name in ("split_by", "val_fraction"):
                here, there = getattr(asked, name), getattr(own, name)
                if here != there:
                    raise UsageError(
                        f"data.{name} is {here}, but the stored mixture '{ref}' was made with {there}",
                        hint=f"leave data.{name} out, or make a mixture with it: foundry-data mix",
                    )


def check_origin(job: Job) -> None:
    """FoundryError where the weights that the run starts from do not fit its model; allocates nothing."""
    if job.origin is not None:
        with torch.device("meta"):
            model = build_model(job.config.model, geometry(job.config, job.spaces), job.config.seed)
        job.origin.check(model, job.spaces, job.config.init.only)


def first_scales(job: Job, *, quiet: bool = True) -> Scales:
    """The normalisers of a run that starts: fitted to its training split, or kept from its origin."""
    if job.origin is not None and job.config.init.normalizer == KEEP:
        kept = job.origin.keep_scales(job.spaces, job.config.data)
        horizon = geometry(job.config, job.spaces).horizon
        unlike = {len(normalizer.offsets) for normalizer in kept.action} - {0, horizon}
        if unlike:
            raise FoundryError(
                f"the normaliser of {job.origin.folder} has scales for {min(unlike)} steps, "
                f"chunks have {horizon}",
                hint="give the horizon that it has, or init.normalizer=refit",
            )
        return kept
    return fit_scales(job.store, job.mixture, job.config, job.spaces, quiet=quiet)


def checkpoint_files(job: Job, scales: Scales) -> dict[str, str]:
    """What a policy needs besides weights: the readable files that are equal in all checkpoints of a run."""
    values = {
        "normalizer.json": scales_to_json(scales),
        "tokenizer.json": ByteTokenizer(job.config.model.text_length).to_json(),
        "spaces.json": job.spaces.to_json(),
        "robots.json": _robots(job),
    }
    texts = {name: json.dumps(value, indent=1, allow_nan=False) for name, value in values.items()}
    report = as_text(scales_report(scales, job.spaces), ("of", "dataset", *HEADERS))
    return {"config.yaml": write_yaml(resolved(job.config)), "normalizer.txt": f"{report}\n", **texts}


def lineage(job: Job, before: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run comes from. `before` is that of the checkpoint that it goes on from, empty if from none."""
    origin = job.origin.to_json() if job.origin else None
    return {
        "init": before.get("init") if before else origin,
        "mixture_id": job.mixture.id,
        "mixture": job.mixture.to_json(),
        "store": job.store.url if "://" in job.store.url else str(Path(job.store.url).resolve()),
        "seed": job.config.seed,
        "order_version": ORDER_VERSION,
        "packages": {name: package_version(name) for name in ("robot-foundry", "torch", "numpy")},
        "python": platform.python_version(),
    }


def _robots(job: Job) -> dict[str, Any]:
    """How each dataset was made of its source; those whose versions do not say are left out."""
    found = {
        component.name: interface_of(known_manifest(job.store, component_version(job.store, component)))
        for component in job.mixture.components
    }
    return {name: interface.to_json() for name, interface in found.items() if interface is not None}


def _origin(where: str, run_dir: Path) -> Origin | None:
    """What a run starts from; one that has checkpoints of its own needs it no more, so it may be gone."""
    try:
        return Origin.find(where)
    except FoundryError:
        if checkpoint.latest(run_dir) is None:
            raise
        return None
