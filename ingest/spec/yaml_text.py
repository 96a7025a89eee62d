"""YAML texts of specs and of mixtures."""

from __future__ import annotations

from typing import Any

from robot_foundry.runtime.errors import UsageError


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
