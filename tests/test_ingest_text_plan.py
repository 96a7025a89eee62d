"""Folders of many small files of text are planned in time that grows with their number alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_foundry.ingest.plan import grouped
from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.spec.spec_files import load_spec


@dataclass
class CountingUnit:
    """A unit that counts how often its size is asked for."""

    number: int
    alone: bool = True
    asked: int = 0
    file: SourceFile = field(init=False)

    def __post_init__(self) -> None:
        self.file = SourceFile("/source", f"{self.number}.txt", 30, "1", "0" * 64)

    @property
    def key(self) -> str:
        return f"unit-{self.number}"

    @property
    def num_bytes(self) -> int:
        self.asked += 1
        return 30


def test_the_size_of_a_unit_is_asked_for_a_few_times_however_many_share_a_shard() -> None:
    units = [CountingUnit(number) for number in range(3_000)]
    groups = list(grouped(units, load_spec("text")))  # type: ignore[arg-type]
    assert len(groups) == 1 and groups[0] == units
    assert max(unit.asked for unit in units) <= 3
