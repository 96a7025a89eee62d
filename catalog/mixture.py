"""Making mixtures: weights and references in, one content-addressed `Mixture` out.

However a mixture was written (inline, stored, nested, refs by tag or number), equal content has the equal id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np

from robot_foundry.catalog.components import LANES, SPAN, Component, Mixture
from robot_foundry.catalog.manifest import Manifest, commit, known_manifest
from robot_foundry.catalog.refs import datasets, resolve
from robot_foundry.catalog.schema import Schema
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.catalog.tables import read_episodes
from robot_foundry.catalog.timing import Timing, episode_rates
from robot_foundry.catalog.version import Version
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.tool_frame import tool_frame_warnings
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

__all__ = [
    "Component",
    "Mixture",
    "Spaces",
    "as_mixture",
    "commit_mixture",
    "component_rates",
    "component_schema",
    "component_selection",
    "component_version",
    "exact_weight",
    "make_mixture",
    "parse_weights",
    "spaces",
    "warnings_for",
    "window_rows",
]

Weight = str | int | float | Fraction
Identity = tuple[str, str, bytes]  # dataset, version_id, canonical selection
RATE_RATIO = 1.5
UPSAMPLING = 4  # from 5 to 20 Hz may be meant, from 20 to 500 Hz is a slip of the pen
REPEAT_RATIO = 10


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
    components, which keep their own options apart from `split`; what they skip is added to. Spaces that
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
    spaces(store, mixture)
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
    manifest = Manifest(name, mixture.id, None, counts=counts, mixture=mixture, kind="mixture")
    newest = resolve(store, name) if name in datasets(store) else None
    # The newest may be this very mixture, made again because its manifest was damaged and deleted.
    if (
        newest is not None
        and newest.version_id != manifest.version_id
        and known_manifest(store, newest).kind != "mixture"
    ):
        raise FoundryError(f"'{name}' is a dataset; give the mixture another name", hint="foundry-data ls")
    return commit(store, manifest)


def component_version(store: Store, component: Component) -> Version:
    return resolve(store, f"{component.dataset}@{component.version_id}")


def component_schema(store: Store, component: Component) -> Schema:
    """The schema of the version that the component names."""
    schema = known_manifest(store, component_version(store, component)).schema
    if schema is None:
        raise FoundryError(f"component '{component.name}' is itself a mixture")
    return schema


def component_selection(store: Store, component: Component) -> Selection:
    """The rows of the component; FoundryError when they are not the ones that the mixture was made with."""
    selection = Selection.of(store, component_version(store, component), component.selection)
    if selection.num_samples != component.num_samples:
        raise FoundryError(
            f"component '{component.name}' selects {selection.num_samples} rows of {selection.version}, "
            f"the mixture was made with {component.num_samples}"
        )
    return selection


@dataclass(frozen=True)
class Spaces:
    """Unions over a mixture: of `state`, and of every action stream that all components have.

    `schemas` are by component name. To scatter a component give its schema's embodiment.
    """

    state: ActionSpace
    streams: Mapping[str, ActionSpace]
    schemas: Mapping[str, Schema]

    def check_stream(self, name: str) -> None:
        """FoundryError, which names the components that lack it, unless all have this action stream."""
        if name not in self.streams:
            lacking = [component for component, schema in self.schemas.items() if name not in schema.streams]
            raise FoundryError(
                f"there is no action stream '{name}' in {', '.join(lacking)}{nearest(name, self.streams)} "
                f"(streams{' of all' if len(self.schemas) > 1 else ''}: {', '.join(self.streams)})"
            )


def spaces(store: Store, mixture: Mixture) -> Spaces:
    """The unions of a mixture; components that cannot be united raise FoundryError."""
    schemas = {component.name: component_schema(store, component) for component in mixture.components}
    embodiments = [schema.embodiment for schema in schemas.values()]
    common = set.intersection(*(set(schema.streams) for schema in schemas.values()))
    if not common:
        listed = "; ".join(f"{name}: {', '.join(s.streams) or 'none'}" for name, s in schemas.items())
        raise FoundryError(f"the components have no action stream in common ({listed})")

    def union(stream: str) -> ActionSpace:
        parts = [schema.space(stream) for schema in schemas.values()]
        try:
            return ActionSpace.union(*parts, embodiments=embodiments)
        except FoundryError as error:
            raise FoundryError(f"{', '.join(schemas)} cannot be mixed: in {stream}, {error}") from error

    return Spaces(union("state"), {stream: union(stream) for stream in sorted(common)}, schemas)


def component_rates(store: Store, component: Component) -> tuple[float, float] | None:
    """The least and the greatest rate of its episodes in Hz, None where no episode's is known."""
    nominal = component_schema(store, component).fps
    if nominal:
        return nominal, nominal
    rate_E = episode_rates(read_episodes(store, component_version(store, component)))
    rate_E = rate_E[np.isfinite(rate_E)]
    return (float(rate_E.min()), float(rate_E.max())) if rate_E.size else None


def window_rows(store: Store, mixture: Mixture, timing: Timing) -> int:
    """Rows from the oldest observation of a window to its last target, the most of any dataset."""
    most = 0
    for component in mixture.components:
        steps = timing.steps(component_schema(store, component).fps, component.name)
        step = float(steps.rows((component_rates(store, component) or (0.0, 0.0))[1]))
        most = max(most, ceil((steps.horizon + steps.history) * step - 1e-6))
    return most


def warnings_for(
    store: Store,
    mixture: Mixture,
    weights: Mapping[str, Weight] | None = None,
    *,
    timing: Timing | None = None,
) -> list[str]:
    """What is allowed and probably not meant, one sentence each. `weights` are those that were asked for, and
    `timing` that of the windows, where it is known."""
    found = []
    total = sum((exact_weight(value, ref) for ref, value in (weights or {}).items()), Fraction(0))
    # Weights of 1 and more are ratios; shares that do not make a whole are a slip of the pen.
    if weights and total != 1 and all(exact_weight(value, ref) < 1 for ref, value in weights.items()):
        found.append(f"the weights sum to {float(total):g}; they were scaled to sum to 1")
    repeats = {c.name: c.fraction / c.num_samples for c in mixture.components}
    most, least = max(repeats, key=lambda name: repeats[name]), min(repeats, key=lambda name: repeats[name])
    if repeats[most] > REPEAT_RATIO * repeats[least]:
        ratio = float(repeats[most] / repeats[least])
        found.append(f"'{most}' is repeated {ratio:.1f} times while '{least}' is seen once")
    schemas = {component.name: component_schema(store, component) for component in mixture.components}
    known = {component.name: component_rates(store, component) for component in mixture.components}
    rates = {name: found for name, found in known.items() if found}
    bounds = [rate for pair in rates.values() for rate in pair]
    if not (timing and timing.one_step_time) and bounds and max(bounds) > RATE_RATIO * min(bounds):
        listed = ", ".join(f"{name} {_hertz(*pair)}" for name, pair in rates.items())
        found.append(
            f"the rates differ by more than {RATE_RATIO} times ({listed}): a step is not one time; "
            "training with data.window.control_hz makes it one"
        )
    hertz = timing.control_hz if timing else None
    slow = [f"{name} {_hertz(*pair)}" for name, pair in rates.items() if (hertz or 0) > UPSAMPLING * pair[0]]
    if slow:
        found.append(
            f"control_hz {hertz:g} is over {UPSAMPLING} times the rate of {', '.join(slow)}: "
            "most steps would be interpolated"
        )
    posed = {name: schema.tool_frame for name, schema in schemas.items() if schema.has_poses}
    return found + tool_frame_warnings(list(posed.items()), _conventions(store, mixture))


def _conventions(store: Store, mixture: Mixture) -> dict[str, str]:
    """By component the robot and how its poses were read, where the version says by which spec."""
    found = {}
    for component in mixture.components:
        manifest = known_manifest(store, component_version(store, component))
        spec = manifest.provenance.get("spec")
        if (
            manifest.schema is None
            or manifest.schema.embodiment == "unknown"
            or not isinstance(spec, Mapping)
        ):
            continue
        state = spec.get("mapping", {}).get("state", {})
        poses = {name: field for name, field in state.items() if ".ee_" in name}
        found[component.name] = digest_of([manifest.schema.embodiment, spec.get("layout"), poses])
    return found


def _hertz(least: float, greatest: float) -> str:
    return f"{least:g} Hz" if least == greatest else f"{least:g} to {greatest:g} Hz"


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
