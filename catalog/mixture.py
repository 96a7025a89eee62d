"""Making mixtures: weights and references in, one content-addressed `Mixture` out.

However a mixture was written (inline, stored, nested, refs by tag or number), equal content has the equal id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from robot_foundry.catalog.components import LANES, SPAN, Component, Mixture
from robot_foundry.catalog.kind import MIXTURE
from robot_foundry.catalog.manifest import Manifest, commit, count_names, read_manifest
from robot_foundry.catalog.opened import OpenMixture, OpenVersions, Part
from robot_foundry.catalog.refs import newest_version
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, UsageError

Weight = str | int | float | Fraction
REPEAT_RATIO = 10
Identity = tuple[str, str, bytes]  # dataset, version_id, canonical selection


def parse_weights(text: str) -> dict[str, Fraction]:
    """'sim=0.6,real=2/5' → {'sim': 3/5, 'real': 2/5}: decimals and fractions are taken exactly."""
    weights: dict[str, Fraction] = {}
    for part in text.split(","):
        ref, sign, value = part.strip().rpartition("=")
        if not sign or not ref or not value:
            raise UsageError(
                f"weights '{text}': '{part.strip()}' is not REF=WEIGHT", hint="--weights sim=0.6,real=0.4"
            )
        if ref in weights:
            raise UsageError(f"weights '{text}' name '{ref}' twice")
        weights[ref] = exact_weight(value, ref)
    return weights


def weights_of(text: str) -> dict[str, Fraction]:
    """What a user writes: weights ('sim=0.6,real=0.4'), or a reference alone ('lift', 'lift@v3')."""
    return parse_weights(text) if "=" in text else {text: Fraction(1)}


def exact_weight(value: str | float | Fraction, ref: str) -> Fraction:
    """`value` as an exact positive fraction; a float counts as the decimal it prints as (0.6 is 3/5)."""
    try:
        weight = value if isinstance(value, Fraction) else Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"weight '{value}' of '{ref}' is not a number or fraction") from error
    if weight <= 0:
        raise UsageError(f"weight {value} of '{ref}' is not positive", hint=f"leave '{ref}' out instead")
    return weight


def make_mixture(
    store: Store | OpenVersions,
    weights: Mapping[str, Weight],
    *,
    split: str = "train",
    val_fraction: str = "1/10",
    where: str | None = None,
    split_by: str = "episode",
    gap: int | None = None,
    skip: Sequence[str] = (),
    lanes: int | None = None,
    span: int | None = None,
) -> OpenMixture:
    """The mixture of the references in `weights`, scaled to sum to 1, with its versions open.

    Selection options (see `SelectionSpec`) hold for datasets. A reference to a mixture is replaced by its
    components, which keep their own options apart from `split`; what they skip is added to. Components of
    unlike kinds, and those that their kind cannot mix, raise FoundryError.
    """
    if not weights:
        raise UsageError("a mixture needs at least one REF=WEIGHT")
    spec = SelectionSpec(split=split, val_fraction=val_fraction, where=where, split_by=split_by)
    spec = replace(spec, skip=tuple(skip))
    spec = spec if gap is None else replace(spec, gap=gap)
    versions = OpenVersions.of(store)
    shares: dict[Identity, Fraction] = {}
    inherited: set[tuple[int, int]] = set()
    for ref, value in weights.items():
        opened = versions.open(ref)
        nested = opened.manifest.mixture
        if nested is None:
            version = opened.version
            parts = {(version.dataset, version.version_id, _identity(spec)): Fraction(1)}
        else:
            inherited.add((nested.lanes, nested.span))
            parts = _shares(nested, split, skip)
        for identity, fraction in parts.items():
            shares[identity] = shares.get(identity, Fraction(0)) + exact_weight(value, ref) * fraction
    usual_lanes, usual_span = inherited.pop() if len(inherited) == 1 else (LANES, SPAN)
    return _checked(_opened(versions, shares, lanes or usual_lanes, span or usual_span))


def only(store: Store | OpenVersions, ref: str, spec: SelectionSpec) -> OpenMixture:
    """One dataset as the only component. It is of any kind, also of one that cannot be mixed."""
    versions = OpenVersions.of(store)
    version = versions.open(ref).version
    shares = {(version.dataset, version.version_id, _identity(spec)): Fraction(1)}
    return _opened(versions, shares, LANES, SPAN)


def as_mixture(
    store: Store | OpenVersions,
    ref_or_weights: str | Version | Mapping[str, Weight] | Mixture | OpenMixture,
    *,
    split: str = "train",
    skip: Sequence[str] = (),
) -> OpenMixture:
    """What a recipe or a caller may write, as a mixture over `split` without samples flagged `skip`.

    A reference to a dataset or a mixture, weights as text ('sim=0.6,real=0.4') or mapping, or a Mixture.
    """
    if isinstance(ref_or_weights, OpenMixture):
        return over_split(ref_or_weights, split, skip)
    if isinstance(ref_or_weights, Mixture):
        return _over_split(OpenVersions.of(store), ref_or_weights, split, skip)
    if isinstance(ref_or_weights, Version):
        ref_or_weights = f"{ref_or_weights.dataset}@{ref_or_weights.version_id}"
    if isinstance(ref_or_weights, str):
        ref_or_weights = weights_of(ref_or_weights)
    return make_mixture(store, ref_or_weights, split=split, skip=skip)


def over_split(opened: OpenMixture, split: str, skip: Sequence[str] = ()) -> OpenMixture:
    """The same mixture over another split, and without samples flagged `skip`."""
    return _over_split(opened.versions, opened.mixture, split, skip)


def commit_mixture(opened: OpenMixture, name: str) -> Version:
    """Store a mixture as the next version of `name` (or find it there already)."""
    check_name(name)
    store, mixture, kind = opened.store, opened.mixture, opened.kind
    counts = dict.fromkeys(count_names(kind), 0) | {
        "discovered": len(mixture.components),
        "written": len(mixture.components),
        kind.groups: sum(part.select().num_groups for part in opened.parts),
        kind.samples: sum(component.num_samples for component in mixture.components),
    }
    manifest = Manifest(name, mixture.id, None, MIXTURE, counts=counts, mixture=mixture, of=kind.name)
    newest = newest_version(store, name)
    # The newest may be this very mixture, made again because its manifest was damaged and deleted.
    if newest is not None and newest.version_id != manifest.version_id:
        there = read_manifest(store, newest)
        if there.mixture is None:
            raise FoundryError(
                f"'{name}' is a dataset; give the mixture another name", hint="foundry-data ls"
            )
        if there.of != kind.name:
            raise FoundryError(
                f"'{name}' mixes {there.holds.samples}; give this mixture of {kind.samples} another name",
                hint="foundry-data ls",
            )
    return commit(store, manifest)


def weight_doubts(mixture: Mixture, weights: Mapping[str, Weight] | None = None) -> list[str]:
    """What is allowed of shares and probably not meant, one sentence each. `weights` are those that were
    asked for."""
    doubts = []
    total = sum((exact_weight(value, ref) for ref, value in (weights or {}).items()), Fraction(0))
    # Weights of 1 and more are ratios; shares that do not make a whole are a slip of the pen.
    if weights and total != 1 and all(exact_weight(value, ref) < 1 for ref, value in weights.items()):
        doubts.append(f"the weights sum to {float(total):g}; they were scaled to sum to 1")
    repeats = {c.name: c.fraction / c.num_samples for c in mixture.components}
    most, least = max(repeats, key=lambda name: repeats[name]), min(repeats, key=lambda name: repeats[name])
    if repeats[most] > REPEAT_RATIO * repeats[least]:
        ratio = float(repeats[most] / repeats[least])
        doubts.append(f"'{most}' is repeated {ratio:.1f} times while '{least}' is seen once")
    return doubts


def _over_split(versions: OpenVersions, mixture: Mixture, split: str, skip: Sequence[str]) -> OpenMixture:
    return _checked(_opened(versions, _shares(mixture, split, skip), mixture.lanes, mixture.span))


def _shares(mixture: Mixture, split: str, skip: Sequence[str]) -> dict[Identity, Fraction]:
    """What each component contributes, with another split and more that it skips."""
    shares: dict[Identity, Fraction] = {}
    for component in mixture.components:
        spec = SelectionSpec.from_json(component.selection)
        spec = replace(spec, split=split, skip=(*spec.skip, *skip))
        identity = (component.dataset, component.version_id, _identity(spec))
        shares[identity] = shares.get(identity, Fraction(0)) + component.fraction
    return shares


def _identity(spec: SelectionSpec) -> bytes:
    return canonical_json(spec.to_json())


def _opened(
    versions: OpenVersions, shares: Mapping[Identity, Fraction], lanes: int, span: int
) -> OpenMixture:
    """Components in canonical order, scaled to sum to 1, each with a name of its own, and open."""
    total = sum(shares.values(), Fraction(0))
    parts: list[Part] = []
    for (dataset, version_id, spec), weight in sorted(shares.items()):
        same_dataset = [other for other in shares if other[0] == dataset]
        same_version = [other for other in same_dataset if other[1] == version_id]
        name = dataset if len(same_dataset) == 1 else f"{dataset}@{version_id[:12]}"
        if len(same_version) > 1:
            name += f".{sorted(same_version).index((dataset, version_id, spec))}"
        opened = versions.open_id(dataset, version_id)
        selected = opened.select(json.loads(spec))
        share = str(weight / total)
        component = Component(name, dataset, version_id, share, selected.spec.to_json(), selected.num_samples)
        parts.append(Part(component, opened))
    mixture = Mixture(tuple(part.component for part in parts), lanes, span)
    return OpenMixture(mixture, tuple(parts), versions)


def _checked(made: OpenMixture) -> OpenMixture:
    """The mixture, whose components their kind can mix."""
    made.kind.check_mixed(made)
    return made
