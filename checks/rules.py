"""The data checks: what in states, actions, clocks and images is probably not what its spec says.

Pure judgement of `Evidence` (measures.py) and `Statistics`; used alike when a version is made and when it is
validated. Each `Finding` says what and where, a number, the likely cause, and the override that would mend
it. Every check is declared here; a threshold is a constant where it is judged or measured, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_foundry.checks import distribution, following, measures, motion, remedies, scale, streams
from robot_foundry.checks import measures_scale as of_scale
from robot_foundry.checks import measures_streams as of_streams
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.meaning import carrying, readings
from robot_foundry.checks.meaning import measures as of_readings
from robot_foundry.checks.remedies import Remedy
from robot_foundry.normalization.statistics import Statistics

# A change of what is found where the data are the same.
VERSION = 3

# What a wrong form of the same numbers explains.
OF_FORM = ("rotation_agreement", "motion", "lag", "scale", "magnitude")

Judge = Callable[[Evidence, Remedy], Iterator[Finding]]
# Settings of a spec that overrides set, where the convention of a rotation may be another one.
READINGS = ("from", "order", "degrees", "rotation", "major")


@dataclass(frozen=True)
class Check:
    """One kind of doubt, by its name in docs/checks.md and in `foundry-data validate --ignore`.

    `measures` are the names in the evidence that it judges; none: it judges statistics. `limits` are the
    numbers that decide, as the page words them, `remedies` what may mend it, and `settings` those of a spec
    that its overrides set.
    """

    name: str
    measures: tuple[str, ...]
    limits: tuple[str, ...]
    remedies: tuple[str, ...]
    settings: tuple[str, ...] = ()


_FACTOR = f"a factor of {scale.SCALE_RATIO:g} either way"
_STEPS = f"{of_scale.SPIKE_STEPS:g} of the episode's larger steps"
_STUCK = f"{of_streams.FROZEN_S:g} s and {of_streams.FROZEN_FRAMES} frames"
_ALL = (
    Check(
        "gripper_polarity",
        ("gripper", "gripper_streams"),
        (f"under {motion.AGAINST:g}",),
        (remedies.SWAP_ONE, remedies.SWAP_EITHER, remedies.SWAP_PROVEN),
        ("closed", "open"),
    ),
    Check("gripper_range", ("opening",), ("outside 0 … 1",), (remedies.GRIPPER_ENDS,)),
    Check(
        "rotation_orthonormal",
        ("orthonormal",),
        (f"off by {measures.NOT_ORTHONORMAL:g}",),
        (remedies.ROT6D_COLUMNS,),
        READINGS,
    ),
    Check(
        "rotation_jump",
        ("turns",),
        (
            f"over {measures.TOOL_RAD_S:g} rad/s",
            f"{measures.LEAST_JUMP_RAD:g} rad a step",
            f"{measures.GREATEST_JUMP_RAD:g} rad at any rate",
        ),
        (remedies.ROTATION_READING,),
        READINGS,
    ),
    Check(
        "rotation_agreement",
        ("pose", "reading", "leaning"),
        (f"{motion.APART_RAD:g} rad apart",),
        (remedies.TOOL_FRAME, remedies.ROTATION_CONVENTION, remedies.ROTATION_CONVENTION_OF),
        READINGS,
    ),
    Check(
        "form",
        ("form", "turn_form"),
        (f"{following.FOLLOWS:g}", f"{readings.NEARER:g}"),
        (remedies.DISPLACEMENTS_AS_TARGETS, remedies.TARGETS_AS_DISPLACEMENTS),
        ("ee_position", "ee_rotation", "joint_position"),
    ),
    Check(
        "carrying",
        ("carried", "levers", "coiled", "leaning", "course"),
        (
            f"{carrying.CLEARLY:g} times less",
            _FACTOR,
            f"{carrying.FURTHEST_M:g} m",
            f"{of_readings.WRAP:.2g} rad",
        ),
        (remedies.INVERSE, remedies.JOINTS_OR_TOOL, remedies.COILED, remedies.LEANS, remedies.COURSE),
        (*READINGS, "scale"),
    ),
    Check(
        "motion",
        ("follow", "pose", "reading", "leaning"),
        (f"0 … {measures.LAGS[-1]} frames", f"under {motion.OBEYED:g}"),
        (remedies.TARGET_KEY, remedies.TARGET_COLUMNS),
        READINGS,
    ),
    Check(
        "lag",
        ("follow", "reach"),
        (
            f"{measures.LAGS[0]} … {measures.LAGS[-1]} frames apart",
            f"{following.LATE_FRAMES} frames and {following.LATE_S:g} s late",
            f"over {following.COPIES:g}",
            f"the lags of 0 … {following.LATE_FRAMES - 1} frames",
        ),
        (remedies.ONE_CLOCK, remedies.TARGET_NOT_READING),
    ),
    Check(
        "scale",
        ("reach", "scale", "gripper", "pose"),
        (_FACTOR,),
        (
            remedies.STEP_OR_STATE_SCALE,
            remedies.STEP_SCALE_OF_SHARES,
            remedies.STEP_SCALE_BY_GAIN,
            remedies.SCALE_OF,
            remedies.SCALE_OF_EITHER,
            remedies.TURN_SCALE,
            remedies.GRIPPER_ENDS_OF,
        ),
        ("scale", "open"),
    ),
    Check(
        "velocity_unit",
        ("velocity",),
        (_FACTOR,),
        (remedies.SCALE_OF, remedies.SCALE_OF_EITHER),
        ("scale",),
    ),
    Check(
        "magnitude",
        ("magnitude", "spike"),
        (
            f"{measures.GREATEST['m']:g} m",
            f"{measures.GREATEST['rad'] / np.pi:g}π rad",
            f"{measures.GREATEST['rad/s']:g} rad/s",
            f"{measures.GREATEST['m/s']:g} m/s",
            _STEPS,
            f"{of_scale.SPIKE_SPEED['m']:g} m/s and {of_scale.SPIKE_SPEED['rad']:g} rad/s",
        ),
        (remedies.SCALE_TO_UNIT, remedies.OUTLIERS, remedies.SPIKES),
        ("scale",),
    ),
    Check(
        "rate",
        ("rate", "frequency", "backward"),
        (
            f"{of_streams.RATE_ERROR * 100:g} % apart",
            f"outside {of_streams.SLOWEST_HZ:g} … {of_streams.FASTEST_HZ:,.0f} Hz",
        ),
        (remedies.CLOCK_UNIT, remedies.RATE, remedies.CLOCK_ORDER, remedies.CLOCK_GRAIN),
        ("unit",),
    ),
    Check(
        "gaps",
        ("gaps",),
        (
            f"over {of_streams.MISSING_SHARE * 100:g} % of an episode's frames",
            f"a gap of {of_streams.LONG_GAP_S:g} s",
        ),
        (remedies.CUT_AT_GAPS,),
    ),
    Check("jitter", ("jitter",), (f"off by {of_streams.JITTER_PERIODS:g} periods",), (remedies.RESAMPLE,)),
    Check(
        "frozen",
        ("frozen", "still", "stuck"),
        (_STUCK,),
        (remedies.LEAVE_OUT_FROZEN, remedies.STILL_JOINT, remedies.GRIPPER_SENSOR),
    ),
    Check(
        "frozen_camera",
        ("camera",),
        (
            _STUCK,
            f"{of_streams.MOVED_BEFORE_CAMERA['ee_position'] * 100:g} cm or "
            f"{of_streams.MOVED_BEFORE_CAMERA['joint_position']:g} rad",
        ),
        (remedies.LEAVE_OUT_CAMERA,),
    ),
    Check("outside_band", (), (f"over {distribution.CLIPPED_SHARE * 100:g} %",), (remedies.DISTRIBUTION,)),
    Check("invalid_rows", (), (f"over {distribution.INVALID_SHARE * 100:g} %",), (remedies.INVALID_KEYS,)),
)
# By name, in the order of docs/checks.md.
CHECKS: Mapping[str, Check] = {check.name: check for check in _ALL}

# What judges evidence, in the order in which findings are told, and which checks it may find.
JUDGES: Mapping[Judge, tuple[str, ...]] = {
    motion.gripper: ("gripper_polarity",),
    motion.opening: ("gripper_range",),
    motion.stuck: ("frozen",),
    motion.rotations: ("rotation_orthonormal", "rotation_jump"),
    motion.poses: ("rotation_agreement", "scale"),
    readings.forms: ("form",),
    carrying.carrying: ("carrying",),
    motion.motions: ("motion",),
    motion.lags: ("lag",),
    scale.units: ("scale", "velocity_unit", "magnitude"),
    scale.openings: ("scale",),
    streams.rates: ("rate",),
    streams.clock: ("rate", "gaps", "jitter"),
    streams.frozen: ("frozen",),
    streams.cameras: ("frozen_camera",),
}


def findings(
    evidence: Evidence,
    statistics: Mapping[str, Statistics] | None = None,
    mapping: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """What is probably wrong in the dataset, in a fixed order.

    `statistics` are of the columns (`state`, `action.<stream>`) in absolute terms. `mapping` and
    `content` are those of the spec as JSON; with them overrides can be told in full.
    """
    remedy = Remedy(mapping or {}, content or {})
    doubts = [doubt for judge in JUDGES for doubt in judge(evidence, remedy)]
    # What is read in another form is far away, does not follow and has no scale.
    formed = {doubt.where for doubt in doubts if doubt.check == "form"}
    doubts = [doubt for doubt in doubts if doubt.check not in OF_FORM or doubt.where not in formed]
    # What follows in proportion has the right columns and axes: the scale alone is wrong.
    scaled = {doubt.where for doubt in doubts if doubt.check == "scale"}
    doubts = [doubt for doubt in doubts if doubt.check != "motion" or doubt.where not in scaled]
    return [*doubts, *distribution.spread(statistics or {})]
