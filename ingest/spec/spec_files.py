"""Specs from packaged names, files and JSON, with overrides. Each is read strictly, by its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from robot_foundry.catalog.kind import face
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.ingest.spec.unfilled import check_filled_in
from robot_foundry.ingest.spec.yaml_text import parse_yaml
from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.files import read_utf8

SPEC_SUFFIXES = (".yaml", ".yml")


def builtin_specs() -> list[str]:
    """Names of the specs that come with the package; those of a collection begin with its name: oxe/viola."""
    folder = resources.files("robot_foundry.ingest") / "specs"
    return sorted([*_names_in(folder), *(f"oxe/{name}" for name in _names_in(folder / "oxe"))])


def _names_in(folder: Traversable) -> list[str]:
    return [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml")]


def specs_of(datasets: Iterable[str], where: str) -> list[str]:
    """The packaged specs that make datasets of these names; UsageError, naming them, if some have none."""
    known = builtin_specs()
    specs = {name: f"oxe/{name}" if f"oxe/{name}" in known else name for name in datasets}
    unknown = [name for name, spec in specs.items() if spec not in known]
    if unknown:
        raise UsageError(
            f"{where} has datasets of which no packaged spec is: {', '.join(unknown)}",
            hint="ingest those by specs of your own",
        )
    return list(specs.values())


def load_spec(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SourceSpec:
    """The spec of that name or file, with `dotted.key=value` overrides (values are YAML; null removes)."""
    text = str(name_or_path)
    if text.endswith(SPEC_SUFFIXES):
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"there is no spec file {text}", hint="docs/specs.md says how to write one")
        written = read_utf8(path)
        check_filled_in(written, text)
        spec = read_spec(parse_yaml(written, text), text)
    else:
        names = builtin_specs()
        if text not in names:
            raise _no_spec(text, names)
        spec = _packaged(text)
    if not overrides:
        return spec
    changed = read_spec(with_overrides(spec.to_json(), overrides), text)
    return replace(changed, overrides=tuple(overrides))


def _no_spec(text: str, names: Sequence[str]) -> UsageError:
    """What to give in place of a name that is no spec's: it may be that of a layout, or the source."""
    hint = "give one of these, or the path of your own .yaml (docs/specs.md)"
    if text in LAYOUTS:
        page = "docs/ros.md" if text == "ros" else "docs/specs.md"
        hint = f"'{text}' is a layout: write a spec with `layout: {text}` and give its path ({page})"
    elif Path(text).exists():
        hint = f"'{text}' is there, but a spec comes before the source: foundry-data ingest SPEC {text}"
    plain = [name for name in names if "/" not in name]
    listed = f"{_meant(text, names)} (specs: {', '.join(plain)}; foundry-data sources lists those of oxe/)"
    return UsageError(f"there is no spec '{text}'{listed}", hint=hint)


def _meant(text: str, names: Sequence[str]) -> str:
    """As `nearest`; a spec of just this name is meant, whatever collection it is asked of: oxe/bridge."""
    own = text.rpartition("/")[2]
    same = next((name for name in names if name.rpartition("/")[2] == own), None)
    return nearest(text, names) if same is None else f", did you mean {same!r}?"


@cache
def _packaged(name: str) -> SourceSpec:
    """A spec that comes with the package. Its YAML is parsed once: a run compares what is asked with it."""
    text = (resources.files("robot_foundry.ingest") / "specs" / f"{name}.yaml").read_text("utf-8")
    return read_spec(parse_yaml(text, name), name)


def read_spec(values: Any, where: str) -> SourceSpec:
    """Check and read a spec; `UsageError` lists every problem, each with the nearest valid key.

    Its layout says of which kind it is. One without a layout that is known is read as a robot's, whose reader
    lists that beside all other problems.
    """
    name = values.get("layout") if isinstance(values, Mapping) else None
    kind = LAYOUTS[name].kind if isinstance(name, str) and name in LAYOUTS else ROBOT
    spec: SourceSpec = face(kind, "ingest").read_spec(values, where)
    return spec


def with_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `SourceSpec.to_json()` with each `dotted.key=value` set. Names may hold dots themselves."""
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise UsageError(
                f"override '{override}' is not of the form key=value", hint="--set content.flip=vertical"
            )
        values = _set(values, path.split("."), parse_yaml(text, f"override '{override}'"))
    return values


def _set(values: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    for length in range(len(parts), 0, -1):  # the longest name that is there
        name, rest = ".".join(parts[:length]), parts[length:]
        if name in values and not rest:
            return {**values, name: value}
        if isinstance(values.get(name), dict):
            return {**values, name: _set(values[name], rest, value)}
    # A name that is not there yet, such as a quantity of the state; the reader says if it may not be.
    return {**values, ".".join(parts): value}
