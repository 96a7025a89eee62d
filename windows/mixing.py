"""What a mixture means for windows: how many rows they span, and what is allowed and probably not meant."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.mixture import Weight, exact_weight
from robot_foundry.catalog.refs import component_version
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.unions import component_rates, component_schema
from robot_foundry.catalog.store import Store
from robot_foundry.normalization.tool_frame import tool_frame_warnings
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.windows.timing import Timing

RATE_RATIO = 1.5
UPSAMPLING = 4  # from 5 to 20 Hz may be meant, from 20 to 500 Hz is a slip of the pen
REPEAT_RATIO = 10


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
        embodiment, spec = schema_of(manifest).embodiment, manifest.provenance.get("spec")
        if embodiment == "unknown" or not isinstance(spec, Mapping):
            continue
        state = spec.get("mapping", {}).get("state", {})
        poses = {name: field for name, field in state.items() if ".ee_" in name}
        found[component.name] = digest_of([embodiment, spec.get("layout"), poses])
    return found


def _hertz(least: float, greatest: float) -> str:
    return f"{least:g} Hz" if least == greatest else f"{least:g} to {greatest:g} Hz"
