"""What the rules of a spec ask for and no episode has: cameras, attributes, arrays, patterns.

Names that come with a packaged spec are alternatives, of which files have some, and no loss. So are those of
a user where another one of the same rules is found, unless a name is near.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.holdings import Holdings, arrays_taken, attributes_taken, fields_of
from robot_foundry.ingest.spec import Content
from robot_foundry.ingest.spec import Mapping as SpecMapping
from robot_foundry.runtime.errors import nearest


@dataclass(frozen=True)
class Missing:
    """`asked` is the key of the spec, `name` what it asks for; `sentence` says it, with the nearest name.

    `is_lost` is False where it is an alternative.
    """

    asked: str
    name: str
    sentence: str
    is_lost: bool


def missing(
    asked: tuple[SpecMapping, Content | None],
    packaged: tuple[SpecMapping | None, Content | None],
    held: Holdings,
    told: Collection[tuple[str, str]],
    has_success: bool,
) -> list[Missing]:
    """All that no episode has of what is asked, where some of it came with a packaged spec.

    `told` are kind and source of the annotations that were made. `has_success` says whether any episode is
    known to have succeeded or failed.
    """
    (mapping, content), (base, packaged_content) = asked, packaged
    found = [*_cameras(mapping, base, held), *_instructions(mapping, base, held, told)]
    for key, rules, is_met in (
        ("success", mapping.success, has_success),
        ("invalid_action", mapping.invalid_action, False),
        ("intervention", mapping.intervention, False),
    ):
        packaged_rules = () if base is None else getattr(base, key)
        found += _by_rule(key, rules, packaged_rules, mapping, held, is_met)
    if mapping.embodiment_attr and mapping.embodiment_attr not in held.attributes:
        own = base is None or base.embodiment_attr != mapping.embodiment_attr
        found.append(_attribute("embodiment", mapping.embodiment_attr, mapping, held, own, is_met=False))
    found += _optional(mapping, base, held)
    return found if content is None else [*found, *_content(content, packaged_content, held)]


def _cameras(mapping: SpecMapping, base: SpecMapping | None, held: Holdings) -> Iterator[Missing]:
    free = held.cameras.keys() - mapping.cameras.keys()
    roles = {role for name, role in mapping.cameras.items() if name in held.cameras}
    for name, role in mapping.cameras.items():
        if name not in held.cameras:
            own = base is None or base.cameras.get(name) != role
            is_lost = own and (role not in roles or bool(nearest(name, free)))
            text = f"no episode has the camera '{name}', which mapping.cameras names"
            yield Missing("mapping.cameras", name, f"{text}{_hint(name, free, held.cameras)}", is_lost)


def _instructions(
    mapping: SpecMapping, base: SpecMapping | None, held: Holdings, told: Collection[tuple[str, str]]
) -> Iterator[Missing]:
    is_met = any(kind == "instruction" for kind, _ in told)
    sources = {source for _, source in told}
    kinds = {kind for kind, _ in told} | sources
    for rule in mapping.instruction:
        own = base is None or rule not in base.instruction
        if "attr" in rule:
            name = str(rule["attr"])
            # A rule may reach into an attribute; then what was made of it says so.
            is_used = any(source.startswith(f"attr:{name}") for source in sources)
            if name not in held.attributes and not is_used:
                yield _attribute("instruction", name, mapping, held, own, is_met)
        elif "spans" in rule and not any(fnmatch.fnmatchcase(kind, str(rule["spans"])) for kind in kinds):
            name = str(rule["spans"])
            text = f"no episode has a text under '{name}', which mapping.instruction names"
            hint = _hint(name, kinds - {"instruction"}, ())
            yield Missing("mapping.instruction", name, f"{text}{hint}", own and bool(hint or not is_met))
        elif "by_env" in rule and rule["by_env"].keys().isdisjoint(held.environments):
            made_by = ", ".join(sorted(held.environments)) or "no environment that the source names"
            text = f"mapping.instruction.by_env has no text for {made_by}"
            hint = nearest(next(iter(sorted(held.environments)), ""), rule["by_env"])
            yield Missing("mapping.instruction", "by_env", f"{text}{hint}", own and bool(hint or not is_met))


def _by_rule(
    key: str,
    rules: Sequence[Mapping[str, Any]],
    packaged: Sequence[Mapping[str, Any]],
    mapping: SpecMapping,
    held: Holdings,
    is_met: bool,
) -> Iterator[Missing]:
    """Rules of which no episode has the attribute or array; `is_met` says that another one gave something."""
    for rule in rules:
        own = rule not in packaged
        if "attr" in rule and rule["attr"] not in held.attributes:
            yield _attribute(key, str(rule["attr"]), mapping, held, own, is_met)
        elif "key" in rule and rule["key"] not in held.arrays:
            name = str(rule["key"])
            free = held.arrays.keys() - arrays_taken(mapping, None)
            text = f"no episode has the array '{name}', which mapping.{key} names"
            is_lost = own and bool(nearest(name, free) or not is_met)
            yield Missing(f"mapping.{key}", name, f"{text}{_hint(name, free, held.arrays)}", is_lost)


def _attribute(key: str, name: str, mapping: SpecMapping, held: Holdings, own: bool, is_met: bool) -> Missing:
    free = held.attributes.keys() - attributes_taken(mapping)
    text = f"no episode has the attribute '{name}', which mapping.{key} names"
    if name in held.of_files:
        text += ": it is one of the file, not of an episode"
        return Missing(f"mapping.{key}", name, text, own and not is_met)
    is_lost = own and bool(nearest(name, free) or not is_met)
    return Missing(f"mapping.{key}", name, f"{text}{_hint(name, free, held.attributes)}", is_lost)


def _optional(mapping: SpecMapping, base: SpecMapping | None, held: Holdings) -> Iterator[Missing]:
    """Optional quantities that are left out because no episode has their array."""
    fields = {} if base is None else {(where, name): own for where, name, own in fields_of(base)}
    free = held.arrays.keys() - arrays_taken(mapping, None)
    for where, quantity, field in fields_of(mapping):
        if field.optional and field.key not in held.arrays:
            text = f"{quantity} of {where} is left out: no episode has the array '{field.key}'"
            own = fields.get((where, quantity)) != field
            yield Missing(f"mapping.{where}", quantity, f"{text}{_hint(str(field.key), free, ())}", own)


def _content(content: Content, packaged: Content | None, held: Holdings) -> Iterator[Missing]:
    known = () if packaged is None else packaged.skip
    skipped = [name for name in held.left_out if "skipped" in held.why_left_out(name)[0]]
    for pattern in content.skip:
        if any(fnmatch.fnmatchcase(name, pattern) for name in skipped):
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for name in held.images):
            text = f"content.skip '{pattern}' names images only, which content.cameras leaves out or takes"
        else:
            text = f"content.skip '{pattern}' matches no array{_hint(pattern, held.arrays, ())}"
        yield Missing("content.skip", pattern, text, pattern not in known)
    images = () if content.hdf5 is None else content.hdf5.images
    for pattern in () if isinstance(images, Mapping) else images:
        arrays = {*held.images, *held.left_out}
        if not any(fnmatch.fnmatchcase(name, pattern) for name in arrays):
            text = f"content.hdf5.images '{pattern}' matches no image array"
            yield Missing(
                "content.hdf5.images", pattern, text + _hint(pattern, held.arrays, ()), is_lost=True
            )


def _hint(name: str, free: Collection[str], known: Collection[str]) -> str:
    """The nearest name among those that nothing takes, else what there is."""
    near = nearest(name, free)
    if near or not known:
        return near
    listed = sorted(known)
    return f" (there are {', '.join(listed[:8])}{', …' if len(listed) > 8 else ''})"
