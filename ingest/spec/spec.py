"""A spec says how to read a source; what it says of the source itself is here, the rest is for its kind.

docs/specs.md lists every key. Reading a file is strict: every problem is reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Protocol

from robot_foundry.catalog.kind import face
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.files import read_utf8

SPEC_SUFFIXES = (".yaml", ".yml")


class SourceSpec(Protocol):
    """What every spec says: a frozen dataclass, of which only its kind reads more.

    `layout` names the reader of the source, and so the kind. `content` is what goes into the tars, of a type
    of the kind; its `shard_bytes` is the size that the plan aims at. `forms` are other specs for the same
    dataset, `locations` where it may lie, `overrides` what was changed.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def layout(self) -> str: ...

    @property
    def content(self) -> Any: ...

    @property
    def forms(self) -> tuple[str, ...]: ...

    @property
    def locations(self) -> tuple[str, ...]: ...

    @property
    def overrides(self) -> tuple[str, ...]: ...

    def to_json(self) -> dict[str, Any]:
        """Every key with its value; `spec_from_json` reads it back. Under `content` is all of the content."""
        ...


def builtin_specs() -> list[str]:
    """Names of the specs that come with the package."""
    folder = resources.files("robot_foundry.ingest") / "specs"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_spec(name_or_path: str | Path, overrides: Sequence[str] = ()) -> SourceSpec:
    """The spec of that name or file, with `dotted.key=value` overrides (values are YAML; null removes)."""
    text = str(name_or_path)
    if text.endswith(SPEC_SUFFIXES):
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"there is no spec file {text}", hint="docs/specs.md says how to write one")
        spec = spec_from_json(parse_yaml(read_utf8(path), text), text)
    else:
        names = builtin_specs()
        if text not in names:
            raise UsageError(
                f"there is no spec '{text}'{nearest(text, names)} (specs: {', '.join(names)})",
                hint="give one of these, or the path of your own .yaml (docs/specs.md)",
            )
        spec = _packaged(text)
    if not overrides:
        return spec
    changed = spec_from_json(with_overrides(spec.to_json(), overrides), text)
    return replace(changed, overrides=tuple(overrides))


@cache
def _packaged(name: str) -> SourceSpec:
    """A spec that comes with the package. Its YAML is parsed once: a run compares what is asked with it."""
    text = (resources.files("robot_foundry.ingest") / "specs" / f"{name}.yaml").read_text("utf-8")
    return spec_from_json(parse_yaml(text, name), name)


def spec_from_json(values: Any, where: str) -> SourceSpec:
    """Check and read a spec; `UsageError` lists every problem, each with the nearest valid key.

    Its layout says of which kind it is. One without a layout that is known is read as a robot's, whose reader
    lists that beside all other problems.
    """
    name = values.get("layout") if isinstance(values, Mapping) else None
    kind = LAYOUTS[name].kind if isinstance(name, str) and name in LAYOUTS else ROBOT
    spec: SourceSpec = face(kind, "ingest").read_spec(values, where)
    return spec


def parse_yaml(text: str, where: str) -> Any:
    """YAML 1.2 without tags; a key given twice is an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"{where} is not valid YAML: it is nested too deep") from error


def with_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `Spec.to_json()` with each `dotted.key=value` set. Names in it may hold dots themselves."""
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
