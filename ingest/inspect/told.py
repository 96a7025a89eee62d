"""What a survey says beside its numbers: rate, robot, instruction, success, roles of cameras."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM, TODO
from robot_foundry.ingest.inspect.survey import Read, Series, Survey
from robot_foundry.ingest.sources.robot import named_columns
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.normalization.space import check_embodiment
from robot_foundry.runtime.errors import FoundryError

LONGEST_TEXT = 100
_ROBOT = ("robot_type", "robot", "robots", "embodiment", "robot_name", "arm")
# Words with spaces between, and no path, markup or JSON; and an array of fewer numbers is no text.
_SENTENCE = re.compile(r"[^\W\d_]+(?: [\w',.-]+){2,30}")
FEWEST_CHARACTERS = 16
_TASK_FIRST = ("language_instruction", "instruction", "task", "prompt")


@dataclass(frozen=True)
class Said:
    """A value of a spec, how sure it is, and why; `value` is TODO where nothing tells."""

    value: Any
    confidence: str
    why: str


def rate_of(survey: Survey) -> Said:
    """The frames a second; TODO where the source does not say them."""
    fps = survey.fps
    if fps is None:
        return Said(TODO, LOW, "the source does not say how many frames a second it has")
    return Said(fps[0], HIGH, f"{fps[0]:g} Hz by {fps[1]}")


def robot_of(survey: Survey) -> Said:
    """The embodiment by an attribute that names a robot."""
    for read in survey.read[:1]:
        for where, value in _flat({**read.environment, **read.attributes}, ""):
            name = where.rpartition(".")[2]
            if name in _ROBOT and isinstance(value, str) and 0 < len(value) <= 60:
                plain = named_columns.plain(value) or TODO
                try:
                    check_embodiment(plain)
                except FoundryError:
                    continue
                return Said(plain, MEDIUM, f"{where} is '{shown(value, 60)}'")
    return Said(TODO, LOW, "nothing names the robot")


def _flat(values: Mapping[str, Any], above: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Texts of nested attributes by their dotted names; a list of one as its item."""
    for name, value in values.items():
        path = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping) and depth < 4 and name not in (named_columns.NAMED, "ros"):
            yield from _flat(value, path, depth + 1)
        elif isinstance(value, list) and len(value) == 1:
            yield path, value[0]
        else:
            yield path, value


def instructions_of(survey: Survey) -> list[tuple[dict[str, str], Said]]:
    """Rules of the instruction, the likeliest first, each with an example."""
    rules: dict[str, tuple[dict[str, str], Said]] = {}
    for read in survey.read:
        for kind, text in read.spans:
            if text.strip() and names.is_language(kind):
                why = f"texts of frames, as '{shown(text, LONGEST_TEXT)}'"
                rules.setdefault(f"s{kind}", ({"spans": kind}, Said(kind, HIGH, why)))
        for name, value in {**read.environment, **read.attributes}.items():
            given = next(iter(_texts(value)), None)
            if given is not None and names.is_language(name):
                why = f"as '{shown(given, LONGEST_TEXT)}'"
                rules.setdefault(f"a{name}", ({"attr": name}, Said(name, MEDIUM, why)))
    for name, series in survey.series.items():
        if names.is_language(name) and (example := text_of_code_points(series)) is not None:
            why = f"numbers of characters, then zeros, as '{shown(example, LONGEST_TEXT)}'"
            rules.setdefault(f"c{name}", ({"code_points": name}, Said(name, HIGH, why)))
    order = sorted(rules.values(), key=lambda rule: _place(rule[1].value))
    return order or _by_sentence(survey)


def text_of_code_points(series: Series) -> str | None:
    """The text of the first row, if all rows are numbers of printable characters with zeros behind."""
    if series.dtype[:3] not in ("int", "uin") or len(series.shape) != 1 or series.width < FEWEST_CHARACTERS:
        return None
    rows = series.rows
    is_text = rows > 0
    if not rows.size or not is_text.any() or rows.min() < 0 or rows.max() > sys.maxunicode:
        return None
    if (is_text[:, 1:] & ~is_text[:, :-1]).any() or (rows[is_text] < ord(" ")).any():
        return None
    return "".join(chr(int(number)) for number in rows[0][is_text[0]])


def _by_sentence(survey: Survey) -> list[tuple[dict[str, str], Said]]:
    """Attributes of episodes that are no more than a few words, whatever they are called."""
    found = {
        name: value
        for read in survey.read[:1]
        for name, value in read.attributes.items()
        if isinstance(value, str) and _SENTENCE.fullmatch(value.strip())
    }
    return [
        ({"attr": name}, Said(name, LOW, f"some words, as '{shown(value, LONGEST_TEXT)}'"))
        for name, value in sorted(found.items())
    ]


def _texts(value: Any) -> Sequence[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str) and item.strip() and " " in item.strip()]


def _place(name: str) -> tuple[int, str]:
    last = name.rpartition("/")[2]
    return next((n for n, start in enumerate(_TASK_FIRST) if last.startswith(start)), len(_TASK_FIRST)), name


def successes_of(survey: Survey) -> list[tuple[dict[str, Any], Said]]:
    """Rules of success: an attribute, or rewards that reach one."""
    rules: list[tuple[dict[str, Any], Said]] = []
    for read in survey.read[:1]:
        for name in read.attributes:
            if "success" in names.words(name) and "file" not in names.words(name):
                rules.append(({"attr": name}, Said(name, MEDIUM, "by its name")))
    for name, series in survey.series.items():
        held = set(names.words(name))
        if series.width == 1 and held & {"reward", "rewards", "success"} and series.rows.size:
            high = float(series.rows.max())
            if set(series.rows.reshape(-1)) <= {0.0, 1.0} and (high == 1.0 or "success" in held):
                rules.append(
                    (
                        {"key": name, "at_least": 1.0},
                        Said(name, LOW, "zeros and ones, by its name of success"),
                    )
                )
    return rules


def flags_of(survey: Survey) -> dict[str, list[tuple[dict[str, Any], Said]]]:
    """Rules of `invalid_action` and `intervention` by names of arrays with one truth a frame."""
    rules: dict[str, list[tuple[dict[str, Any], Said]]] = {"invalid_action": [], "intervention": []}
    for name, series in survey.series.items():
        if series.width == 1 and series.rows.size and set(series.rows.reshape(-1)) <= {0.0, 1.0}:
            told = names.flag_of(name)
            if told is not None:
                flag, when = told
                share = float((series.rows == when).mean())
                why = f"zeros and ones, by its name; so {share:.1%} of the frames are flagged"
                rules[flag].append(({"key": name, "is": when}, Said(name, LOW, why)))
    return rules


def roles_of(survey: Survey) -> dict[str, Said]:
    """The role of each camera."""
    cameras = [camera.name for camera in survey.cameras]
    found = names.roles_of(cameras)
    return {name: Said(role, *why.split(": ", 1)) for name, (role, why) in found.items()}


def texts_of(read: Read) -> list[tuple[str, str]]:
    """Texts of an episode by their place."""
    return [(kind, shown(text, LONGEST_TEXT)) for kind, text in read.spans]
