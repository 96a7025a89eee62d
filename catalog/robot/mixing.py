"""What is allowed of a mixture of robot datasets and probably not meant: unlike rates and tool frames."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.unions import component_rates
from robot_foundry.normalization.tool_frame import tool_frame_warnings
from robot_foundry.runtime.canonical import digest_of

RATE_RATIO = 1.5
UPSAMPLING = 4  # from 5 to 20 Hz may be meant, from 20 to 500 Hz is a slip of the pen


def mixture_doubts(
    opened: OpenMixture, *, one_step_time: bool = False, control_hz: float | None = None
) -> list[str]:
    """One sentence each. `one_step_time` says that windows make a step one time for all, and `control_hz`
    that they are resampled to it."""
    doubts = []
    by_name = {part.name: component_rates(part) for part in opened.parts}
    rates = {name: pair for name, pair in by_name.items() if pair}
    bounds = [rate for pair in rates.values() for rate in pair]
    if not one_step_time and bounds and max(bounds) > RATE_RATIO * min(bounds):
        listed = ", ".join(f"{name} {_hertz(*pair)}" for name, pair in rates.items())
        doubts.append(
            f"the rates differ by more than {RATE_RATIO} times ({listed}): a step is not one time; "
            "training with data.window.control_hz makes it one"
        )
    slow = [
        f"{name} {_hertz(*pair)}" for name, pair in rates.items() if (control_hz or 0) > UPSAMPLING * pair[0]
    ]
    if slow:
        doubts.append(
            f"control_hz {control_hz:g} is over {UPSAMPLING} times the rate of {', '.join(slow)}: "
            "most steps would be interpolated"
        )
    schemas = {part.name: schema_of(part.manifest) for part in opened.parts}
    posed = {name: schema.tool_frame for name, schema in schemas.items() if schema.has_poses}
    return doubts + tool_frame_warnings(list(posed.items()), _conventions(opened))


def _conventions(opened: OpenMixture) -> dict[str, str]:
    """By component the robot and how its poses were read, where the version says by which spec."""
    conventions = {}
    for part in opened.parts:
        embodiment, spec = schema_of(part.manifest).embodiment, part.manifest.provenance.get("spec")
        if embodiment == "unknown" or not isinstance(spec, Mapping):
            continue
        state = spec.get("mapping", {}).get("state", {})
        poses = {name: field for name, field in state.items() if ".ee_" in name}
        conventions[part.name] = digest_of([embodiment, spec.get("layout"), poses])
    return conventions


def _hertz(least: float, greatest: float) -> str:
    return f"{least:g} Hz" if least == greatest else f"{least:g} to {greatest:g} Hz"
