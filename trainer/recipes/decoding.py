"""From nested values of a recipe to instances of dataclasses, with a line for all that is wrong."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar

import draccus

from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.recipes.layers import WEIGHTS, overlay

C = TypeVar("C")
Presets = Mapping[type, Mapping[str, object]]  # by class of a section, by name


@dataclass
class Decoding:
    """Checks, expands and decodes the values of a recipe; `problems` collects what is wrong with them."""

    presets: Presets
    problems: list[str] = field(default_factory=list)

    def check_names(self, cls: type, values: Mapping[str, Any], path: str = "") -> None:
        """A problem for every key that is none, and every section that has no keys."""
        keys = [item.name for item in fields(cls)]
        allowed = [*keys, "preset"] if cls in self.presets else keys
        hints = typing.get_type_hints(cls)
        for name, value in values.items():
            if name not in allowed:
                near = nearest(str(name), keys)
                self.problems.append(f"{path}{name}: is not a key{near} (keys: {', '.join(keys)})")
            elif name in hints and (section := _section_of(hints[name], value)) is not None:
                if isinstance(value, Mapping):
                    self.check_names(section, value, f"{path}{name}.")
                elif not (isinstance(value, str) and section in self.presets):
                    self.problems.append(f"{path}{name}: needs keys of its own, not {value!r}")

    def expand(self, cls: type, values: Mapping[str, Any] | str, path: str = "") -> dict[str, Any]:
        """`values` with presets spelled out, weights written as text, and what is no key left out."""
        if isinstance(values, str):
            values = {"preset": values}
        given = {name: value for name, value in values.items() if name != "preset"}
        if "preset" in values and cls in self.presets:
            presets = self.presets[cls]
            if values["preset"] in presets:
                given = overlay(draccus.encode(presets[values["preset"]]), given)
            else:
                names = ", ".join(presets)
                near = nearest(str(values["preset"]), presets)
                self.problems.append(
                    f"{path or 'preset'}: there is no preset {values['preset']!r}{near} (presets: {names})"
                )
        hints = typing.get_type_hints(cls)
        out: dict[str, Any] = {}
        for name, value in given.items():
            section = _section_of(hints.get(name), value)
            if section is not None:
                if isinstance(value, Mapping) or (isinstance(value, str) and section in self.presets):
                    out[name] = self.expand(section, value, f"{path}.{name}" if path else name)
            elif name == WEIGHTS and isinstance(value, Mapping):
                out[name] = ",".join(f"{ref}={weight}" for ref, weight in value.items())
            elif name in hints:
                out[name] = value
        return out

    def decode(self, cls: type[C], values: Mapping[str, Any], path: str = "") -> C:
        """An instance of `cls`; a value of a wrong type is reported and the default stands in."""
        hints = typing.get_type_hints(cls)
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name not in hints:
                continue
            section = _section_of(hints[name], value)
            if section is not None:
                keys = value if isinstance(value, Mapping) else {}
                given[name] = self.decode(section, keys, f"{path}{name}.")
                continue
            try:
                given[name] = _decode_leaf(hints[name], value)
            except (draccus.utils.DecodingError, TypeError, ValueError):
                self.problems.append(f"{path}{name}: needs {_describe(hints[name])}, not {value!r}")
        try:
            return cls(**given)
        except FoundryError as error:
            section_name = path.rstrip(".").rpartition(".")[2]
            self.problems.append(f"{path.rstrip('.')}: {error.message.removeprefix(f'{section_name}: ')}")
            return cls()


def _section_of(annotation: Any, value: Any) -> type | None:
    """The class of the section that a key has; of several the one that knows most keys of its value."""
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if not all(is_dataclass(option) and isinstance(option, type) for option in options):
        return None
    keys = set(value) if isinstance(value, Mapping) else set()
    return max(options, key=lambda option: len(keys & {item.name for item in fields(option)}))


def _decode_leaf(annotation: Any, value: Any) -> Any:
    """draccus's decoding, but text is not split into a list, only text becomes text, and 2e9 is whole."""
    if annotation is Any:
        return value
    options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if value is None and NoneType in options:
        return None
    bare = [typing.get_origin(option) or option for option in options]
    if isinstance(value, float) and value.is_integer() and int in bare and float not in bare:
        return int(value)
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
        of = typing.get_args(annotation)[1]
        return "names with values" if of is Any else f"names, each with {_describe(of)}"
    if typing.get_origin(annotation) is tuple:
        inner, *rest = typing.get_args(annotation)
        count = "" if rest == [...] else f"{1 + len(rest)} × "
        return f"a list of {count}{_describe(inner)}"
    return words.get(annotation, str(annotation))
