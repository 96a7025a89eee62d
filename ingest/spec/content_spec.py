"""A spec that says nothing of its source but what goes into the tars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import REQUIRED

SpecT = TypeVar("SpecT", bound="ContentSpec")


@dataclass(frozen=True)
class ContentSpec:
    """See `ingest.spec.spec.SourceSpec`; a kind says of which type its content is."""

    name: str
    layout: str
    content: Any
    forms: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "layout": self.layout,
            "content": self.content.to_json(),
            "forms": list(self.forms),
            "locations": list(self.locations),
        }


def read_content_spec(
    of: type[SpecT],
    values: Any,
    where: str,
    *,
    content: Callable[[checks.Section], Any],
    layouts: tuple[str, ...],
    docs: str,
) -> SpecT:
    """Check and read a spec in parsed YAML or JSON; `UsageError` names every problem in it.

    `content` reads that section; `docs` lists every key.
    """
    problems: list[str] = []
    top = checks.Section(values, "", problems)
    spec = of(
        name=top.take("name", checks.text, where),
        layout=top.take("layout", checks.choice(layouts), REQUIRED),
        content=content(top.section("content")),
        forms=top.take("forms", checks.texts, ()),
        locations=top.take("locations", checks.texts, ()),
    )
    top.close()
    checks.check_none(problems, where, hint=f"{docs} lists every key")
    return spec
