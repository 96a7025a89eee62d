"""What pairs measure, in few bytes a shard: distributions of numbers, and how often each name is there.

Legend: E pairs, N pictures of all pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.pairs.derived import captions_of, turns_of
from robot_foundry.catalog.pairs.measures import flat
from robot_foundry.catalog.pairs.tables import PAIRS
from robot_foundry.catalog.query.shown import Distribution, Distributions
from robot_foundry.catalog.selection import Selection
from robot_foundry.normalization.digest import Digest
from robot_foundry.shards.pairs.pair import ASSISTANT

# Of what the numbers are, and the unit that each has.
PAIR, PICTURE, CAPTION, CONVERSATION = "pair", "picture", "caption", "conversation"
UNITS = {
    (PAIR, "pictures"): "",
    (PAIR, "characters"): "characters",
    (PICTURE, "width"): "pixels",
    (PICTURE, "height"): "pixels",
    (PICTURE, "aspect"): "width/height",
    (PICTURE, "bytes"): "bytes",
    (CONVERSATION, "turns"): "",
    (CONVERSATION, "answer"): "characters",
}
ENCODINGS, LANGUAGES, CAPTIONS = "encoding", "language", "caption"
COUNTED = (ENCODINGS, LANGUAGES, CAPTIONS)
# Of a shard, names that are told apart: a source may call every caption another name.
MOST_NAMES = 64
OTHERS = "(others)"
PERCENTILES = (1, 25, 50, 75, 99)


@dataclass(frozen=True)
class Measured:
    """Of the pairs of a shard, or of several.

    `digests` by (of what, name): those of UNITS, and (CAPTION, name) the characters of captions of that name.
    `counts` by COUNTED, of each name how many: pictures of an encoding, pairs in a language as metadata has
    it, pairs that have a caption of that name.
    """

    digests: Mapping[tuple[str, str], Digest]
    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, pairs: pa.Table) -> Measured:
        """Of the rows of a table of pairs."""
        captions = [captions_of(cell) for cell in pairs["captions"].to_pylist()]
        turns = [turns_of(cell) for cell in pairs["turns"].drop_null().to_pylist()]
        named = _bounded(Counter(name for of_pair in captions for name in of_pair))
        lengths: dict[str, list[int]] = {name: [] for name in named}
        for of_pair in captions:
            for name, text in of_pair.items():
                lengths[name if name in named else OTHERS].append(len(text))
        answers = [len(turn.text) for of_pair in turns for turn in of_pair if turn.role == ASSISTANT]
        numbers = {
            **_of_pictures(pairs),
            (PAIR, "characters"): pairs["num_characters"].to_numpy(),
            (CONVERSATION, "turns"): [len(of_pair) for of_pair in turns],
            (CONVERSATION, "answer"): answers,
            **{(CAPTION, name): values for name, values in lengths.items()},
        }
        counts = {
            ENCODINGS: Counter(flat(pairs, "encoding").to_pylist()),
            LANGUAGES: _bounded(Counter(_languages(pairs["metadata"].to_pylist()))),
            CAPTIONS: named,
        }
        return cls({name: Digest.of(np.asarray(values)) for name, values in numbers.items()}, counts)

    @classmethod
    def merge_all(cls, parts: Iterable[Measured]) -> Measured:
        """Of all pairs, from their parts in any order."""
        digests: dict[tuple[str, str], list[Digest]] = {name: [] for name in UNITS}
        counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
        for part in parts:
            for key, digest in part.digests.items():
                digests.setdefault(key, []).append(digest)
            for name, counted in part.counts.items():
                counts[name].update(counted)
        return cls({key: Digest.merge_all(leaves) for key, leaves in digests.items()}, counts)

    def summary(self) -> dict[str, Any]:
        """In a few numbers, as JSON: what a manifest says of it."""
        return {
            **{name: dict(sorted(counted.items())) for name, counted in self.counts.items()},
            "numbers": [
                {"of": of, "name": name, "count": digest.count, **_points(digest)}
                for (of, name), digest in sorted(self.digests.items())
                if digest.count
            ],
        }

    def to_json(self) -> dict[str, Any]:
        digests = [[*key, digest.to_bytes().hex()] for key, digest in self.digests.items()]
        return {"digests": digests, "counts": {name: dict(counts) for name, counts in self.counts.items()}}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Measured:
        """Inverse of `to_json`."""
        digests = {(of, name): Digest.from_bytes(bytes.fromhex(data)) for of, name, data in obj["digests"]}
        return cls(digests, obj["counts"])


def distributions_of(opened: OpenVersion, selection: Selection | None) -> Distributions:
    """What is measured of the pairs of a version, or of a selection of it."""
    measured = Measured.merge_all(Measured.of(pairs) for pairs in opened.group_tables(PAIRS, selection))
    order = [*UNITS, *sorted(key for key in measured.digests if key[0] == CAPTION)]
    numbers = [
        Distribution(of, name, UNITS.get((of, name), "characters"), measured.digests[of, name])
        for of, name in order
        if measured.digests[of, name].count
    ]
    return Distributions(numbers, measured.counts)


def _of_pictures(pairs: pa.Table) -> dict[tuple[str, str], Any]:
    width_N, height_N = (flat(pairs, name).to_numpy().astype(np.float64) for name in ("width", "height"))
    return {
        (PAIR, "pictures"): [len(members) for members in pairs["image_member"].to_pylist()],
        (PICTURE, "width"): width_N,
        (PICTURE, "height"): height_N,
        (PICTURE, "aspect"): width_N / height_N,
        (PICTURE, "bytes"): flat(pairs, "image_bytes").to_numpy(),
    }


def _languages(metadata: Sequence[str | None]) -> list[str]:
    """What the metadata of pairs says of their language."""
    said = (json.loads(cell).get("language") for cell in metadata if cell is not None)
    return [language for language in said if isinstance(language, str)]


def _bounded(counts: Counter[str]) -> dict[str, int]:
    """The counts of the most frequent names, and of the others together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MOST_NAMES:])
    return dict(ordered[:MOST_NAMES]) | ({OTHERS: rest} if rest else {})


def _points(digest: Digest) -> dict[str, float]:
    points = {f"p{point}": digest.percentile(point) for point in PERCENTILES}
    numbers = {"min": digest.min, **points, "max": digest.max, "mean": digest.mean}
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}
