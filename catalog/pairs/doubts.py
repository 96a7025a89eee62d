"""What is probably wrong with pairs that are whole, by what the tables of a version say of them.

Legend: E pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.pairs.derived import captions_of
from robot_foundry.catalog.pairs.measures import measures_of
from robot_foundry.checks.finding import Finding

CHECKS = ("no_text", "copies", "one_caption", "aspect", "tiny", "repeated")
# Pairs of which fewer are no evidence; shares of pairs that are.
FEW = 20
MOST_COPIES, MOST_OF_ONE, MOST_ODD, MOST_REPEATED = 0.01, 0.1, 0.01, 0.5
# Of the sides of a picture, and pixels of the shorter one.
LONGEST, SMALLEST = 6, 16
# Captions of a shard are told apart from this share of its pairs on.
_NOTABLE = 0.01
_EXAMPLE = 60  # characters


@dataclass(frozen=True)
class Evidence:
    """Of the pairs of one shard what doubts follow from.

    `captions` counts those that many pairs have, by text; `content_E` are the pairs' content hashes.
    """

    num_pairs: int
    no_text: int
    elongated: int
    tiny: int
    captions: Mapping[str, int]
    content_E: NDArray[np.uint64]

    @classmethod
    def of(cls, pairs: pa.Table) -> Evidence:
        """Of the rows of a table of pairs."""
        measures = measures_of(pairs)
        texts = (text for cell in pairs["captions"].to_pylist() for text in set(captions_of(cell).values()))
        least = max(_NOTABLE * pairs.num_rows, 2)
        aspect_E = measures.max_aspect_E.fill_null(1.0).to_numpy(zero_copy_only=False)
        side_E = measures.min_side_E.fill_null(SMALLEST).to_numpy(zero_copy_only=False)
        return cls(
            pairs.num_rows,
            int((pairs["num_characters"].to_numpy() == 0).sum()),
            int((aspect_E > LONGEST).sum()),
            int((side_E < SMALLEST).sum()),
            {text: count for text, count in Counter(texts).items() if count >= least},
            pairs["content_hash"].to_numpy(),
        )


def doubts(shards: Sequence[Evidence], discovered: int = 0, duplicates: int = 0) -> list[Finding]:
    """Findings of a version of these shards; the numbers are of pairs of its source."""
    pairs = sum(shard.num_pairs for shard in shards)
    found = [*_of_texts(shards, pairs), *_of_pictures(shards, pairs)]
    if duplicates > MOST_REPEATED * discovered:
        message = f"{duplicates:,} of {discovered:,} pairs of the source are copies of others"
        remedy = "look whether the source was collected twice"
        found.append(_finding("repeated", message, duplicates / discovered, remedy))
    return found


def _of_texts(shards: Sequence[Evidence], pairs: int) -> Iterator[Finding]:
    """What is said of nothing, or of too much alike."""
    if no_text := sum(shard.no_text for shard in shards):
        message = f"{no_text:,} of {pairs:,} pairs have no text: nothing is learnt of them"
        remedy = "leave them out: --where 'num_characters > 0'"
        yield _finding("no_text", message, no_text / pairs, remedy)
    content_E = np.concatenate([np.zeros(0, np.uint64), *(shard.content_E for shard in shards)])
    copies = pairs - len(np.unique(content_E))
    if copies > MOST_COPIES * pairs:
        message = f"{copies:,} of {pairs:,} pairs are copies of others, with the same pictures and texts"
        remedy = "ingest with --set content.deduplicate=true"
        yield _finding("copies", message, copies / pairs, remedy)
    text, most = _commonest(shards)
    if most > max(MOST_OF_ONE * pairs, FEW):
        message = f"at least {most:,} of {pairs:,} pairs have the caption {_short(text)!r}"
        remedy = "look whether it was put where a caption was missing; --where can leave it out"
        yield _finding("one_caption", message, most / pairs, remedy)


def _of_pictures(shards: Sequence[Evidence], pairs: int) -> Iterator[Finding]:
    """Sizes that pictures worth learning from rarely have."""
    elongated, tiny = (sum(getattr(shard, name) for shard in shards) for name in ("elongated", "tiny"))
    if elongated > MOST_ODD * pairs:
        message = f"{elongated:,} of {pairs:,} pairs have a picture whose sides are more than {LONGEST} : 1"
        remedy = f"look whether they are banners or lines; leave them out: --where 'max_aspect <= {LONGEST}'"
        yield _finding("aspect", message, elongated / pairs, remedy)
    if tiny > MOST_ODD * pairs:
        message = f"{tiny:,} of {pairs:,} pairs have a picture with a side of less than {SMALLEST} pixels"
        remedy = f"look whether they are icons or counters; leave them out: --where 'min_side >= {SMALLEST}'"
        yield _finding("tiny", message, tiny / pairs, remedy)


def _finding(check: str, message: str, share: float, remedy: str) -> Finding:
    return Finding(check, "pairs", message, share, remedy)


def _commonest(shards: Sequence[Evidence]) -> tuple[str, int]:
    """The caption that most pairs have, and of how many that is known."""
    counts = Counter[str]()
    for shard in shards:
        counts.update(shard.captions)
    return min(counts.items(), key=lambda item: (-item[1], item[0]), default=("", 0))


def _short(text: str) -> str:
    return text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…"
