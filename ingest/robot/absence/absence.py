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
from dataclasses import dataclass
from typing import Any

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.robot.absence.asked import Asked, Missing, missing
from robot_foundry.ingest.robot.absence.expectations import not_understood
from robot_foundry.ingest.robot.absence.holdings import (
    Holdings,
    Partly,
    arrays_taken,
    attributes_taken,
    fields_of,
    partly_taken,
)
from robot_foundry.ingest.robot.absence.notes import episodes_counted
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.labels import in_yaml
from robot_foundry.ingest.robot.resolve import Resolution
from robot_foundry.ingest.robot.spec.quantities import GRIPPER, quantity_kind
from robot_foundry.ingest.robot.spec.spec import Content, MappingSpec
from robot_foundry.ingest.sources.robot.clock import CONTROL_FREQ
from robot_foundry.ingest.sources.robot.pixels import is_lost_picture, is_shaped_picture
from robot_foundry.ingest.sources.robot.shared import ABSENT, NO_IMAGE, NO_PICTURES, SKIPPED, UNASKED
from robot_foundry.runtime.overrides import set_option

MOST_NAMES, MOST_EXAMPLES = 64, 3
# Objects inside each other, in JSON, in which language is looked for.
MOST_DEPTH = 8
LANGUAGE_WORDS = ("language", "instruction", "instructions", "lang", "task", "prompt", "goal", "command")
# Reasons of readers that say what the user asked for, or what is not in this episode, or is no picture.
AS_ASKED = frozenset((SKIPPED, UNASKED, ABSENT, NO_IMAGE, NO_PICTURES))
# And those that are of texts.
OF_TEXTS = re.compile(r"its type is (object|\|S|<U)|its texts are|it is a list of (lists of )?texts")
# What is said where a rule finds something that it cannot read (ingest/robot/labels.py).
NO_INSTRUCTION, NO_SUCCESS = re.compile("gives? no instruction"), "success is unknown"
# What readers themselves take from the attributes of a file.
OF_ENVIRONMENT = {"env_args", "env_name", "env", "env_info"}
# Names of the arrays of one arm and of another.
SIDES = (("robot0", "robot1"), ("left", "right"), ("arm0", "arm1"), ("arm_0", "arm_1"), ("arm1", "arm2"))
MOST_LISTED = 4


@dataclass(frozen=True)
class Outcome:
    """What the tables hold of an episode: of its annotations kind and source."""

    unit: str
    success: bool | None
    annotations: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Absence:
    """The record as JSON, and the warnings in it."""

    record: dict[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.record["warnings"])


def absence(
    asked: Asked, resolution: Resolution, episodes: Sequence[Surveyed], outcomes: Sequence[Outcome]
) -> Absence:
    """The record of these episodes, which are those that were written, each with its outcome.

    A pure function of these; the order of the episodes decides examples only.
    """
    mapping, held = asked.mapping, Holdings.of(episodes)
    annotations = {annotation for outcome in outcomes for annotation in outcome.annotations}
    has_success = any(outcome.success is not None for outcome in outcomes)
    lacking = missing(asked, asked.packaged(), held, annotations, has_success)
    lost = [absent for absent in lacking if absent.is_lost]
    partly = partly_taken(resolution.mapping, held)
    free = sorted(held.arrays.keys() - arrays_taken(mapping, asked.content))
    no_text = [
        outcome.unit for outcome in outcomes if all(kind != "instruction" for kind, _ in outcome.annotations)
    ]
    sentences = [*resolution.warnings, *_robots(mapping, episodes), *(absent.sentence for absent in lost)]
    warnings = [
        *sentences,
        *_roles(mapping, held, lost),
        *_language(mapping, held, annotations, no_text, episodes, sentences, lost),
        *_lost_cameras(held, free, {path for item in episodes for path in item.episode.get("told", ())}),
        *_lost_columns(partly),
        *_lost_arm(resolution.mapping, free),
        *_lost_grippers(mapping, resolution, sentences),
        *_success(mapping, held, outcomes, sentences),
        *_rate(asked.content, episodes),
    ]
    no_success = [outcome.unit for outcome in outcomes if outcome.success is None]
    return Absence(
        {
            "episodes": held.episodes,
            "taken": _taken(held, arrays_taken(resolution.mapping, asked.content)),
            "not_taken": _not_taken(held, free, partly, attributes_taken(mapping)),
            "not_found": _bounded([absent.to_json() for absent in lacking]),
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
        "columns": _bounded([_partly_json(array) for array in partly]),
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


def _partly_json(array: Partly) -> dict[str, Any]:
    return {"name": array.name, "columns": array.num_columns, "unused": [list(run) for run in array.unused]}


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


def _robots(mapping: MappingSpec, episodes: Sequence[Surveyed]) -> Iterator[str]:
    """Robots and grippers that the source names and nobody here knows."""
    seen: set[int] = set()
    for item in episodes:
        environment = id(item.episode["environment"])  # one for all episodes of a file
        if environment not in seen:
            seen.add(environment)
            yield from not_understood(mapping, item)


def _roles(mapping: MappingSpec, held: Holdings, lost: Sequence[Missing]) -> Iterator[str]:
    """Cameras without a role, but those of which a warning says that they were meant."""
    meant = {absent.near for absent in lost if absent.asked == "mapping.cameras"}
    for camera in sorted(held.cameras.keys() - mapping.cameras.keys() - meant):
        yield f"camera '{camera}' has no role in the mapping, so its name is its role"


def _language(
    mapping: MappingSpec,
    held: Holdings,
    annotations: Iterable[tuple[str, str]],
    no_text: Sequence[str],
    episodes: Sequence[Surveyed],
    sentences: Sequence[str],
    lost: Sequence[Missing],
) -> Iterator[str]:
    """That episodes have no instruction, and where the source may hold one.

    Of what the warnings `sentences` say already, as of a misspelt name among `lost`, only the count is told.
    """
    places = _places_of_language(mapping, held, annotations, episodes) if no_text else {}
    if not no_text or not (mapping.instruction or places):
        return
    unread = max((episodes_counted(text) for text in sentences if NO_INSTRUCTION.search(text)), default=0)
    meant = {absent.near for absent in lost if absent.asked == "mapping.instruction" and absent.near}
    is_misspelt = bool(meant) and (not places or not meant.isdisjoint(places))
    start, remedy = "no episode has an instruction", ": --set 'mapping.instruction=[{text: …}]' gives one"
    if len(no_text) < held.episodes:
        some = listed(no_text, MOST_EXAMPLES)
        start, remedy = f"{len(no_text)} of {held.episodes} episodes have no instruction ({some})", ""
    elif is_misspelt or unread == held.episodes:
        return
    if is_misspelt or unread:
        yield start
    else:
        yield f"{start}; the source has {next(iter(places.values()))}" if places else f"{start}{remedy}"


def _places_of_language(
    mapping: MappingSpec, held: Holdings, annotations: Iterable[tuple[str, str]], episodes: Sequence[Surveyed]
) -> dict[str, str]:
    """Where language may be that no rule takes, by name, the likeliest first."""
    places = {
        kind: f"texts under '{kind}': {_as_instruction(f'spans: {in_yaml(kind)}')}"
        for kind in sorted({kind for kind, _ in annotations} - {"instruction"})
        if _is_of_language(kind)
    }
    taken = attributes_taken(mapping)
    of_episodes = _named_texts(held.attributes.keys() - taken, episodes, "attributes")
    of_files = _named_texts(held.of_files.keys() - held.attributes.keys() - taken, episodes, "environment")
    for word in LANGUAGE_WORDS:
        places |= {
            name: f"the attribute '{name}'{where}: {_as_instruction(f'attr: {in_yaml(name)}')}"
            for names, where in ((of_episodes, ""), (of_files, " of the file"))
            for name in names
            if word in _words(name)
        }
    in_force = {(rule.get("attr"), rule.get("json")) for rule in mapping.instruction}
    places |= {
        f"{name}.{path}": f"'{path}' inside the attribute '{name}': "
        f"{_as_instruction(f'attr: {in_yaml(name)}, json: {in_yaml(path)}')}"
        for name, path in _inside_json(episodes)
        if (name, path) not in in_force and not set(path.split(".")).isdisjoint(LANGUAGE_WORDS)
    }
    return places | {
        path: f"'{path}', which was left out: {reason}"
        for path in sorted(held.left_out)
        if _is_of_language(path) and OF_TEXTS.match(reason := held.why_left_out(path)[0])
    }


def _is_of_language(name: str) -> bool:
    return not _words(name).isdisjoint(LANGUAGE_WORDS)


def _named_texts(names: Iterable[str], episodes: Sequence[Surveyed], where: str) -> list[str]:
    """Those of the names that are of language and, in an episode, of a text or several."""
    named = filter(_is_of_language, sorted(names))
    return [name for name in named if any(_is_text(item.episode[where].get(name)) for item in episodes)]


def _is_text(value: Any) -> bool:
    """Whether it is text, in UTF-8 or in another encoding, or a list of such."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_text, value))
    return isinstance(value, str) or (isinstance(value, dict) and set(value) == {"base64"})


def _as_instruction(rule: str) -> str:
    return set_option(f"mapping.instruction=[{{{rule}}}]")


def _inside_json(episodes: Sequence[Surveyed]) -> Iterator[tuple[str, str]]:
    """(attribute, path) of the texts in JSON objects among the attributes of the first episode."""
    for name, text in sorted(episodes[0].episode["attributes"].items()) if episodes else ():
        yield from ((name, ".".join(path)) for path in _paths_to_texts(_object_in(text)))


def _paths_to_texts(values: Any, depth: int = 0) -> Iterator[tuple[str, ...]]:
    """The names that lead to each text, or list of texts, in an object and those inside it."""
    if not isinstance(values, dict) or depth == MOST_DEPTH:
        return
    for name, value in values.items():
        inner = _object_in(value)
        if inner is not None:
            yield from ((str(name), *path) for path in _paths_to_texts(inner, depth + 1))
        elif _is_text(value) and value not in ("", [""]):
            yield (str(name),)


def _object_in(value: Any) -> dict[str, Any] | None:
    """The JSON object that a value is, or that its text holds; None if there is none."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _lost_cameras(held: Holdings, free: Sequence[str], reported: set[str]) -> Iterator[str]:
    """Arrays that look like images and are none of a camera, and of which the reader told nothing."""
    lost = [
        (path, held.why_left_out(path)[0])
        for path in sorted(held.left_out)
        if is_lost_picture(path) and not _is_as_asked(held, path) and path not in held.images
    ]
    lost += [(name, "it is kept as an array") for name in free if is_shaped_picture(name, held.shapes[name])]
    lost = [(path, reason) for path, reason in lost if path not in reported]
    if lost:
        paths, reasons = [path for path, _ in lost], list(dict.fromkeys(reason for _, reason in lost))
        verb = "looks like images of a camera and is" if len(lost) == 1 else "look like images and are"
        none = " none" if len(lost) > 1 else " not read as one"
        yield f"{listed(paths, MOST_LISTED)} {verb}{none}: {'; '.join(reasons[:2])}"


def _is_as_asked(held: Holdings, path: str) -> bool:
    return held.why_left_out(path)[0] in AS_ASKED


def _lost_columns(partly: Sequence[Partly]) -> Iterator[str]:
    for array in partly:
        # Half of a state may be another arm; of MuJoCo's states, which hold everything, less is taken.
        is_half = array.num_unused * 2 == array.num_columns >= 12
        if array.is_command or is_half:
            ranges = ", ".join(str(list(run)) for run in array.unused)
            unused = f"{array.num_unused} of the {array.num_columns} columns of '{array.name}'"
            yield f"nothing takes {unused}: {ranges}"


def _lost_arm(resolved: MappingSpec, free: Sequence[str]) -> Iterator[str]:
    """Arrays of another arm that nothing takes, where the mapping has one arm only."""
    parts = {quantity.partition(".")[0] for _, quantity, _ in fields_of(resolved)}
    if {"left", "right"} <= parts:
        return
    keys = {str(field.key) for _, _, field in fields_of(resolved)}
    lost = {
        other
        for key in keys
        for one, two in SIDES
        for here, there in ((one, two), (two, one))
        if (other := key.replace(here, there)) != key and other in free
    }
    if lost:
        yield f"nothing takes what looks like another arm: {listed(sorted(lost), MOST_LISTED)}"


def _lost_grippers(mapping: MappingSpec, resolution: Resolution, sentences: Sequence[str]) -> Iterator[str]:
    """Commands of a gripper that the state has and no episode tells, but those of which a warning tells."""
    resolved = resolution.mapping
    kept = {(where, quantity) for where, quantity, _ in fields_of(resolved)}
    for where, quantity, field in fields_of(mapping):
        is_gripper = where != "state" and quantity_kind(quantity) == GRIPPER
        if is_gripper and field.optional and (where, quantity) not in kept and quantity in resolved.state:
            start = f"{quantity} of {where} is left out: "
            if not any(warning.startswith(start) for warning in sentences):
                place = "" if field.columns is None else f" with the columns {list(field.columns)}"
                yield f"{start}no episode has '{field.key}'{place}"


def _success(
    mapping: MappingSpec, held: Holdings, outcomes: Sequence[Outcome], sentences: Sequence[str]
) -> Iterator[str]:
    """Episodes that say nothing of success though what a rule names is there.

    Not where the warnings `sentences` say of each of them that it cannot be read.
    """
    names = {str(rule.get("attr", rule.get("key"))) for rule in mapping.success}
    if names.isdisjoint({*held.attributes, *held.arrays}):
        return
    unknown = [outcome.unit for outcome in outcomes if outcome.success is None]
    unread = sum(episodes_counted(warning) for warning in sentences if NO_SUCCESS in warning)
    if len(unknown) > unread:
        some = listed(unknown, MOST_EXAMPLES)
        yield f"{len(unknown)} of {held.episodes} episodes do not say whether they succeeded ({some})"


def _rate(content: Content | None, episodes: Sequence[Surveyed]) -> Iterator[str]:
    """Episodes that tell no rate, where the spec tells none of its own; not those with one that is unread."""
    if content is None or content.default_fps != Content().default_fps:
        return
    count = sum(
        item.episode["fps_source"] == "default" and CONTROL_FREQ not in item.episode.get("told", ())
        for item in episodes
    )
    if count:
        verb = "tells" if count == 1 else "tell"
        taken = f"{verb} no rate, so {content.default_fps:g} Hz is taken: --set content.fps=… says it"
        yield f"{count} of {len(episodes)} episodes {taken}"


def _words(name: str) -> set[str]:
    """The parts of a name: `obs/robot0_eye_in_hand_image` has eye and image."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return set(re.split(r"[^a-z]+", spaced.lower()))
