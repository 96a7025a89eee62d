"""YAML 1.2 texts of recipes and of saved configurations."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from robot_foundry.runtime.errors import UsageError


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; UsageError that names `where` if it is none."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UsageError(f"{where} is no valid YAML: it is nested too deep") from error


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """The keys of a YAML text."""
    values = parse_yaml(text, where)
    if not isinstance(values, dict):
        raise UsageError(f"{where} holds no keys")
    return values


def write_yaml(values: Mapping[str, Any], *, width: int = 80) -> str:
    """The text of plain nested values, keys in their order, long text folded at `width`."""
    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = width
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(values), out)
    return out.getvalue()
