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
from robot_foundry.catalog.manifest import Manifest, commit, known_manifest
from robot_foundry.catalog.refs import component_version, datasets, resolve
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, UsageError

Weight = str | int | float | Fraction
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
    store: Store,
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
) -> Mixture:
    """The mixture of the references in `weights`, scaled to sum to 1.

    Selection options (see `SelectionSpec`) hold for datasets. A reference to a mixture is replaced by its
    components, which keep their own options apart from `split`; what they skip is added to. Unions that
    cannot be united raise FoundryError.
    """
    if not weights:
        raise UsageError("a mixture needs at least one REF=WEIGHT")
    spec = SelectionSpec(split=split, val_fraction=val_fraction, where=where, split_by=split_by)
    spec = replace(spec, skip=tuple(skip))
    spec = spec if gap is None else replace(spec, gap=gap)
    shares: dict[Identity, Fraction] = {}
    inherited: set[tuple[int, int]] = set()
    for ref, value in weights.items():
        version = resolve(store, ref)
        nested = known_manifest(store, version).mixture
        if nested is None:
            parts = {(version.dataset, version.version_id, _identity(spec)): Fraction(1)}
        else:
            inherited.add((nested.lanes, nested.span))
            parts = _shares(nested, split, skip)
        for identity, fraction in parts.items():
            shares[identity] = shares.get(identity, Fraction(0)) + exact_weight(value, ref) * fraction
    known_lanes, known_span = inherited.pop() if len(inherited) == 1 else (LANES, SPAN)
    mixture = Mixture(_components(store, shares), lanes or known_lanes, span or known_span)
    unions_of(store, mixture)
    return mixture


def as_mixture(
    store: Store,
    ref_or_weights: str | Version | Mapping[str, Weight] | Mixture,
    *,
    split: str = "train",
    skip: Sequence[str] = (),
) -> Mixture:
    """What a recipe or a caller may write, as a mixture over `split` without frames flagged `skip`.

    A reference to a dataset or a mixture, weights as text ('sim=0.6,real=0.4') or mapping, or a Mixture.
    """
    if isinstance(ref_or_weights, Mixture):
        shares = _shares(ref_or_weights, split, skip)
        return replace(ref_or_weights, components=_components(store, shares))
    if isinstance(ref_or_weights, Version):
        ref_or_weights = f"{ref_or_weights.dataset}@{ref_or_weights.version_id}"
    if isinstance(ref_or_weights, str):
        text = ref_or_weights
        ref_or_weights = parse_weights(text) if "=" in text else {text: Fraction(1)}
    return make_mixture(store, ref_or_weights, split=split, skip=skip)


def commit_mixture(store: Store, mixture: Mixture, name: str) -> Version:
    """Store `mixture` as the next version of `name` (or find it there already)."""
    check_name(name)
    counts = {
        "discovered": len(mixture.components),
        "written": len(mixture.components),
        "quarantined": 0,
        "episodes": sum(component_selection(store, c).num_episodes for c in mixture.components),
        "frames": sum(c.num_samples for c in mixture.components),
        "bytes": 0,
    }
    manifest = Manifest(name, mixture.id, None, counts=counts, mixture=mixture, kind=MIXTURE, of="robot")
    newest = resolve(store, name) if name in datasets(store) else None
    # The newest may be this very mixture, made again because its manifest was damaged and deleted.
    if (
        newest is not None
        and newest.version_id != manifest.version_id
        and known_manifest(store, newest).mixture is None
    ):
        raise FoundryError(f"'{name}' is a dataset; give the mixture another name", hint="foundry-data ls")
    return commit(store, manifest)


def component_selection(store: Store, component: Component) -> Selection:
    """The rows of the component; FoundryError when they are not the ones that the mixture was made with."""
    selection = Selection.of(store, component_version(store, component), component.selection)
    if selection.num_samples != component.num_samples:
        raise FoundryError(
            f"component '{component.name}' selects {selection.num_samples} rows of {selection.version}, "
            f"the mixture was made with {component.num_samples}"
        )
    return selection


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


def _components(store: Store, shares: Mapping[Identity, Fraction]) -> tuple[Component, ...]:
    """Components in canonical order, scaled to sum to 1, each with a name of its own."""
    total = sum(shares.values(), Fraction(0))
    components: list[Component] = []
    for (dataset, version_id, spec), weight in sorted(shares.items()):
        same_dataset = [other for other in shares if other[0] == dataset]
        same_version = [other for other in same_dataset if other[1] == version_id]
        name = dataset if len(same_dataset) == 1 else f"{dataset}@{version_id[:12]}"
        if len(same_version) > 1:
            name += f".{sorted(same_version).index((dataset, version_id, spec))}"
        selected = Selection.of(store, resolve(store, f"{dataset}@{version_id}"), json.loads(spec))
        share = str(weight / total)
        components.append(
            Component(name, dataset, version_id, share, selected.spec.to_json(), selected.num_samples)
        )
    return tuple(components)
