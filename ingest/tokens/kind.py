"""The kind `tokens` as ingest knows it: a shard of text becomes a shard of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.shown import INEXACT
from robot_foundry.ingest.kind import DerivedKind, MadeTables, Shard
from robot_foundry.ingest.tokens.tables import TABLES_VERSION, TablesTask, TokensTables, shard_tables
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tokens.blocks import block_keys, read_head


@dataclass(frozen=True)
class SurveyedTokens:
    """See `ingest.kind.SurveyedBlock`. What was refused of the text was so before it was text."""

    refused: ClassVar[tuple[Quarantined, ...]] = ()
    left_out: ClassVar[tuple[int, ...]] = ()

    key: str
    num_groups: int
    num_samples: int
    num_bytes: int
    num_inexact: int
    inexact: tuple[int, ...]

    @property
    def unit(self) -> str:
        return self.key

    @property
    def source_file(self) -> tuple[str, str]:
        return self.key, self.key


def tokens_of(shard: Shard) -> list[SurveyedTokens]:
    """The blocks of a shard of tokens."""
    return [block for block in shard.blocks if isinstance(block, SurveyedTokens)]


@dataclass(frozen=True)
class TokensKind:
    """See `ingest.kind.DerivedKind`."""

    name: str = "tokens"
    tables_version: int = TABLES_VERSION
    remapping: None = None

    def survey(self, tar: ShardReader) -> tuple[tuple[SurveyedTokens, ...], tuple[str, ...]]:
        heads = ((key, read_head(tar, key)) for key in block_keys(tar))
        return tuple(
            SurveyedTokens(
                key, head.num_documents, head.num_tokens, head.num_bytes, head.num_inexact, head.inexact
            )
            for key, head in heads
        ), ()

    def survey_to_json(self, block: SurveyedTokens) -> list[Any]:
        return list(astuple(block))

    def survey_from_json(self, values: list[Any]) -> SurveyedTokens:
        key, num_groups, num_samples, num_bytes, num_inexact, inexact = values
        return SurveyedTokens(key, num_groups, num_samples, num_bytes, num_inexact, tuple(inexact))

    def interned(self, block: SurveyedTokens, one: Callable[[Any], Any]) -> SurveyedTokens:
        return block

    @contextmanager
    def version_tables(self, asked: Schema, blocks: Sequence[SurveyedTokens]) -> Iterator[TokensTables]:
        yield TokensTables(asked)

    def shard_tables(self, task: TablesTask) -> MadeTables:
        return shard_tables(task)

    def warnings(self, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        inexact = provenance.get(INEXACT)
        if inexact is None:
            return ()
        first = ", ".join(inexact["first"])
        return (f"the tokens of {inexact['documents']:,} documents do not give back their text: {first}",)


KIND: DerivedKind = TokensKind()
