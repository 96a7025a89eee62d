"""A spec of lines: a name, the layout, and the size of shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.spec import section as checks
from robot_foundry.runtime.errors import UsageError


@dataclass(frozen=True)
class Content:
    """What goes into the tars: `keep_blank` says whether lines without a character do."""

    shard_bytes: int
    keep_blank: bool


@dataclass(frozen=True)
class Spec:
    """See `robot_foundry.ingest.kind.SourceSpec`."""

    name: str
    layout: str
    content: Content
    forms: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        content = {"shard_bytes": self.content.shard_bytes, "keep_blank": self.content.keep_blank}
        return {"name": self.name, "layout": self.layout, "content": content}


def read_spec(values: Any, where: str) -> Spec:
    """The spec in parsed YAML or JSON; `UsageError` names every problem in it."""
    problems: list[str] = []
    top = checks.Section(values, "", problems)
    name, layout = top.take("name", checks.text, where), top.take("layout", checks.text, checks.REQUIRED)
    section = top.section("content")
    content = Content(
        section.take("shard_bytes", checks.integer(1, 2**40), 1 << 20),
        section.take("keep_blank", checks.boolean, True),
    )
    section.close()
    top.close()
    if problems:
        raise UsageError(f"the spec {where}: {'; '.join(problems)}")
    return Spec(name, layout, content)
