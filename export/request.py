"""What is to be exported: a reference, what is selected of it, where it goes, and options of the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robot_foundry.catalog.mixture import make_mixture, only, weights_of
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.selection import DEFAULT_FRACTION, DEFAULT_GAP, SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.export.excluded import without
from robot_foundry.runtime.errors import UsageError


@dataclass(frozen=True)
class ExportRequest:
    """`ref` is a version, a mixture, or weights; the selection is as `SelectionSpec` has it.

    `exclude` are names of groups (of robots: keys or ids of episodes) that stay behind. `options` are those
    of the format, all of them, with their defaults. Nothing is written in a `dry_run`. `workers` are
    processes, 0 is inline, and change no byte.
    """

    ref: str
    out: Path
    split: str = "all"
    val_fraction: str = DEFAULT_FRACTION
    split_by: str = "episode"
    gap: int = DEFAULT_GAP
    where: str | None = None
    skip: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    workers: int = 0


@dataclass(frozen=True)
class Selected:
    """The components of a request, opened. A version alone is a mixture of one, and `is_mixture` is False."""

    mixture: OpenMixture
    is_mixture: bool


def selected(request: ExportRequest, store: Store | OpenVersions) -> Selected:
    """What the request selects in a store. UsageError where it contradicts itself."""
    weights = weights_of(request.ref)
    versions = OpenVersions.of(store)
    is_mixture = len(weights) > 1 or any(versions.open(ref).manifest.mixture is not None for ref in weights)
    stored = [ref for ref in weights if versions.open(ref).manifest.mixture is not None]
    if stored and (request.where is not None or request.exclude):
        raise UsageError(
            f"'{stored[0]}' is a mixture, whose components have conditions of their own",
            hint="export its components one by one, or give them as weights: sim=0.6,real=0.4",
        )
    where = without(request.where, request.exclude, [versions.open(ref) for ref in weights])
    spec = SelectionSpec(
        split=request.split,
        val_fraction=request.val_fraction,
        where=where,
        split_by=request.split_by,
        gap=request.gap,
        skip=request.skip,
    )
    if not is_mixture:
        return Selected(only(versions, next(iter(weights)), spec), is_mixture)
    return Selected(make_mixture(versions, weights, **asdict(spec)), is_mixture)
