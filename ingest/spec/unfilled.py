"""What a drafted spec leaves to the user: values TODO, which are refused by the lines that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robot_foundry.runtime.errors import UsageError

TODO = "TODO"
MOST_LISTED = 20


def check_filled_in(text: str, where: str) -> None:
    """UsageError that names the lines of the YAML on which a value is TODO, if there are any.

    YAML that is damaged passes: reading it says what is wrong with it.
    """
    left = left_open(text)
    if left:
        lines = "".join(f"\n  line {line}: {path}" for line, path in left[:MOST_LISTED])
        more = f"\n  and {len(left) - MOST_LISTED} more" if len(left) > MOST_LISTED else ""
        count = "1 value" if len(left) == 1 else f"{len(left)} values"
        raise UsageError(
            f"the spec {where} is a draft that leaves {count} to you:{lines}{more}",
            hint=f"put what the comment there asks for in place of {TODO}, or take the key out; then "
            f"`foundry-data ingest {where} SOURCE --dry-run` shows what comes of it",
        )


def left_open(text: str) -> list[tuple[int, str]]:
    """(line, dotted key) of each value TODO of the YAML, in its order; none of YAML that is damaged."""
    if TODO not in text:
        return []
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return list(_left(YAML(typ="rt", pure=True).compose(text), ""))
    except (YAMLError, RecursionError):
        return []


def _left(node: Any, path: str) -> Iterator[tuple[int, str]]:
    """(line, dotted key) of each value TODO beneath a node of the YAML."""
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _left(value, f"{path}.{key.value}" if path else str(key.value))
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value):
            yield from _left(value, f"{path}[{number}]")
    elif isinstance(node, ScalarNode) and node.value == TODO:
        yield node.start_mark.line + 1, path
