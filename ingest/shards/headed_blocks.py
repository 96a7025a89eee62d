"""What is known of a block in a tar without its samples, where the tar has a head of each block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.ingest.refusals import quarantined
from robot_foundry.shards.origin import Origin, Refusal


class Head(Protocol):
    """What heads of blocks have in common: frozen dataclasses, whose `values` are JSON."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def origin(self) -> Origin: ...

    @property
    def refused(self) -> tuple[Refusal, ...]: ...

    def values(self) -> dict[str, Any]: ...


HeadT = TypeVar("HeadT", bound=Head)


@dataclass(frozen=True)
class HeadedBlock(Generic[HeadT]):
    """The part of an `ingest.kind.SurveyedBlock` that heads of all kinds tell alike."""

    key: str
    head: HeadT

    @property
    def unit(self) -> str:
        return self.head.origin.unit

    @property
    def source_file(self) -> tuple[str, str]:
        return self.head.origin.file, self.head.origin.content

    @property
    def refused(self) -> list[Quarantined]:
        return quarantined(self.head.origin.file, self.head.refused)

    def to_json(self) -> list[Any]:
        return [self.key, self.head.values()]

    def interned(self, one: Callable[[Any], Any]) -> Self:
        """The same with the texts that blocks of a file share."""
        origin = self.head.origin
        shared = Origin(one(origin.unit), one(origin.file), one(origin.content))
        return replace(self, head=replace(self.head, origin=shared))
