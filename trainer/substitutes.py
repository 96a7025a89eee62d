"""Damaged samples that were replaced in a run: told once, counted over all ranks and restarts, limited."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.loader.substituted import (
    MAX_SUBSTITUTED,
    MAX_SUBSTITUTIONS,
    Substitution,
    check_substituted,
)
from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import HELD_OUT, TRAIN, Stream

LISTED = 1000  # damaged members that the lineage names


@dataclass(frozen=True)
class SubstituteSettings:
    """How many damaged samples a run lives with."""

    max_substituted: float = MAX_SUBSTITUTED  # share of damaged samples that ends the run; 100 are let pass


class Substitutes:
    """Of the streams of one rank and, after each exchange, of all ranks.

    `counts` are samples in place of which another was read, by split; `damaged` says which members of which
    tars they needed. Both are equal on all ranks, and go on from what a checkpoint holds.
    """

    def __init__(
        self,
        ranks: Ranks,
        streams: Mapping[str, Stream],
        *,
        limit: float,
        counts: Mapping[str, int],
        damaged: Iterable[Mapping[str, Any]],
    ) -> None:
        self._ranks, self._streams, self._limit = ranks, streams, limit
        self.counts = {split: int(counts.get(split, 0)) for split in (TRAIN, HELD_OUT)}
        self.damaged = [dict(entry) for entry in damaged]
        self._listed = {_member(entry) for entry in self.damaged}
        self._taken = dict.fromkeys(streams, 0)
        # Held-out samples are the same in each evaluation, so they are not added to those before a restart.
        self._replaced = {TRAIN: self.counts[TRAIN], HELD_OUT: 0}

    @property
    def total(self) -> int:
        """Training samples that were replaced, on all ranks and since the run's first step."""
        return self.counts[TRAIN]

    def new(self, split: str = TRAIN) -> int:
        """How many this rank's stream replaced since the last `take`."""
        stream = self._streams.get(split)
        return 0 if stream is None else len(stream.substitutions) - self._taken[split]

    def take(self, seen: int, split: str = TRAIN) -> None:
        """Exchange what is new, on all ranks when any has something. `seen` samples of the split were read.

        Tells the main rank's user of each damaged member once. FoundryError above the limit.
        """
        here = [asdict(item) for item in self._untaken(split)]
        everywhere = sorted(
            (item for part in self._ranks.gather(here) for item in part), key=lambda item: item["k"]
        )
        self._taken[split] += len(here)
        self._replaced[split] += len(everywhere)
        self.counts[split] = self._replaced[split]
        for item in everywhere:
            self._tell(item)
        if everywhere:
            check_substituted(
                self.counts[split],
                seen,
                Substitution(**everywhere[-1]),
                at_least=MAX_SUBSTITUTIONS,
                share=self._limit,
                hint=f"foundry-data validate {everywhere[-1]['version']} --deep names all of them; "
                "run.max_substituted is the limit",
            )

    def _untaken(self, split: str) -> Sequence[Any]:
        stream = self._streams.get(split)
        return () if stream is None else stream.substitutions[self._taken[split] :]

    def _tell(self, item: Mapping[str, Any]) -> None:
        if _member(item) in self._listed:
            return
        self._listed.add(_member(item))
        if len(self.damaged) < LISTED:
            names = ("dataset", "shard", "member", "sample", "substitute", "reason")
            self.damaged.append({name: item[name] for name in names})
        if self._ranks.is_main:
            warnings.warn(
                f"sample {item['substitute']} of '{item['dataset']}' took the place of sample "
                f"{item['sample']}, and so will others wherever the same bytes are needed: {item['reason']}",
                FoundryWarning,
                stacklevel=2,
            )


def _member(item: Mapping[str, Any]) -> tuple[str, str | None]:
    return item["shard"], item["member"]
