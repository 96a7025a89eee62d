"""Mixtures that tasks learn from: the settings that name one, how it is found in the store, and its batches.

Nothing here knows which kind of data a mixture is of; its samples have settings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import make_mixture, over_split, weights_of
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.selection import DEFAULT_FRACTION, SPLIT_BY, SelectionSpec
from robot_foundry.catalog.store import as_store
from robot_foundry.loader.kind import SampleSettings, kind_of
from robot_foundry.loader.load import load
from robot_foundry.loader.order import ORDER_VERSION
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import NothingSelected, UsageError
from robot_foundry.runtime.later import later
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.recipes.ranges import at_least, choice
from robot_foundry.trainer.settings import RunConfig
from robot_foundry.trainer.streams import TRAIN, Amounts, Inputs, Preparation, Rows, Stream
from robot_foundry.trainer.tasks.datasets import OfDatasets, dataset_names


@dataclass(frozen=True)
class MixtureSettings:
    """What is trained on, and what of it is held out."""

    mix: str | None = None  # a reference (lift, lift@v3) or weights (sim=0.6,real=0.4)
    store: str | None = None  # folder or URL; default: $FOUNDRY_STORE, else ./store
    split_by: str | None = None  # held out: `episode` (the default) whole ones, `time` the end of each
    val_fraction: str | None = None  # held out, by default 1/10; a stored mixture says both itself


@dataclass(frozen=True)
class BatchSettings:
    """How much of it is taken at once."""

    global_batch: int = 32  # samples an optimiser step, over all ranks and microbatches
    threads: int = 1  # decoding threads a rank
    overfit: int | None = later(None)  # learn the first so many samples of the order again and again


def mixture_problems(mixture: MixtureSettings, batch: BatchSettings) -> Iterator[str]:
    """One line for every value of `data` that is out of range."""
    if not mixture.mix:
        yield "data.mix: is missing; give a dataset (data.mix=lift) or weights (data.mix=sim=0.6,real=0.4)"
    yield from at_least(1, "data", batch, "global_batch", "threads", "overfit")
    if mixture.split_by is not None:
        yield from choice("data.split_by", mixture.split_by, SPLIT_BY)


def whole_problems(mixture: MixtureSettings, groups: str, section: str = "data") -> Iterator[str]:
    """A line unless groups of the data, which `groups` names, are held out whole: no part of one can be."""
    if mixture.split_by not in (None, SPLIT_BY[0]):
        told = f"{groups} are held out whole, leave it out; it is '{mixture.split_by}'"
        yield f"{section}.split_by: {told}"


class OfTokenRows:
    """How long a run is, as its configuration says, of which a sample is a row of tokens."""

    data: Any  # BatchSettings, whose `rows` have a `length`
    run: RunConfig

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.run.num_steps(self.global_batch, self.data.rows.length)

    @property
    def global_batch(self) -> int:
        """Rows of an optimiser step."""
        rows: int = self.data.global_batch
        return rows


def find_mixture(
    data: MixtureSettings,
    samples: SampleSettings,
    *,
    kind: str,
    source: str,
    key: str = "data.mix",
    gap: Callable[[OpenMixture], int] | None = None,
) -> OpenMixture:
    """The training split of what `data` names, of data of that kind; reads the store, writes nothing.

    `source` says for a user where data of the kind comes from, `key` which key of the recipe names it. `gap`
    says how many samples lie between the splits of a group that is held out in part; without it groups are
    held out whole.
    """
    versions = OpenVersions(as_store(data.store))
    weights = mix_weights(data)
    for ref in weights:
        if (held := versions.open(ref).kind.name) != kind:
            raise UsageError(f"{key}: '{ref}' is of the kind {held}, this trains on {kind}", hint=source)
    _check_held_out(versions, weights, data)
    split_by = data.split_by or SPLIT_BY[0]
    return make_mixture(
        versions,
        weights,
        split_by=split_by,
        val_fraction=data.val_fraction or DEFAULT_FRACTION,
        gap=gap(make_mixture(versions, weights)) if gap is not None and split_by == "time" else None,
        skip=samples.skipped,
    )


def mix_weights(data: MixtureSettings) -> dict[str, Fraction]:
    """The references of `data.mix` and their weights."""
    assert data.mix is not None
    return weights_of(data.mix)


def pins(data: MixtureSettings) -> list[str]:
    """The very versions that the references of the settings, and of those in them, mean now: as overrides of
    a recipe whose section `data` they are."""
    within = {name: value for name, value in vars(data).items() if isinstance(value, MixtureSettings)}
    found = [f"data.mix={_pinned(data, data.store)}"]
    for name, settings in within.items():
        if settings.mix is not None:
            found.append(f"data.{name}.mix={_pinned(settings, settings.store or data.store)}")
    return found


def _pinned(data: MixtureSettings, where: str | None) -> str:
    store = as_store(where)
    shares: dict[str, Fraction] = {}
    for ref, weight in mix_weights(data).items():
        resolved = resolve(store, ref)
        version = f"{resolved.dataset}@{resolved.version_id}"
        shares[version] = shares.get(version, Fraction(0)) + weight
    mix = ",".join(f"{version}={weight}" for version, weight in shares.items())
    return mix if "=" in str(data.mix) else next(iter(shares))


def open_stream(
    opened: OpenMixture,
    samples: SampleSettings,
    batch: BatchSettings,
    inputs_of: Callable[[Any], Inputs],
    *,
    split: str,
    seed: int,
    accumulate: int,
    ranks: Ranks,
    taken: Callable[[Any], Rows] | None = None,
    amounts: Amounts | None = None,
    told_apart: bool = False,
    repeat: int | None = None,
) -> Stream:
    """The rank's batches of a split of a run, prepared; NothingSelected where it has no samples.

    `taken` says what of a batch is used, all of it without; `amounts` what the rows of a training batch stand
    for beside its own sizes; `told_apart` that its losses are by dataset as well. Microbatches are for
    gradients, so that held-out batches are whole. The loader puts no limit on the share of substitutes: the
    trainer does, over all ranks. `repeat` is how many samples are learnt again and again, if not all; then
    nothing is held out.
    """
    training = split == TRAIN
    if repeat is not None and not training:
        raise NothingSelected("data.overfit learns the same samples again and again, so that none tells more")
    if training and told_apart and dataset_names(opened):
        inputs_of = OfDatasets(inputs_of, len(opened.parts))
    prepare = Preparation(
        inputs_of, amounts if training else None, taken, accumulate=accumulate if training else 1,
        pinned=ranks.device.type == "cuda",
    )  # fmt: skip
    return load(
        opened, samples, seed=seed, global_batch=batch.global_batch, rank=ranks.rank, world=ranks.size,
        threads=batch.threads, split="train" if training else "val", max_substituted=1.0, prepare=prepare,
        repeat=repeat,
    )  # fmt: skip


def mixture_rows(mixture: Mixture) -> list[dict[str, Any]]:
    """The mixture as a table: what, which version, its exact weight and size."""
    return [asdict(component) | {"selection": dict(component.selection)} for component in mixture.components]


def counts_of(opened: OpenMixture, settings: SampleSettings, *, split: str = "train") -> Sequence[int]:
    """How many samples a split of each component has; NothingSelected where one has none."""
    return kind_of(opened).counts(over_split(opened, split, settings.skipped), settings)


def order_digest(
    opened: OpenMixture, samples: SampleSettings, global_batch: int, seed: int, repeat: int | None = None
) -> str:
    """Equal for runs whose steps draw the same samples in the same order, whatever they make of them."""
    counts = [int(count) for count in counts_of(opened, samples)]
    deciding = {"mixture": opened.mixture.id, "counts": counts, "seed": seed}
    deciding |= {} if repeat is None else {"repeat": repeat}
    return digest_of({**deciding, "global_batch": global_batch, "order_version": ORDER_VERSION})


def epochs_of(opened: OpenMixture, settings: SampleSettings, samples: int) -> tuple[float, ...]:
    """How often a run of that many samples sees each component."""
    components = zip(opened.mixture.components, kind_of(opened).counts(opened, settings), strict=True)
    return tuple(float(samples * component.fraction / count) for component, count in components)


def _check_held_out(versions: OpenVersions, weights: Mapping[str, Fraction], data: MixtureSettings) -> None:
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
