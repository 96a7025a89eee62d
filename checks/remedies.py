"""What mends a finding: a sentence, and overrides of a spec, mapping.<where>.<quantity>.<setting>=<value>.

Forms and settings are those of `ingest.robot.forms`, which specs are read by; here they are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.checks.unit_mistakes import CLOCK_UNITS, NEAR
from robot_foundry.runtime.overrides import set_options

OTHER_ORDER = {"xyzw": "wxyz", "wxyz": "xyzw"}
OTHER_MAJOR = {"rows": "columns", "columns": "rows"}
OTHER_READING = {"rot6d_columns": "rot6d_rows", "rot6d_rows": "rot6d_columns"}
# The forms whose numbers are displacements of the state.
DISPLACEMENTS = ("delta", "osc")

# What mends a finding, a sentence each; `{…}` is what the data prove.
SWAP_ONE = "swap closed and open of the one that is wrong; look at an image of a closed gripper"
SWAP_EITHER = SWAP_ONE + " ({sides})"
SWAP_PROVEN = "swap closed and open of {column}: the gap between the fingers tells"
GRIPPER_ENDS = "give the values of a closed and an open gripper as closed and open"
GRIPPER_ENDS_OF = GRIPPER_ENDS + " of {column}"
GRIPPER_SENSOR = "see that the key, and the values of closed and open, are those of the gripper's sensor"
ROT6D_COLUMNS = "rot6d is the first two columns of a matrix: see that columns and their order are right"
ROTATION_READING = (
    "degrees read as radians, a wrong Euler sequence or a wrong reading of rot6d do this, and two episodes "
    "in one"
)
TOOL_FRAME = "correct the frame of one of the two, or train on the stream next_state"
ROTATION_CONVENTION = (
    "correct the convention of one of the two (quaternion order, Euler sequence, rows or columns)"
)
ROTATION_CONVENTION_OF = ROTATION_CONVENTION + ": {state} or {action}"
TURN_SCALE = (
    "give the scale that makes its numbers radians: {degrees:.8g} for degrees, else the greatest step of the "
    "controller"
)
DISPLACEMENTS_AS_TARGETS = "read them as displacements of the state (from: delta)"
TARGETS_AS_DISPLACEMENTS = "read them as targets, without the state"
JOINTS_OR_TOOL = "correct the unit of joints or tool, whichever is not in radians"
INVERSE = (
    "correct what the orientation is read by: quaternion order, rows or columns, or the frame that it is of"
)
COILED = "read them in radians: no arm works within a few degrees of all joints at 0"
LEANS = "read its angles in radians"
COURSE = "correct the unit of the yaw"
TARGET_KEY = "see that this key is the target; else train on the stream next_state"
TARGET_COLUMNS = "correct columns, axes, order or sequence of one of the two"
ONE_CLOCK = "see that actions and states are of one clock; else train on the stream next_state"
TARGET_NOT_READING = "see that this key is the target and not a reading; else train on the stream next_state"
STEP_SCALE = "correct the scale of the displacements, which are some {times}"
STEP_OR_STATE_SCALE = STEP_SCALE + ", or that of the state, which is not where robots are"
STEP_SCALE_OF_SHARES = (
    STEP_SCALE
    + "; they fill ±{scale:g}, so they may be shares of a greatest step, which is the scale then (m or rad)"
)
STEP_SCALE_BY_GAIN = (
    "correct the scale of the displacements: controllers make {least:g} to {greatest:g} of what is asked, so "
    "it is about {times}, to a power of ten, and the true step of the controller is better"
)
SCALE_OF = "correct the scale of {quantity} of {column}, which is {times}"
SCALE_OF_EITHER = "correct the scale of the one whose unit is not the one of its name: {one} or {other}"
SCALE_TO_UNIT = "give the scale that makes it metres or radians"
OUTLIERS = "leave these episodes out (--where): these readings are no positions"
SPIKES = "leave these episodes out (--where): a reading is wrong there"
CLOCK_UNIT = "give the unit in which the source has its times (s, ms, us, ns), or the key of its clock"
RATE = "give the rate of the recording in the source, or see that timestamps are in seconds"
CLOCK_ORDER = "sort the recording by its own clock, or take the time of receipt"
CLOCK_GRAIN = "take a clock that is read at each frame, and of a type that tells frames apart"
CUT_AT_GAPS = "leave these episodes out, or cut them at the gaps: an action across one is longer"
RESAMPLE = "resample, or train at a lower rate: which image is of which state is uncertain"
LEAVE_OUT_FROZEN = "leave these episodes out (--where); a reading was not updated"
STILL_JOINT = "see that the column is the joint's; a joint that is locked may stay"
LEAVE_OUT_CAMERA = "leave these episodes out (--where), or the camera (content.cameras)"
DISTRIBUTION = "look at its distribution: foundry-data stats REF --plot FILE"
INVALID_KEYS = "see which key holds NaN, in frames whose flags have 8 or 16; masks leave them out"


@dataclass(frozen=True)
class Remedy:
    """Overrides for one dataset; `mapping` and `content` are those of its spec as JSON, {} where it is not
    known."""

    mapping: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)

    def swapped_gripper(self, column: str, dim: str, other: str) -> tuple[str, tuple[str, ...]]:
        """What to do where the openings of two columns oppose, and the override that does it. Numbers that
        are the gap between fingers prove which is wrong; without them an image has to tell."""
        gaps = {side: self._is_gap(side, dim) for side in (column, other)}
        proven = {side for side, is_gap in gaps.items() if is_gap is False}
        proven |= {column} if gaps[other] and gaps[column] is None else set()
        proven |= {other} if gaps[column] and gaps[other] is None else set()
        swaps = {side: self._swapped(side, dim) for side in (column, other)}
        if len(proven) == 1:
            wrong = proven.pop()
            return SWAP_PROVEN.format(column=wrong), swaps[wrong]
        if swaps[column] and swaps[other]:
            sides = "; ".join(f"{side}: {set_options(overrides)}" for side, overrides in swaps.items())
            return SWAP_EITHER.format(sides=sides), ()
        return SWAP_ONE, swaps[column]

    def _swapped(self, column: str, dim: str) -> tuple[str, ...]:
        path, settings = self._field(column, dim)
        if "closed" not in settings or "open" not in settings:
            return ()
        return (f"{path}.closed={settings['open']:g}", f"{path}.open={settings['closed']:g}")

    def _is_gap(self, column: str, dim: str) -> bool | None:
        """Whether the numbers are the gap between fingers and grow with the opening (False: they are and do
        not); None where the form does not say what they are."""
        _, settings = self._field(column, dim)
        if settings.get("from") not in ("fingers", "width"):
            return None
        return bool(settings["open"] > settings["closed"])

    def other_rotation(self, column: str, part: str, *, jumps: bool = False) -> tuple[str, ...]:
        """The other order of a quaternion, the other reading of rot6d, or of angles that jump, degrees."""
        path, settings = self._field(column, f"{part}.ee_rotation")
        form = settings.get("from")
        for setting, others in (("order", OTHER_ORDER), ("rotation", OTHER_ORDER), ("major", OTHER_MAJOR)):
            if settings.get(setting) in others:
                return (f"{path}.{setting}={others[settings[setting]]}",)
        if jumps and form == "euler":
            return self.other_unit(column, part)
        return (f"{path}.from={OTHER_READING[form]}",) if form in OTHER_READING else ()

    def other_convention(self, column: str, part: str) -> tuple[str, str] | None:
        """How an orientation may have been meant that this convention misreads, as meaning.measures.READINGS
        names it and in words; None where its form has no other."""
        _, settings = self._field(column, f"{part}.ee_rotation")
        order = settings.get("order", settings.get("rotation"))
        if order in OTHER_ORDER:
            return OTHER_ORDER[order], f"the other order of its quaternion ({OTHER_ORDER[order]})"
        is_transposed = settings.get("from") in OTHER_READING or settings.get("major") in OTHER_MAJOR
        return ("transposed", "rows for columns") if is_transposed else None

    def frame(self, column: str, quantity: str) -> str | None:
        """The axes about which a displacement turns; None where it is none."""
        _, settings = self._field(column, _in_spec(quantity))
        if settings.get("from") not in DISPLACEMENTS:
            return None
        return str(settings.get("frame", "base"))

    def other_form(self, column: str, quantity: str) -> tuple[str, ...]:
        """The same numbers as displacements where they are targets, and the other way round."""
        path, settings = self._field(column, _in_spec(quantity))
        kept = {key: settings[key] for key in ("key", "columns", "names") if settings.get(key) is not None}
        turn = settings.get("rotation")
        if quantity.endswith("ee_rot6d"):
            if settings.get("from") == "delta":
                other = _form_of_turn(str(turn))
            elif settings.get("from") in ("euler", "quaternion", "axis_angle"):
                turn = settings.get("sequence", settings.get("order", "axis_angle"))
                other = {"from": "delta", "rotation": turn}
            else:
                return ()
        elif settings.get("from") in ("value", "delta"):
            is_delta = settings["from"] == "delta"
            other = {"from": "value" if is_delta else "delta", "scale": settings.get("scale", 1.0)}
        else:
            return ()
        return (f"{path}={json.dumps({**kept, **other})}",)

    def reads_degrees(self, column: str, part: str) -> bool | None:
        """Whether Euler angles of an orientation are read as degrees; None where it is read from none."""
        _, settings = self._field(column, f"{part}.ee_rotation")
        return bool(settings.get("degrees")) if settings.get("from") == "euler" else None

    def other_unit(self, column: str, part: str) -> tuple[str, ...]:
        """The other unit of Euler angles."""
        path, settings = self._field(column, f"{part}.ee_rotation")
        if settings.get("from") != "euler":
            return ()
        return (f"{path}.degrees={'false' if settings.get('degrees') else 'true'}",)

    def either_rotation(self, column: str, part: str) -> tuple[str, tuple[str, ...]]:
        """What to do where orientations of state and action disagree: the override, where only one of the two
        has a convention that may be the other."""
        of_state, of_action = self.other_rotation("state", part), self.other_rotation(column, part)
        if of_state and of_action:
            state, action = set_options(of_state), set_options(of_action)
            return ROTATION_CONVENTION_OF.format(state=state, action=action), ()
        return ROTATION_CONVENTION, (*of_state, *of_action)

    def form(self, column: str, quantity: str) -> str | None:
        """The form (`from`) that the quantity has in the spec, None where that is not known."""
        form: str | None = self._field(column, _in_spec(quantity))[1].get("from")
        return form

    def displaces(self, column: str, quantity: str) -> bool | None:
        """Whether targets are displacements of the state; None where the spec is not known."""
        form = self.form(column, quantity)
        return None if form is None else form in DISPLACEMENTS

    def scale(self, column: str, quantity: str) -> float | None:
        """The one scale that the quantity has in the spec, None where it has none or several."""
        scale = self._field(column, _in_spec(quantity))[1].get("scale")
        return float(scale) if isinstance(scale, int | float) else None

    def scaled(
        self,
        column: str,
        quantity: str,
        factor: float | None,
        dims: Sequence[str] = (),
        of: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """The field's scale times the factor; for some `dims` only, where these are not all `of` it."""
        path, settings = self._field(column, _in_spec(quantity))
        if "scale" not in settings or factor is None:
            return ()
        scale, chosen = settings["scale"], set(dims)
        if not isinstance(scale, list | tuple):
            if chosen == set(of):
                return (f"{path}.scale={scale * factor:.8g}",)
            scale = [scale] * len(of)
        if len(of) != len(scale):
            return ()
        values = [s * factor if dim in chosen else s for s, dim in zip(scale, of, strict=True)]
        return (f"{path}.scale={json.dumps([float(f'{value:.8g}') for value in values])}",)

    def opened(self, column: str, dim: str, factor: float) -> tuple[str, ...]:
        """The value of an open gripper times the factor, where closed is 0."""
        path, settings = self._field(column, dim)
        if settings.get("closed") != 0 or "open" not in settings:
            return ()
        return (f"{path}.open={settings['open'] * factor:.8g}",)

    def clock_unit(self, ratio: float) -> tuple[str, ...]:
        """The unit in which times would run `ratio` times as slow, where that is a unit."""
        for section, options in self.content.items():
            time = options.get("time") if isinstance(options, Mapping) else None
            unit = time.get("unit") if isinstance(time, Mapping) else None
            if unit not in CLOCK_UNITS:
                continue
            wanted = CLOCK_UNITS[unit] * ratio
            for name, seconds in CLOCK_UNITS.items():
                if name != unit and 1 / NEAR < wanted / seconds < NEAR:
                    return (f"content.{section}.time.unit={name}",)
        return ()

    def _field(self, column: str, quantity: str) -> tuple[str, Mapping[str, Any]]:
        stream = column.removeprefix("action.")
        if stream == column:
            path, fields = f"mapping.state.{quantity}", self.mapping.get("state", {})
        else:
            path = f"mapping.actions.{stream}.{quantity}"
            fields = self.mapping.get("actions", {}).get(stream, {})
        return path, fields.get(quantity, {})


def _form_of_turn(turn: str) -> dict[str, str]:
    """The form of an orientation that is written as turns are."""
    if turn == "axis_angle":
        return {"from": "axis_angle"}
    return (
        {"from": "quaternion", "order": turn} if turn in OTHER_ORDER else {"from": "euler", "sequence": turn}
    )


def _in_spec(quantity: str) -> str:
    """As the quantity is written in a spec."""
    return quantity.replace("ee_rot6d", "ee_rotation")
