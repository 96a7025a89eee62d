"""What a source holds and nothing takes, and what a spec asks for and does not find: one record of a version.

Most of it is as it should be (rewards, MuJoCo's states, what the simulator knows of objects) and only in the
record, which the manifest keeps. A warning says where language, a camera, part of an action or an arm is
lost, and where a rule of the user's own matches nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.ingest.asked import missing
from robot_foundry.ingest.expectations import unknown_grippers
from robot_foundry.ingest.holdings import (
    Holdings,
    Partly,
    arrays_taken,
    attributes_taken,
    fields_of,
    partly_taken,
)
from robot_foundry.ingest.quantities import GRIPPER, kind_of
from robot_foundry.ingest.resolve import Resolution
from robot_foundry.ingest.spec import Content, Mapping, Spec, builtin_specs, load_spec
from robot_foundry.ingest.survey import Surveyed

MOST_NAMES, MOST_EXAMPLES = 64, 3
# Words in names of images, and in those of what is none; a name is read by its parts.
IMAGE_WORDS = {
    "image", "images", "img", "rgb", "rgba", "color", "colour", "cam", "camera", "video", "eye", "view",
    "agentview", "frontview", "sideview",
}  # fmt: skip
NO_IMAGE_WORDS = {
    "depth", "segmentation", "seg", "mask", "disparity", "points", "pointcloud", "normals", "flow",
    "intrinsics", "extrinsics", "pose", "embedding", "features", "id", "name", "names", "serial", "type",
    "timestamp",
}  # fmt: skip
LANGUAGE_WORDS = ("language", "instruction", "instructions", "lang", "task", "prompt", "goal", "command")
# Reasons of readers that say what the user asked for, or what is not in this episode.
AS_ASKED = ("skipped by the spec", "not among the spec's cameras", "the record has none", "no step of the")
SMALLEST_SIDE = 8
# What readers themselves take from the attributes of a file.
OF_ENVIRONMENT = {"env_args", "env_name", "env", "env_info"}
# Names of the arrays of one arm and of another.
SIDES = (("robot0", "robot1"), ("left", "right"), ("arm0", "arm1"), ("arm_0", "arm_1"), ("arm1", "arm2"))
MOST_LISTED = 4


@dataclass(frozen=True)
class Asked:
    """The mapping of a spec, with its name and content where these are known.

    `is_as_named` says that nothing of it was changed.
    """

    mapping: Mapping
    content: Content | None = None
    name: str | None = None
    is_as_named: bool = False

    @classmethod
    def of(cls, spec: Spec) -> Asked:
        return cls(spec.mapping, spec.content, spec.name, not spec.overrides)

    def packaged(self) -> Asked | None:
        """What the packaged spec of this name asks, before the user changed it."""
        if self.name not in builtin_specs():
            return None
        return self if self.is_as_named else Asked.of(load_spec(str(self.name)))


@dataclass(frozen=True)
class Outcome:
    """What the tables hold of an episode. `told` are kind and source of its annotations."""

    unit: str
    success: bool | None
    told: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Absence:
    """The record as JSON, and the warnings in it."""

    record: dict[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.record["warnings"])


def absence(
    spec: Asked, resolution: Resolution, episodes: Sequence[Surveyed], outcomes: Sequence[Outcome]
) -> Absence:
    """The record of these episodes, which are those that were written, each with its outcome.

    A pure function of these; the order of the episodes decides examples only.
    """
    held = Holdings.of(episodes)
    told = {entry for outcome in outcomes for entry in outcome.told}
    has_success = any(outcome.success is not None for outcome in outcomes)
    known = spec.packaged()
    packaged = (None, None) if known is None else (known.mapping, known.content)
    lacking = missing((spec.mapping, spec.content), packaged, held, told, has_success)
    partly = partly_taken(resolution.mapping, held)
    free = sorted(held.arrays.keys() - arrays_taken(spec.mapping, spec.content))
    no_text = [own.unit for own in outcomes if all(kind != "instruction" for kind, _ in own.told)]
    warnings = [
        *resolution.warnings,
        *_grippers(spec.mapping, episodes),
        *(own.sentence for own in lacking if own.is_lost),
        *_roles(spec.mapping, held),
        *_language(spec.mapping, held, told, no_text, episodes),
        *_lost_cameras(held, free, {path for item in episodes for path in item.episode.get("told", ())}),
        *_lost_columns(partly),
        *_lost_arm(resolution.mapping, free),
        *_lost_grippers(spec.mapping, resolution),
        *_success(spec.mapping, held, outcomes),
    ]
    no_success = [own.unit for own in outcomes if own.success is None]
    return Absence(
        {
            "episodes": held.episodes,
            "taken": _taken(held, arrays_taken(resolution.mapping, spec.content)),
            "not_taken": _not_taken(held, free, partly, attributes_taken(spec.mapping)),
            "not_found": _bounded([asdict(own) for own in lacking]),
            "without": {
                "instruction": _units(no_text),
                "success": _units(no_success),
                **_without_cameras(held, episodes),
            },
            "warnings": list(dict.fromkeys(warnings)),
        }
    )


def _taken(held: Holdings, arrays: set[str]) -> dict[str, Any]:
    cameras = _counted(sorted(held.cameras), held.cameras)
    return {"arrays": _bounded(sorted(held.arrays.keys() & arrays)), "cameras": cameras}


def _not_taken(
    held: Holdings, free: list[str], partly: Sequence[Partly], attributes: set[str]
) -> dict[str, Any]:
    return {
        "arrays": _counted(free, held.arrays),
        "columns": _bounded([_partly_json(own) for own in partly]),
        "attributes": _counted(sorted(held.attributes.keys() - attributes), held.attributes),
        "file_attributes": _counted(sorted(held.of_files.keys() - OF_ENVIRONMENT), held.of_files),
        "left_out": _bounded([_left_out_json(held, path) for path in sorted(held.left_out)]),
    }


def _bounded(entries: list[Any]) -> list[Any]:
    """No more than a manifest should hold; the last says how many more there were."""
    more = len(entries) - MOST_NAMES
    return entries if more <= 0 else [*entries[:MOST_NAMES], {"more": more}]


def _counted(names: list[str], episodes: Counter[str]) -> list[Any]:
    return _bounded([{"name": name, "episodes": episodes[name]} for name in names])


def _partly_json(own: Partly) -> dict[str, Any]:
    return {"name": own.name, "columns": own.num_columns, "unused": [list(run) for run in own.unused]}


def _left_out_json(held: Holdings, path: str) -> dict[str, Any]:
    reason, count = held.why_left_out(path)
    return {"name": path, "reason": reason, "episodes": count}


def _units(units: Sequence[str]) -> dict[str, Any]:
    return {"episodes": len(units), "examples": list(units[:MOST_EXAMPLES])}


def _without_cameras(held: Holdings, episodes: Sequence[Surveyed]) -> dict[str, Any]:
    """The episodes that lack a camera which others have."""
    some = (name for name in sorted(held.cameras) if held.cameras[name] < held.episodes)
    return {
        f"camera {name}": _units([item.unit for item in episodes if name not in item.episode["cameras"]])
        for name in some
    }


def _grippers(asked: Mapping, episodes: Sequence[Surveyed]) -> Iterator[str]:
    """Grippers that the source names and nobody here knows."""
    seen: set[int] = set()
    for item in episodes:
        environment = id(item.episode["environment"])  # one for all episodes of a file
        if environment not in seen:
            seen.add(environment)
            yield from unknown_grippers(asked, item)


def _roles(asked: Mapping, held: Holdings) -> Iterator[str]:
    for camera in sorted(held.cameras.keys() - asked.cameras.keys()):
        yield f"camera '{camera}' has no role in the mapping, so its name is its role"


def _language(
    asked: Mapping,
    held: Holdings,
    told: Iterable[tuple[str, str]],
    no_text: Sequence[str],
    episodes: Sequence[Surveyed],
) -> Iterator[str]:
    """That episodes have no instruction, and where the source may hold one."""
    places = _places_of_language(asked, held, told, episodes)
    if not no_text or not (asked.instruction or places):
        return
    total = held.episodes
    if len(no_text) == total:
        start, remedy = "no episode has an instruction", ": --set 'mapping.instruction=[{text: …}]' gives one"
    else:
        some = _some(no_text, MOST_EXAMPLES)
        start, remedy = f"{len(no_text)} of {total} episodes have no instruction ({some})", ""
    yield f"{start}; the source has {places[0]}" if places else f"{start}{remedy}"


def _places_of_language(
    asked: Mapping, held: Holdings, told: Iterable[tuple[str, str]], episodes: Sequence[Surveyed]
) -> list[str]:
    """Where language may be that no rule takes, the likeliest first."""
    places = [
        f"texts under '{kind}': --set 'mapping.instruction=[{{spans: {kind}}}]'"
        for kind in sorted({kind for kind, _ in told} - {"instruction"})
        if _words(kind) & set(LANGUAGE_WORDS)
    ]
    taken = attributes_taken(asked)
    for word in LANGUAGE_WORDS:
        places += [
            f"the attribute '{name}': --set 'mapping.instruction=[{{attr: {name}}}]'"
            for name in sorted(held.attributes.keys() - taken)
            if word in _words(name)
        ]
        places += [
            f"an attribute '{name}' of the file, which is not of an episode: "
            "--set 'mapping.instruction=[{text: …}]'"
            for name in sorted(held.of_files)
            if word in _words(name)
        ]
    places += [
        f"'{inner}' inside the attribute '{name}': "
        f"--set 'mapping.instruction=[{{attr: {name}, json: {inner}}}]'"
        for name, inner in _inside_json(episodes)
        if inner in LANGUAGE_WORDS
    ]
    places += [
        f"'{path}', which was left out: {held.why_left_out(path)[0]}"
        for path in sorted(held.left_out)
        if _words(path) & set(LANGUAGE_WORDS) and not _is_as_asked(held, path)
    ]
    return places


def _inside_json(episodes: Sequence[Surveyed]) -> Iterator[tuple[str, str]]:
    """(attribute, key) of the JSON objects among the attributes of the first episode."""
    for name, text in sorted(episodes[0].episode["attributes"].items()) if episodes else ():
        if isinstance(text, str) and text.lstrip().startswith("{"):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
            yield from ((name, str(key)) for key in found)


def _lost_cameras(held: Holdings, free: Sequence[str], told: set[str]) -> Iterator[str]:
    """Arrays that look like images and are none of a camera, and of which the reader told nothing."""
    lost = [
        (path, held.why_left_out(path)[0])
        for path in sorted(held.left_out)
        if _is_named_as_image(path) and not _is_as_asked(held, path) and path not in held.images
    ]
    lost += [(name, "it is kept as an array") for name in free if _has_shape_of_image(held.shapes[name])]
    lost = [(path, reason) for path, reason in lost if path not in told]
    if lost:
        paths, reasons = [path for path, _ in lost], list(dict.fromkeys(reason for _, reason in lost))
        verb = "looks like images of a camera and is" if len(lost) == 1 else "look like images and are"
        none = " none" if len(lost) > 1 else " not read as one"
        yield f"{_some(paths)} {verb}{none}: {'; '.join(reasons[:2])}"


def _is_as_asked(held: Holdings, path: str) -> bool:
    return held.why_left_out(path)[0].startswith(AS_ASKED)


def _is_named_as_image(path: str) -> bool:
    words = _words(path)
    return bool(words & IMAGE_WORDS) and not words & NO_IMAGE_WORDS


def _has_shape_of_image(shape: tuple[int, ...]) -> bool:
    """Rows [H, W, 3 or 4], or channels first."""
    if len(shape) != 3:
        return False
    height, width = shape[:2] if shape[2] in (3, 4) else shape[1:]
    return (shape[2] in (3, 4) or shape[0] in (3, 4)) and min(height, width) >= SMALLEST_SIDE


def _lost_columns(partly: Sequence[Partly]) -> Iterator[str]:
    for own in partly:
        # Half of a state may be another arm; of MuJoCo's states, which hold everything, less is taken.
        is_half = own.num_unused * 2 == own.num_columns >= 12
        if own.is_command or is_half:
            ranges = ", ".join(str(list(run)) for run in own.unused)
            yield f"nothing takes {own.num_unused} of the {own.num_columns} columns of '{own.name}': {ranges}"


def _lost_arm(resolved: Mapping, free: Sequence[str]) -> Iterator[str]:
    """Arrays of another arm that nothing takes, where the mapping has one arm only."""
    parts = {quantity.partition(".")[0] for _, quantity, _ in fields_of(resolved)}
    if {"left", "right"} <= parts:
        return
    keys = {str(own.key) for _, _, own in fields_of(resolved)}
    lost = {
        other
        for key in keys
        for one, two in SIDES
        for here, there in ((one, two), (two, one))
        if (other := key.replace(here, there)) != key and other in free
    }
    if lost:
        yield f"nothing takes what looks like another arm: {_some(sorted(lost))}"


def _lost_grippers(asked: Mapping, resolution: Resolution) -> Iterator[str]:
    """Commands of a gripper that the state has and no episode tells."""
    resolved = resolution.mapping
    kept = {(where, quantity) for where, quantity, _ in fields_of(resolved)}
    for where, quantity, own in fields_of(asked):
        is_gripper = where != "state" and kind_of(quantity) == GRIPPER
        if is_gripper and own.optional and (where, quantity) not in kept and quantity in resolved.state:
            start = f"{quantity} of {where} is left out: "
            if not any(warning.startswith(start) for warning in resolution.warnings):
                place = "" if own.columns is None else f" with the columns {list(own.columns)}"
                yield f"{start}no episode has '{own.key}'{place}"


def _success(asked: Mapping, held: Holdings, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Episodes that say nothing of success though what a rule names is there."""
    names = {str(rule.get("attr", rule.get("key"))) for rule in asked.success}
    if names.isdisjoint({*held.attributes, *held.arrays}):
        return
    unknown = [own.unit for own in outcomes if own.success is None]
    if unknown:
        some = _some(unknown, MOST_EXAMPLES)
        yield f"{len(unknown)} of {held.episodes} episodes do not say whether they succeeded ({some})"


def _words(name: str) -> set[str]:
    """The parts of a name: `obs/robot0_eye_in_hand_image` has eye and image."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return set(re.split(r"[^a-z]+", spaced.lower()))


def _some(names: Sequence[str], most: int = MOST_LISTED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
