"""What a spec says of the source whatever its kind; the rest, which docs/specs.md lists, is for the kind."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


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
        """Every key with its value, under `content` those of the content; `spec_files.read_spec` reads it."""
        ...
