"""A pipeline's YAML: named stages, each a command, what it makes, and whose products it reads.

values: {vocab: 2048}                # or a YAML file beside this one
stages:
  tokenizer:
    run: foundry-data tokenizer train words --vocab ${vocab} --as bpe --out {out}
    out: versions/tokenizer.json
    needs: [words]                   # stages that are read by other names than {words}
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from robot_foundry.cli.pipeline import references
from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.files import read_utf8
from robot_foundry.trainer.recipes.layers import overlay, override_layer
from robot_foundry.trainer.recipes.yaml_text import read_yaml

FILE_KEYS = ("values", "stages")
STAGE_KEYS = ("run", "out", "needs")
OF_A_SHELL = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"}


@dataclass(frozen=True)
class Stage:
    """One command. `run` is as it is written, `needs` names all stages that it reads, in their order."""

    name: str
    run: str
    out: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    """Stages in the order in which they run; `values_file` is where the values come from, if elsewhere."""

    path: Path
    values: Mapping[str, Any]
    values_file: str | None
    stages: tuple[Stage, ...]

    @property
    def flat(self) -> dict[str, str]:
        """Values by their dotted names, as text."""
        return references.flattened(self.values)

    @property
    def notes(self) -> list[str]:
        """What is there and nothing takes."""
        texts = [stage.run for stage in self.stages]
        return [f"no stage reads ${{{name}}}" for name in references.unused(self.flat, texts)]

    def arguments(self, stage: Stage, places: Mapping[str, str] | None = None) -> list[str]:
        """The words of a stage's command; `places` says where products are, which is where they are made."""
        made = {other.name: other.out for other in self.stages} | {references.OUT: stage.out}
        text = references.with_values(stage.run, self.flat)
        return [
            references.with_products(word, made if places is None else places) for word in shlex.split(text)
        ]


@dataclass(frozen=True)
class Draft:
    """A pipeline as far as its file can be read: what is wrong with it, and the stages whose commands are
    whole."""

    pipeline: Pipeline
    problems: tuple[str, ...]
    sound: tuple[Stage, ...]


def read_pipeline(path: Path, overrides: Iterable[str] = ()) -> Pipeline:
    """The pipeline of a file, with `key=value` in its values. UsageError lists all that is wrong with it."""
    draft = read_draft(path, overrides)
    refuse(path, draft.problems)
    return draft.pipeline


def read_draft(path: Path, overrides: Iterable[str] = ()) -> Draft:
    """The same with what is wrong. UsageError where the file is no YAML, or holds no keys."""
    content = read_yaml(read_utf8(path), str(path))
    problems = [
        f"{key}: is not a key{nearest(str(key), FILE_KEYS)}" for key in content if key not in FILE_KEYS
    ]
    values, values_file = _values(content.get("values", {}), path, problems)
    values = _overridden(values, overrides, problems)
    stages = _stages(content.get("stages"), problems)
    pipeline = Pipeline(path, values, values_file, stages)
    given = content.get("stages")
    names = [str(name) for name in given] if isinstance(given, Mapping) else []
    sound = []
    for stage in stages:
        lines = [f"{stage.name}: {line}" for line in _references(stage, pipeline.flat, names)]
        if not lines and not _shell_words(references.with_values(stage.run, pipeline.flat)):
            sound.append(stage)
        problems += lines
    problems += [
        f"values.{name}: '{text}' names the product of a stage, which only commands do"
        for name, text in pipeline.flat.items()
        if references.products_in(text)
    ]
    problems += _places(stages)
    return Draft(pipeline, tuple(problems), tuple(sound))


def refuse(path: Path, problems: Iterable[str]) -> None:
    """UsageError if there are any problems with a pipeline."""
    lines = list(dict.fromkeys(problems))
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        listed = "".join(f"\n  {line}" for line in lines)
        raise UsageError(
            f"the pipeline {path} has {count}:{listed}", hint="docs/pipeline.md says what it may say"
        )


def _values(given: Any, path: Path, problems: list[str]) -> tuple[dict[str, Any], str | None]:
    """The values, and the file that they are in; a path is as seen from the pipeline's file."""
    if isinstance(given, Mapping):
        return dict(given), None
    if isinstance(given, str):
        file = path.parent / given
        if file.is_file():
            return read_yaml(read_utf8(file), str(file)), given
        problems.append(f"values: there is no file {file}")
        return {}, given
    problems.append(f"values: needs names with values, or the name of a YAML file, not {given!r}")
    return {}, None


def _overridden(values: dict[str, Any], overrides: Iterable[str], problems: list[str]) -> dict[str, Any]:
    for override in overrides:
        layer = override_layer(override)
        known = references.flattened(values)
        problems += [
            f"{override}: there is no value {name}{nearest(name, known)}"
            for name in references.flattened(layer)
            if name not in known
        ]
        values = overlay(values, layer)
    return values


def _stages(given: Any, problems: list[str]) -> tuple[Stage, ...]:
    """The stages that can be read; of others it is told why."""
    if not isinstance(given, Mapping) or not given:
        problems.append("stages: needs at least one stage by its name")
        return ()
    stages = []
    for name, keys in given.items():
        problems += _misshapen(name, keys)
        if isinstance(keys, Mapping) and all(_is_text(keys.get(key)) for key in ("run", "out")):
            needs = keys["needs"] if _are_names(keys.get("needs")) else []
            named = dict.fromkeys([*_named(keys["run"]), *needs])
            stages.append(Stage(str(name), keys["run"], str(PurePosixPath(keys["out"])), tuple(named)))
    return tuple(stages)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _named(run: str) -> list[str]:
    return [name for name in references.products_in(run) if name != references.OUT]


def _misshapen(name: Any, keys: Any) -> Iterator[str]:
    """What keeps a stage from being read."""
    if not isinstance(name, str) or not re.fullmatch(references.NAME, name) or name == references.OUT:
        yield f"{name}: is no name of a stage (small letters, digits, - and _; not '{references.OUT}')"
    if not isinstance(keys, Mapping):
        yield f"{name}: needs the keys run and out"
        return
    for key in keys:
        if key not in STAGE_KEYS:
            yield f"{name}.{key}: is not a key{nearest(str(key), STAGE_KEYS)} (keys: {', '.join(STAGE_KEYS)})"
    for key in ("run", "out"):
        if not _is_text(keys.get(key)):
            yield f"{name}.{key}: needs text"
    if "needs" in keys and not _are_names(keys["needs"]):
        yield f"{name}.needs: needs a list of stages"
    try:
        for word in _shell_words(str(keys.get("run"))):
            yield f"{name}.run: no shell reads it, so '{word}' means nothing"
    except ValueError as error:
        yield f"{name}.run: {error}"


def _shell_words(run: str) -> list[str]:
    """What of a command is meant for a shell. ValueError where it cannot be taken apart into words."""
    return [word for word in shlex.split(run) if word in OF_A_SHELL]


def _references(stage: Stage, flat: Mapping[str, str], names: list[str]) -> Iterator[str]:
    """What a stage names that is not there when it runs; `names` are those of all stages."""
    if unknown := [*references.unknown_values(stage.run, flat)]:
        yield from unknown
    else:
        yield from _broken(references.with_values(stage.run, flat))
    before = names[: names.index(stage.name)]
    for need in stage.needs:
        if need not in names:
            yield f"there is no stage {need!r}{nearest(need, before)}"
        elif need not in before:
            yield f"it reads {need!r}, which comes no earlier"
    if references.OUT not in references.products_in(stage.run):
        yield "its command does not say where its product goes: write {out} after --pointer or --out"


def _broken(run: str) -> Iterator[str]:
    """What keeps a command from being read once its values are in it."""
    try:
        if not shlex.split(run):
            yield "its command is empty with its values"
    except ValueError as error:
        yield f"its command cannot be read with its values: {error}"


def _places(stages: tuple[Stage, ...]) -> Iterator[str]:
    """A line for each product that lies in the place of another, or in no place of its own."""
    for i, stage in enumerate(stages):
        place = PurePosixPath(stage.out)
        if place.is_absolute() or ".." in place.parts or place == PurePosixPath("."):
            yield f"{stage.name}.out: '{stage.out}' is no path below the folder of work"
        for name in references.values_in(stage.out):
            yield f"{stage.name}.out: '{stage.out}' reads ${{{name}}}, which only commands do"
        for other in stages[:i]:
            theirs = PurePosixPath(other.out)
            if place == theirs or place in theirs.parents or theirs in place.parents:
                yield f"{stage.name}.out: '{stage.out}' is in the way of that of {other.name}, '{other.out}'"
