"""What a spec asks for, and what of it no episode has: cameras, attributes, arrays, patterns.

Names that come with a packaged spec are alternatives, of which files have some, and no loss. So are those of
a user where another one of the same rules is found, unless a name is near.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.robot.absence.holdings import Holdings, arrays_taken, attributes_taken, fields_of
from robot_foundry.ingest.robot.spec.spec import Content, MappingSpec, Spec
from robot_foundry.ingest.sources.robot.shared import SKIPPED
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.runtime.errors import closest, nearest


@dataclass(frozen=True)
class Asked:
    """The mapping of a spec, with its content and name where these are known."""

    mapping: MappingSpec
    content: Content | None = None
    name: str | None = None

    @classmethod
    def of(cls, spec: Spec) -> Asked:
        return cls(spec.mapping, spec.content, spec.name)

    def packaged(self) -> Asked | None:
        """What the packaged spec of this name asks; the user may have changed it, or written another."""
        spec = load_spec(str(self.name)) if self.name in builtin_specs() else None
        return Asked.of(spec) if isinstance(spec, Spec) else None


@dataclass(frozen=True)
class Missing:
    """`asked` is the key of the spec, `name` what it asks for; `sentence` says it, with the nearest name.

    `is_lost` is False where it is an alternative. `near` is the name that is there and probably meant.
    """

    asked: str
    name: str
    sentence: str
    is_lost: bool
    near: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "name": self.name,
            "sentence": self.sentence,
            "is_lost": self.is_lost,
        }


def missing(
    asked: Asked,
    packaged: Asked | None,
    held: Holdings,
    annotations: Collection[tuple[str, str]],
    has_success: bool,
) -> list[Missing]:
    """All that no episode has of what is asked, where some of it came with a packaged spec.

    `annotations` are kind and source of those that were made. `has_success` says whether any episode is
    known to have succeeded or failed.
    """
    mapping, base = asked.mapping, None if packaged is None else packaged.mapping
    lacking = [*_cameras(mapping, base, held), *_instructions(mapping, base, held, annotations)]
    for key, rules, is_met in (
        ("success", mapping.success, has_success),
        ("invalid_action", mapping.invalid_action, _has_any(mapping.invalid_action, held)),
        ("intervention", mapping.intervention, _has_any(mapping.intervention, held)),
    ):
        packaged_rules = () if base is None else getattr(base, key)
        lacking += _by_rule(key, rules, packaged_rules, mapping, held, is_met)
    if mapping.embodiment_attr and mapping.embodiment_attr not in held.attributes:
        is_of_user = base is None or base.embodiment_attr != mapping.embodiment_attr
        lacking.append(
            _attribute("embodiment", mapping.embodiment_attr, mapping, held, is_of_user, is_met=False)
        )
    lacking += _optional(mapping, base, held)
    if asked.content is None:
        return lacking
    return [*lacking, *_content(asked.content, None if packaged is None else packaged.content, held)]


def _has_any(rules: Sequence[Mapping[str, Any]], held: Holdings) -> bool:
    """Whether an episode has the array of any of the rules for flags."""
    return any(rule.get("key") in held.arrays for rule in rules)


def _cameras(mapping: MappingSpec, base: MappingSpec | None, held: Holdings) -> Iterator[Missing]:
    free = held.cameras.keys() - mapping.cameras.keys()
    roles = {role for name, role in mapping.cameras.items() if name in held.cameras}
    for name, role in mapping.cameras.items():
        if name not in held.cameras:
            is_of_user, near = base is None or base.cameras.get(name) != role, closest(name, free)
            is_lost = is_of_user and (role not in roles or near is not None)
            text = f"no episode has the camera '{name}', which mapping.cameras names"
            yield Missing("mapping.cameras", name, f"{text}{_hint(name, free, held.cameras)}", is_lost, near)


def _instructions(
    mapping: MappingSpec, base: MappingSpec | None, held: Holdings, annotations: Collection[tuple[str, str]]
) -> Iterator[Missing]:
    is_met = any(kind == "instruction" for kind, _ in annotations)
    kinds = {name for annotation in annotations for name in annotation}
    for rule in mapping.instruction:
        is_of_user = base is None or rule not in base.instruction
        if "attr" in rule:
            name = str(rule["attr"])
            # What all episodes of a file have in common may stand at the file alone.
            if name not in held.attributes and name not in held.of_files:
                yield _attribute("instruction", name, mapping, held, is_of_user, is_met)
        elif "spans" in rule and not any(fnmatch.fnmatchcase(kind, str(rule["spans"])) for kind in kinds):
            name, free = str(rule["spans"]), kinds - {"instruction"}
            text = f"no episode has a text under '{name}', which mapping.instruction names"
            near = closest(name, free)
            is_lost = is_of_user and (near is not None or not is_met)
            yield Missing("mapping.instruction", name, f"{text}{nearest(name, free)}", is_lost, near)
        elif "code_points" in rule and rule["code_points"] not in held.arrays:
            name, free = str(rule["code_points"]), held.arrays.keys() - arrays_taken(mapping, None)
            text = f"no episode has the array '{name}', which mapping.instruction names"
            near = closest(name, free)
            is_lost = is_of_user and (near is not None or not is_met)
            yield Missing("mapping.instruction", name, f"{text}{nearest(name, free)}", is_lost, near)
        elif "by_env" in rule and rule["by_env"].keys().isdisjoint(held.environments):
            made_by = ", ".join(sorted(held.environments)) or "no environment that the source names"
            text = f"mapping.instruction.by_env has no text for {made_by}"
            environment = next(iter(sorted(held.environments)), "")
            near = closest(environment, rule["by_env"])
            is_lost = is_of_user and (near is not None or not is_met)
            hint = nearest(environment, rule["by_env"])
            yield Missing("mapping.instruction", "by_env", f"{text}{hint}", is_lost, near)


def _by_rule(
    key: str,
    rules: Sequence[Mapping[str, Any]],
    packaged: Sequence[Mapping[str, Any]],
    mapping: MappingSpec,
    held: Holdings,
    is_met: bool,
) -> Iterator[Missing]:
    """Rules of which no episode has the attribute or array; `is_met` says that another one gave something."""
    for rule in rules:
        is_of_user = rule not in packaged
        if "attr" in rule and rule["attr"] not in held.attributes:
            yield _attribute(key, str(rule["attr"]), mapping, held, is_of_user, is_met)
        elif "key" in rule and rule["key"] not in held.arrays:
            name = str(rule["key"])
            free = held.arrays.keys() - arrays_taken(mapping, None)
            text = f"no episode has the array '{name}', which mapping.{key} names"
            near = closest(name, free)
            is_lost = is_of_user and (near is not None or not is_met)
            yield Missing(f"mapping.{key}", name, f"{text}{_hint(name, free, held.arrays)}", is_lost, near)


def _attribute(
    key: str, name: str, mapping: MappingSpec, held: Holdings, is_of_user: bool, is_met: bool
) -> Missing:
    free = held.attributes.keys() - attributes_taken(mapping)
    text = f"no episode has the attribute '{name}', which mapping.{key} names"
    if name in held.of_files:
        text += ": it is one of the file, not of an episode"
        return Missing(f"mapping.{key}", name, text, is_of_user and not is_met)
    near = closest(name, free)
    is_lost = is_of_user and (near is not None or not is_met)
    return Missing(f"mapping.{key}", name, f"{text}{_hint(name, free, held.attributes)}", is_lost, near)


def _optional(mapping: MappingSpec, base: MappingSpec | None, held: Holdings) -> Iterator[Missing]:
    """Optional quantities that are left out because no episode has their array."""
    fields = {} if base is None else {(where, name): field for where, name, field in fields_of(base)}
    free = held.arrays.keys() - arrays_taken(mapping, None)
    for where, quantity, field in fields_of(mapping):
        if field.optional and field.key not in held.arrays:
            text = f"{quantity} of {where} is left out: no episode has the array '{field.key}'"
            is_of_user = fields.get((where, quantity)) != field
            yield Missing(
                f"mapping.{where}", quantity, f"{text}{_hint(str(field.key), free, ())}", is_of_user
            )


def _content(content: Content, packaged: Content | None, held: Holdings) -> Iterator[Missing]:
    packaged_skip = () if packaged is None else packaged.skip
    skipped = [name for name in held.left_out if held.why_left_out(name)[0] == SKIPPED]
    for pattern in content.skip:
        if any(fnmatch.fnmatchcase(name, pattern) for name in skipped):
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for name in held.images):
            text = f"content.skip '{pattern}' names images only, which content.cameras leaves out or takes"
        else:
            text = f"content.skip '{pattern}' matches no array{_hint(pattern, held.arrays, ())}"
        yield Missing("content.skip", pattern, text, pattern not in packaged_skip)
    for key, pattern in () if content.options is None else content.options.image_patterns:
        arrays = {*held.images, *held.left_out}
        if not any(fnmatch.fnmatchcase(name, pattern) for name in arrays):
            text = f"{key} '{pattern}' matches no image array"
            yield Missing(key, pattern, text + _hint(pattern, held.arrays, ()), is_lost=True)


def _hint(name: str, free: Collection[str], present: Collection[str]) -> str:
    """The nearest name among those that nothing takes, else what there is."""
    near = nearest(name, free)
    if near or not present:
        return near
    listed = sorted(present)
    return f" (there are {', '.join(listed[:8])}{', …' if len(listed) > 8 else ''})"
