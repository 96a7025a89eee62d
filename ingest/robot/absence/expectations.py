"""A mapping compared with what a file of robosuite says of itself: robots, grippers, controllers.

What a spec assumes stands in its mapping: the embodiment, the numbers between which grippers open, the
columns of commands. `env_args` say what made the file. A contradiction is a reason to refuse, with the
`--set` or the spec that reads the file. Names of one's own (`my_panda`, a gripper from 0 to 0.085) are
believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.forms import form_of
from robot_foundry.ingest.robot.robosuite.osc import Controller, UnreadMode, configurations, controllers
from robot_foundry.ingest.robot.robosuite.robots import (
    GRIPPERS,
    NO_GRIPPER,
    ROBOTS,
    TWO_ARMS,
    Arm,
    arms_of,
    embodiment_of,
    is_of_robosuite,
    robots_of,
    unread_robots,
)
from robot_foundry.ingest.robot.spec.quantities import GRIPPER, POSITION, ROTATION, quantity_kind
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.runtime.overrides import set_option, set_options

TWO_ARMS_SPEC = "robomimic_two_arms"
# The array that only files of two robots have, and which that spec reads.
OF_SECOND_ROBOT = "obs/robot1_eef_pos"
# Controllers of joints: the quantity that they command, and the form of it in a mapping.
JOINT_CONTROLLERS = {
    "JOINT_POSITION": ("joint_position", "from: delta, clip: 1, "),
    "JOINT_VELOCITY": ("joint_velocity", ""),
    "JOINT_TORQUE": ("joint_effort", ""),
}


def contradictions(mapping: MappingSpec, embodiment: str, item: Surveyed) -> list[str]:
    """Why the mapping does not read this episode, each with what reads it; `embodiment` is the mapping's."""
    robots, arms = robots_of(item.episode), arms_of(item.episode)
    changes, what = [], []
    episode_embodiment = embodiment_of(robots)
    if robots and embodiment != episode_embodiment and is_of_robosuite(embodiment):
        what.append(f"it is of {_listed(robots)} and the mapping's embodiment is {embodiment}")
        changes.append(set_option(f"mapping.embodiment={episode_embodiment}"))
    for part, arm in zip(TWO_ARMS, arms, strict=False):
        field = mapping.state.get(f"{part}.gripper_opening")
        if field is not None and _is_of_another(field, arm):
            side = "" if len(arms) == 1 else f"{part} "
            what.append(f"its {side}gripper is {arm.gripper} and the mapping reads that of another robot")
            changes += _gripper_changes(mapping, part, field, arm)
    if not what:
        return []
    if len(arms) > 1 and OF_SECOND_ROBOT in item.shapes and "left.ee_position" not in mapping.state:
        return [f"it is of {_listed(robots)}, and the mapping reads one arm: use the spec {TWO_ARMS_SPEC}"]
    return [f"{'; '.join(what)}: {' '.join(changes)}"]


def not_understood(mapping: MappingSpec, item: Surveyed) -> list[str]:
    """What the file says of its robots that cannot be compared with the mapping."""
    stated = unread_robots(item.episode)
    if stated is None:
        return unknown_grippers(mapping, item)
    return [
        f"the robots in env_args are {stated!r}, which is not understood, so the mapping's embodiment and "
        "gripper are compared with nothing: --set mapping.embodiment=… says which robot it is"
    ]


def unknown_grippers(mapping: MappingSpec, item: Surveyed) -> list[str]:
    """What the file names and nobody here knows, where the mapping reads it as what it knows."""
    sentences = []
    for part, arm in zip(TWO_ARMS, arms_of(item.episode), strict=False):
        field = mapping.state.get(f"{part}.gripper_opening")
        is_unknown = arm.gripper not in GRIPPERS and arm.gripper not in NO_GRIPPER
        if field is not None and is_unknown and _as_read(field) in _gripper_readings():
            closed, opened = field.parameters["closed"], field.parameters["open"]
            name = arm.gripper or f"of {arm.robot}"
            sentences.append(
                f"the gripper {name} is not known here: see that {part}.gripper_opening of the state closes "
                f"at {closed:g} and opens at {opened:g} (--set mapping.state.{part}.gripper_opening.open=…)"
            )
    return sentences


def controller_problems(mapping: MappingSpec, item: Surveyed) -> list[str]:
    """Why `from: osc` does not read the commands of this episode, each with what does."""
    commands = list(_commands(mapping))
    poses = [field for _, quantity, field in commands if form_of(quantity, field).needs_controller]
    if not poses:
        return []
    key = str(poses[0].key)
    num_columns = prod(item.shapes[key][1:]) if key in item.shapes else None
    num_arms = 1 + any(quantity.startswith("left.") for _, quantity, _ in commands)
    try:
        of_arms = controllers(item.episode, num_columns, num_arms)
    except UnreadMode as error:
        return [f"{error.message}: {_in_either_mode(mapping, item)}"]
    except Refused as error:
        return [f"{error.message}: {_without_osc(mapping, item, key, num_columns)}"]
    changes, wrong = [], []
    for stream, quantity, field in commands:
        if field.key != key or num_columns is None:
            continue
        place = _place(quantity, of_arms)
        name = f"mapping.actions.{stream}.{quantity}"
        if place is None:
            wrong.append(f"{stream} {quantity}")
            changes.append(set_option(f"{name}=null"))
        elif place[1] > num_columns and field.optional:
            continue
        elif field.columns_of(num_columns) != range(*place):
            wrong.append(f"{stream} {quantity}")
            changes.append(set_option(f"{name}.columns=[{place[0]}, {place[1]}]"))
    if not changes:
        return []
    of = ", ".join(f"[{arm.first}, {arm.first + arm.width}]" for arm in of_arms)
    return [
        f"its controller takes the pose in the columns {of} of '{key}', and the mapping does not "
        f"({', '.join(wrong)}): {' '.join(changes)}"
    ]


def _commands(mapping: MappingSpec) -> Iterator[tuple[str, str, Field]]:
    """Poses of `from: osc`, and grippers that are commanded beside them, of all streams."""
    for stream, fields in mapping.actions.items():
        for quantity, field in fields.items():
            is_gripper = quantity_kind(quantity) == GRIPPER and field.kind == "command"
            if form_of(quantity, field).needs_controller or is_gripper:
                yield stream, quantity, field


def _place(quantity: str, of_arms: tuple[Controller, ...]) -> tuple[int, int] | None:
    """The columns in which a quantity is commanded; None if nothing commands it."""
    arm = int(quantity.startswith("left."))
    if arm >= len(of_arms):
        return None
    first, width, kind = of_arms[arm].first, of_arms[arm].width, quantity_kind(quantity)
    if kind == POSITION:
        return first, first + 3
    if kind == ROTATION:
        return (first + 3, first + 6) if width == 6 else None
    return first + width, first + width + 1


def _in_either_mode(mapping: MappingSpec, item: Surveyed) -> str:
    """The overrides that read the poses as targets, and those that read them as displacements."""
    stated = configurations(item.episode)[0].get("output_max")
    limits = stated if isinstance(stated, list) else [stated] * 6
    targets, displacements = [], []
    for stream, quantity, field in _commands(mapping):
        form = form_of(quantity, field)
        if not form.needs_controller:
            continue
        name = f"mapping.actions.{stream}.{quantity}"
        scale = limits[3:6] if quantity_kind(quantity) == ROTATION else limits[:3]
        if not scale:  # OSC_POSITION turns nothing
            targets.append(f"{name}=null")
            displacements.append(f"{name}=null")
            continue
        targets.append(f"{name}.from={form.as_target}")
        displacements += [f"{name}.from=delta", f"{name}.clip=1", f"{name}.scale={scale}"]
    return f"{set_options(targets)} reads targets, {set_options(displacements)} displacements"


def _without_osc(mapping: MappingSpec, item: Surveyed, key: str, num_columns: int | None) -> str:
    """The overrides that read the commands, in the array `key`, of a controller that is none of operational
    space."""
    streams = {stream: None for stream, q, field in _commands(mapping) if form_of(q, field).needs_controller}
    try:
        settings = configurations(item.episode)[0]
    except Refused:
        settings = {}
    kind, joints = settings.get("type"), _num_joints(mapping, item)
    is_of_joints = isinstance(kind, str) and kind in JOINT_CONTROLLERS
    if is_of_joints and joints and num_columns is not None and len(arms_of(item.episode)) < 2:
        count = _num_commanded(mapping, item, settings, joints, num_columns)
        if count is not None:
            return _of_joints(mapping, settings, count, key, num_columns, next(iter(streams)))
    absent = " ".join(set_option(f"mapping.actions.{stream}=null") for stream in streams)
    others = [name for name in mapping.actions if name not in streams]
    kept = f" goes on with {', '.join(others)}" if others else " goes on without"
    return f"{absent}{kept}" if kind is not None else f"{absent}{kept}, or give `from: delta` with its scale"


def _num_joints(mapping: MappingSpec, item: Surveyed) -> int | None:
    field = mapping.state.get("right.joint_position")
    if field is not None and field.key in item.shapes:
        return len(field.columns_of(prod(item.shapes[str(field.key)][1:])))
    robots = robots_of(item.episode)
    return ROBOTS[robots[0]].joints if len(robots) == 1 and robots[0] in ROBOTS else None


def _num_commanded(
    mapping: MappingSpec, item: Surveyed, settings: Mapping[str, Any], joints: int, num_columns: int
) -> int | None:
    """Columns that command joints, with the gripper's left out; None where the numbers do not agree.

    Displacements count from the joints of the state, which has to have as many.
    """
    arms = arms_of(item.episode)
    is_gripped = any(field.kind == "command" for *_, field in _commands(mapping))
    grippers = int(is_gripped and not (arms and arms[0].gripper in NO_GRIPPER))
    limits, count = settings.get("output_max"), min(joints, num_columns - grippers)
    if isinstance(limits, list):
        count = len(limits)
    quantity, form = JOINT_CONTROLLERS[settings["type"]]
    if "delta" in form and settings.get("input_type") != "absolute":
        state = mapping.state.get(f"right.{quantity}")
        if state is None or state.key not in item.shapes or joints != count:
            return None
    return count if 0 < count <= num_columns - grippers else None


def _of_joints(
    mapping: MappingSpec, settings: Mapping[str, Any], joints: int, key: str, num_columns: int, stream: str
) -> str:
    """Overrides for a controller of joints: their command in place of the pose, and where the gripper is."""
    quantity, form = JOINT_CONTROLLERS[settings["type"]]
    form += f"scale: {settings.get('output_max', 1)}"
    if settings.get("input_type") == "absolute":  # and not scaled
        form = "from: value"
    fields = [f"right.{quantity}: {{key: {key}, columns: [0, {joints}], {form}}}"]
    changes = []
    grippers = [(s, q, f) for s, q, f in _commands(mapping) if f.kind == "command"]
    place = f"[{joints}, {joints + 1}]"
    for gripper_stream, name, field in grippers if joints < num_columns else ():
        closed, opened = field.parameters["closed"], field.parameters["open"]
        if gripper_stream == stream:
            read = f"from: command, closed: {closed:g}, open: {opened:g}"
            fields.append(f"{name}: {{key: {key}, columns: {place}, {read}}}")
        else:
            changes.append(set_option(f"mapping.actions.{gripper_stream}.{name}.columns={place}"))
    return " ".join([set_option(f"mapping.actions.{stream}={{{', '.join(fields)}}}"), *changes])


def _as_read(field: Field) -> tuple[str, float, float]:
    return field.kind, float(field.parameters["closed"]), float(field.parameters["open"])


def _gripper_readings() -> set[tuple[str, float, float]]:
    return {(gripper.kind, gripper.closed, gripper.open) for gripper in GRIPPERS.values()}


def _is_of_another(field: Field, arm: Arm) -> bool:
    """Whether the field reads a gripper of the table, and the arm has another one of it, or none."""
    if _as_read(field) not in _gripper_readings():
        return False
    if arm.gripper in NO_GRIPPER:
        return True
    gripper = GRIPPERS.get(arm.gripper or "")
    return gripper is not None and _as_read(field) != (gripper.kind, gripper.closed, gripper.open)


def _gripper_changes(mapping: MappingSpec, part: str, field: Field, arm: Arm) -> list[str]:
    """Overrides that read the arm's own gripper where the mapping has that of another."""
    gripper = GRIPPERS.get(arm.gripper or "")
    name = f"mapping.state.{part}.gripper_opening"
    if gripper is None:
        return [set_option(f"{name}=null")]
    start, changes = field.columns[0] if field.columns else 0, []
    robot, joints = ROBOTS.get(arm.robot), mapping.state.get(f"{part}.joint_position")
    # Raw states hold the joints and then the gripper, so that other joints move it.
    if robot and joints and joints.columns and joints.columns[1] and joints.key == field.key:
        first, last = joints.columns[0], joints.columns[0] + robot.joints
        if last != joints.columns[1]:
            changes.append(set_option(f"mapping.state.{part}.joint_position.columns=[{first}, {last}]"))
        start += last - joints.columns[1]
    if gripper.kind == field.kind and not changes:
        return [set_option(f"{name}.closed={gripper.closed:g}"), set_option(f"{name}.open={gripper.open:g}")]
    optional = ", optional: true" if field.optional else ""
    value = (
        f"{{key: {field.key}, columns: [{start}, {start + gripper.num_columns}], from: {gripper.kind}, "
        f"closed: {gripper.closed:g}, open: {gripper.open:g}{optional}}}"
    )
    return [*changes, set_option(f"{name}={value}")]


def _listed(robots: tuple[str, ...]) -> str:
    return " and ".join(robots)
