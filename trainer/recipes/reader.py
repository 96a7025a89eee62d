"""Recipes: YAML and `key=value` overrides to a resolved `Config`; every problem is reported at once."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import draccus
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.files import read_utf8
from robot_foundry.trainer.models.presets import PRESETS
from robot_foundry.trainer.tasks.vla.config import Config, problems

PACKAGED = Path(__file__).parent.parent / "recipes"
DEFAULT = "vla_tiny"
EXCLUSIVE = (("run", "steps", "samples"),)  # setting one in a later layer takes the other back


def read_recipe(recipe: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a recipe (a file, or the name of a packaged one) under `key.path=value` overrides.

    Values are parsed as YAML 1.2. Raises UsageError that lists every unknown key with the nearest valid one,
    every value of a wrong type or out of range, and every missing value.
    """
    path = recipe_path(recipe)
    layer = _parse(read_utf8(path), str(path))
    if not isinstance(layer, dict):
        raise UsageError(f"{path} holds no keys")
    found: list[str] = []
    for override in overrides:
        layer = _overlay(layer, _override(override))
    _check_names(found, Config, layer, "")
    config = _decode(Config, _expand(found, Config, layer, ""), found)
    reported = tuple(line.split(":")[0] for line in found)
    found += [line for line in problems(config) if not line.startswith(reported)]
    if found:
        listed = "".join(f"\n  {line}" for line in dict.fromkeys(found))
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise UsageError(f"the recipe {path} has {count}:{listed}", hint="docs/training.md lists every key")
    return config


def recipe_path(recipe: str | Path | None) -> Path:
    """The file of a recipe given by path or packaged name; None is the default one."""
    path = Path(recipe if recipe is not None else DEFAULT)
    packaged = PACKAGED / f"{path}.yaml"
    if path.is_file():
        return path
    if packaged.parent == PACKAGED and packaged.is_file():
        return packaged
    known = sorted(file.stem for file in PACKAGED.glob("*.yaml"))
    raise UsageError(
        f"there is no recipe '{recipe}'{nearest(str(recipe), known)}",
        hint=f"give a YAML file or one of {', '.join(known)}",
    )


def from_resolved(values: Mapping[str, Any]) -> Config:
    """The configuration that `resolved` wrote; UsageError where it fits this version no longer."""
    found: list[str] = []
    _check_names(found, Config, values, "")
    config = _decode(Config, values, found)
    found += problems(config)
    if found:
        raise UsageError(f"config.yaml does not fit this version: {'; '.join(found)}")
    return config


def resolved(config: Config) -> dict[str, Any]:
    """The configuration as plain nested values; reading them back gives an equal one."""
    return draccus.encode(config)


def read_yaml(text: str, where: str) -> dict[str, Any]:
    values = _parse(text, where)
    if not isinstance(values, dict):
        raise UsageError(f"{where} holds no keys")
    return values


def write_yaml(values: Mapping[str, Any]) -> str:
    from io import StringIO

    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(values), out)
    return out.getvalue()


def decisive(config: Config) -> dict[str, Any]:
    """What decides the weights, without where they are written and how fast: the identity of a run."""
    values = resolved(config)
    del values["run"], values["name"]
    for name in ("store", "threads", "mix", "split_by", "val_fraction"):  # the mixture's id stands for these
        del values["data"][name]
    if config.init.weights is None:
        del values["init"]
    return values


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What `decisive` would have said of the run of a checkpoint: keys newer than it have their defaults."""
    return _overlay(json.loads(json.dumps(decisive(Config()))), identity)


def default_dir(config: Config, mixture_id: str) -> str:
    return f"runs/{config.name}-{digest_of({'config': decisive(config), 'mixture': mixture_id})[:8]}"


def _parse(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"{where} is no valid YAML: it is nested too deep") from error


def _override(text: str) -> dict[str, Any]:
    path, sign, value = text.partition("=")
    names = path.strip().lstrip("-").split(".")
    if not sign or not all(names):
        raise UsageError(f"'{text}' is not key=value", hint="for example run.steps=200")
    parsed = _parse(value, f"the value of {path}")
    for name in reversed(names):
        parsed = {name: parsed}
    return parsed


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`; a preset named in `over` starts afresh, one named in `base` is added to."""
    merged = dict(base)
    for name, value in over.items():
        below = None if isinstance(value, Mapping) and "preset" in value else merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, str):
            below = {"preset": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping) and name != "mix":
            for section, *group in EXCLUSIVE:
                if name == section and any(value.get(key) is not None for key in group):
                    below = {key: item for key, item in below.items() if key not in group}
            value = _overlay(below, value)
        merged[name] = value
    return merged


def _section_of(annotation: Any) -> type | None:
    return annotation if is_dataclass(annotation) and isinstance(annotation, type) else None


def _check_names(found: list[str], cls: type, values: Mapping[str, Any], path: str) -> None:
    known = [item.name for item in fields(cls)]
    allowed = [*known, "preset"] if cls in PRESETS else known
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        if name not in allowed:
            found.append(f"{path}{name}: is not a key{nearest(str(name), known)} (keys: {', '.join(known)})")
        elif name in hints and (section := _section_of(hints[name])) is not None:
            if isinstance(value, Mapping):
                _check_names(found, section, value, f"{path}{name}.")
            elif not (isinstance(value, str) and section in PRESETS):
                found.append(f"{path}{name}: needs keys of its own, not {value!r}")


def _expand(found: list[str], cls: type, values: Mapping[str, Any] | str, path: str) -> dict[str, Any]:
    """`values` with presets spelled out, weights written as text, and what is no key left out."""
    if isinstance(values, str):
        values = {"preset": values}
    own = {name: value for name, value in values.items() if name != "preset"}
    if "preset" in values and cls in PRESETS:
        presets = PRESETS[cls]
        if values["preset"] in presets:
            own = _overlay(draccus.encode(presets[values["preset"]]), own)
        else:
            known = ", ".join(presets)
            near = nearest(str(values["preset"]), presets)
            found.append(
                f"{path or 'preset'}: there is no preset {values['preset']!r}{near} (presets: {known})"
            )
    hints = typing.get_type_hints(cls)
    out: dict[str, Any] = {}
    for name, value in own.items():
        section = _section_of(hints.get(name))
        if section is not None:
            if isinstance(value, Mapping) or (isinstance(value, str) and section in PRESETS):
                out[name] = _expand(found, section, value, f"{path}.{name}" if path else name)
        elif name == "mix" and isinstance(value, Mapping):
            out[name] = ",".join(f"{ref}={weight}" for ref, weight in value.items())
        elif name in hints:
            out[name] = value
    return out


def _decode(cls: type, values: Mapping[str, Any], found: list[str], path: str = "") -> Any:
    """An instance of `cls`; a value of a wrong type is reported and the default stands in."""
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            continue
        section = _section_of(hints[name])
        if section is not None:
            given[name] = _decode(
                section, value if isinstance(value, Mapping) else {}, found, f"{path}{name}."
            )
            continue
        try:
            given[name] = _decode_leaf(hints[name], value)
        except (draccus.utils.DecodingError, TypeError, ValueError):
            found.append(f"{path}{name}: needs {_describe(hints[name])}, not {value!r}")
    try:
        return cls(**given)
    except FoundryError as error:
        section_name = path.rstrip(".").rpartition(".")[2]
        found.append(f"{path.rstrip('.')}: {error.message.removeprefix(f'{section_name}: ')}")
        return cls()


def _decode_leaf(annotation: Any, value: Any) -> Any:
    """draccus's decoding, but text is not split into a list, and only text becomes text."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if value is None and NoneType in options:
        return None
    bare = [typing.get_origin(option) or option for option in options]
    if isinstance(value, Mapping) and Mapping in bare:
        of = typing.get_args(options[bare.index(Mapping)])[1]
        return {str(name): _decode_leaf(of, item) for name, item in value.items()}
    if value is None or (isinstance(value, bool) and bool not in bare):
        raise TypeError("null, or a truth value")
    if isinstance(value, str) and tuple in bare and str not in bare:
        raise TypeError("text")
    if not isinstance(value, str) and str in bare and len([b for b in bare if b is not NoneType]) == 1:
        raise TypeError("no text")
    return draccus.decode(annotation, value)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, UnionType)


def _describe(annotation: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    if _is_union(annotation):
        return " or ".join(_describe(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) is Mapping:
        return f"names, each with {_describe(typing.get_args(annotation)[1])}"
    if typing.get_origin(annotation) is tuple:
        inner, *rest = typing.get_args(annotation)
        count = "" if rest == [...] else f"{1 + len(rest)} × "
        return f"a list of {count}{_describe(inner)}"
    return words.get(annotation, str(annotation))
