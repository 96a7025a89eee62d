"""What the source says of an episode by the rules of a mapping: its instructions, and whether it succeeded.

A rule that finds something it cannot read says so in the notes: what is unreadable is not absent.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.absence.notes import Notes
from robot_foundry.ingest.robot.spec.spec import MappingSpec
from robot_foundry.ingest.sources.robot.shared import SKIPPED

Annotation = tuple[int, int, str, str, str]  # start, end, kind, text, source
INSTRUCTION = "instruction"
YES = frozenset(("true", "yes", "y", "t", "1", "1.0", "success", "successful", "succeeded"))
NO = frozenset(("false", "no", "n", "f", "0", "0.0", "failure", "fail", "failed", "unsuccessful"))
LONGEST_EXAMPLE = 40
_NOTHING = object()
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")


def annotations_of(
    mapping: MappingSpec, episode: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], notes: Notes
) -> tuple[Annotation, ...]:
    """What the source says of spans of frames; the rules are for an instruction where it says none."""
    num_frames = int(episode["num_frames"])
    spans = tuple((*span, "steps") for span in _spans(episode, num_frames, None, notes))
    if any(kind == INSTRUCTION for _, _, kind, _, _ in spans):
        return spans
    instructions = _instructions(mapping, episode, arrays, notes)
    used = {source for *_, source in instructions}
    unread = {kind for _, _, kind, text in episode.get("annotations", ()) if not isinstance(text, str)}
    by_rules = [rule["spans"] for rule in mapping.instruction if "spans" in rule]
    for kind in sorted(unread):
        if not any(fnmatch.fnmatchcase(kind, pattern) for pattern in by_rules):
            notes.say(_not_utf8(f"'{kind}'", f"spans: {in_yaml(kind)}"))
    return (*instructions, *(entry for entry in spans if entry[2] not in used))


def success_of(
    mapping: MappingSpec, episode: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], notes: Notes
) -> bool | None:
    """By the first rule that the episode has data for; None if there is none, or if that cannot be read."""
    for rule in mapping.success:
        name = rule.get("key", rule.get("attr"))
        if "key" in rule:
            values = arrays.get(name)
            if values is not None and values.size:
                return _reaches(name, values, rule["at_least"], notes)
            value = _NOTHING
        else:
            value = _attribute_value(rule, episode["attributes"], notes)
            if value is _NOTHING:
                value = _single(rule, arrays, notes)
        if value is _NOTHING:
            why = None if name in arrays else _why_unread(rule, mapping, episode)
            if why is None:
                continue
            notes.say(f"'{name}' cannot be read, so success is unknown: {why}")
            return None
        answer = _which(value, rule) if "failure" in rule else yes_or_no(value)
        if answer is None:
            notes.say(f"{_name(rule)} says neither yes nor no, so success is unknown", _example(value))
        return answer
    return None


def _why_unread(rule: Mapping[str, Any], mapping: MappingSpec, episode: Mapping[str, Any]) -> str | None:
    """Why what the rule names says nothing though it is there; None if it is not, or the spec skips it."""
    name = rule.get("key", rule.get("attr"))
    reason = episode.get("left_out", {}).get(name)
    if reason is not None:
        return None if reason == SKIPPED else str(reason)
    if any(kind == name for _, _, kind, _ in episode.get("annotations", ())):
        return "it holds texts of frames"
    if name not in episode["attributes"]:
        return None
    if "key" not in rule:
        return "it is empty" if episode["attributes"][name] is None else None
    is_for_another = any(other.get("attr") == name for other in mapping.success)
    return None if is_for_another else "it is an attribute or a text, not an array of numbers"


def _single(rule: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], notes: Notes) -> Any:
    """The one number of an array in place of an attribute; _NOTHING if there is no such array."""
    values = arrays.get(rule["attr"])
    if values is None or "json" in rule:
        return _NOTHING
    if values.size == 1:
        return values.item()
    name = rule["attr"]
    notes.say(
        f"'{name}' is an array and no attribute: `{{key: {name}, at_least: 1}}` in mapping.success reads it"
    )
    return _NOTHING


def yes_or_no(value: Any) -> bool | None:
    """The answer that a JSON value gives, alone or in a list of one; None if it gives none."""
    if isinstance(value, list) and len(value) == 1:
        return yes_or_no(value[0])
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    word = value.strip().casefold() if isinstance(value, str) else ""
    return True if word in YES else False if word in NO else None


def _which(value: Any, rule: Mapping[str, Any]) -> bool | None:
    """Which of the rule's two words is in a text; None if not just one is."""
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str) or (rule["success"] in text) == (rule["failure"] in text):
        return None
    return rule["success"] in text


def _reaches(key: str, values: NDArray[Any], at_least: float, notes: Notes) -> bool | None:
    """Whether the greatest number of an array does; what is no number is passed over, and told."""
    numbers = values[np.isfinite(values)]
    if numbers.size == 0:
        notes.say(f"'{key}' holds no finite number, so success is unknown")
        return None
    if numbers.size < values.size:
        notes.say(f"'{key}' holds NaN or infinity, which say nothing of success")
    return bool(numbers.max() >= at_least)


def _instructions(
    mapping: MappingSpec, episode: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], notes: Notes
) -> tuple[Annotation, ...]:
    """By the first rule that gives any: texts over the whole episode, or all that the spans say."""
    num_frames = int(episode["num_frames"])
    for rule in mapping.instruction:
        if "code_points" in rule:
            lines = tuple(_lines(rule["code_points"], arrays, num_frames, notes))
            if lines:
                return lines
            continue
        if "spans" in rule:
            spans = tuple(
                (start, end, INSTRUCTION, text.strip(), kind)
                for start, end, kind, text in _spans(episode, num_frames, rule, notes)
            )
            if spans:
                return spans
            continue
        texts, source = _texts(rule, episode, notes)
        stripped = dict.fromkeys(text.strip() for text in texts if text.strip())
        if stripped:
            return tuple((0, num_frames, INSTRUCTION, text, source) for text in stripped)
    return ()


def _texts(rule: Mapping[str, Any], episode: Mapping[str, Any], notes: Notes) -> tuple[list[str], str]:
    """The texts that a rule for the whole episode gives, and where they are from."""
    if "text" in rule:
        return [rule["text"]], "spec"
    if "by_env" in rule:
        environment = str(episode["environment"].get("env_name"))
        text = rule["by_env"].get(environment)
        return [] if text is None else [text], f"env:{environment}"
    # What all episodes of a file have in common may stand at the file alone.
    value = _attribute_value(rule, {**episode["environment"], **episode["attributes"]}, notes)
    texts = []
    for item in () if value is _NOTHING else value if isinstance(value, list) else [value]:
        text = _decoded(item, rule.get("encoding"))
        if text is not None:
            texts.append(text)
        elif _is_encoded(item):
            notes.say(_not_utf8(_name(rule), f"attr: {in_yaml(rule['attr'])}"))
        else:
            notes.say(f"{_name(rule)} is no text, so it gives no instruction", _example(item))
    path = f".{rule['json']}" if "json" in rule else ""
    return texts, f"attr:{rule['attr']}{path}"


def _lines(
    key: str, arrays: Mapping[str, NDArray[Any]], num_frames: int, notes: Notes
) -> Iterator[Annotation]:
    """The texts of an array [N, n] of a text a frame: numbers of characters of Unicode, then zeros."""
    codes_Nn = arrays.get(key)
    if codes_Nn is None:
        return
    if codes_Nn.ndim != 2 or len(codes_Nn) < num_frames or codes_Nn.dtype.kind not in "iu":
        notes.say(f"'{key}' holds no numbers of characters, a row a frame, so it gives no instruction")
        return
    codes_Nn = codes_Nn[:num_frames]
    changes_N = (codes_Nn[1:] != codes_Nn[:-1]).any(axis=1)
    starts = [0, *(np.flatnonzero(changes_N) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], num_frames], strict=True):
        text = _of_code_points(codes_Nn[start])
        if text is None:
            notes.say(f"'{key}' holds numbers that are no characters, so it gives no instruction")
        elif text.strip():
            yield start, end, INSTRUCTION, text.strip(), key


def _of_code_points(codes_n: NDArray[Any]) -> str | None:
    """The text up to the first zero; None where a number is no character."""
    (zeros,) = np.nonzero(codes_n == 0)
    try:
        text = "".join(map(chr, codes_n[: zeros[0] if zeros.size else None].tolist()))
        text.encode("utf-8")  # half characters are none
    except (ValueError, OverflowError):
        return None
    return text


def _spans(
    episode: Mapping[str, Any], num_frames: int, rule: Mapping[str, Any] | None, notes: Notes
) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, kind, text) of what is said of spans of frames, by a rule or, None, of all."""
    for start, end, kind, value in episode.get("annotations", ()):
        if rule is not None and not fnmatch.fnmatchcase(str(kind), rule["spans"]):
            continue
        text = _decoded(value, None if rule is None else rule.get("encoding"))
        if text is not None and start < num_frames:
            yield int(start), min(int(end), num_frames), str(kind), text
        elif text is None and rule is not None:
            notes.say(_not_utf8(f"'{kind}'", f"spans: {in_yaml(rule['spans'])}"))


def _attribute_value(rule: Mapping[str, Any], attributes: Mapping[str, Any], notes: Notes) -> Any:
    """What the attribute of the rule holds, or the JSON in it; _NOTHING if it is not there, or is null."""
    value = attributes.get(rule["attr"])
    if "json" in rule and value is not None:
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        text = _decoded(value, rule.get("encoding"))
        try:
            value = _within(value if text is None else text, rule["json"])
        except ValueError:
            notes.say(f"attribute '{rule['attr']}' is no JSON object", _example(value))
            return _NOTHING
    return _NOTHING if value is None else value


def _within(value: Any, path: str) -> Any:
    """What lies under the path, of names joined by dots; None if nothing does. ValueError for no object."""
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
    if not isinstance(value, Mapping):
        raise ValueError("no object")
    if path in value:
        return value[path]
    for at in (i for i, letter in enumerate(path) if letter == "."):
        inner = value.get(path[:at])
        nested = _within(inner, path[at + 1 :]) if isinstance(inner, str | Mapping) else None
        if nested is not None:
            return nested
    return None


def _is_encoded(value: Any) -> bool:
    """Whether it stands for bytes, as no JSON of the source's own does that only looks so."""
    if not isinstance(value, Mapping) or set(value) != {"base64"} or not isinstance(value["base64"], str):
        return False
    try:
        base64.b64decode(value["base64"], validate=True)
    except ValueError:
        return False
    return True


def _decoded(value: Any, encoding: str | None) -> str | None:
    """The text, of bytes that are not UTF-8 by the encoding; None for what is no text, or not in it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")  # JSON can hold half characters
    if encoding is None or not _is_encoded(value):
        return None
    try:
        return base64.b64decode(value["base64"]).decode(encoding)
    except UnicodeError:
        return None


def _not_utf8(what: str, rule: str) -> str:
    return (
        f"{what} is not UTF-8, nor in an encoding that its rule names, so its bytes are kept and give no "
        f"instruction: `{{{rule}, encoding: …}}` in mapping.instruction says which it is"
    )


def in_yaml(text: str) -> str:
    """The text as it can stand in a rule, in quotes where YAML would read it otherwise: `"*instruction"`."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _name(rule: Mapping[str, Any]) -> str:
    inner = f"'{rule['json']}' in " if "json" in rule else ""
    return f"{inner}attribute '{rule['attr']}'"


def _example(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[:LONGEST_EXAMPLE]}…"
