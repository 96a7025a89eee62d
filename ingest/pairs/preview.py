"""What an ingest of pairs would make, from the first pairs of one unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from robot_foundry.catalog.metadata.types import counted_types
from robot_foundry.catalog.pairs.kind import KIND
from robot_foundry.catalog.pairs.schema import PairSchema
from robot_foundry.ingest.duplicates import NUMBER
from robot_foundry.ingest.kind import Preview
from robot_foundry.ingest.pairs.members import usable
from robot_foundry.ingest.pairs.pictures import Filtered, Unfit, taken
from robot_foundry.ingest.pairs.spec import PairsSpec
from robot_foundry.ingest.refusals import Refusals, quarantined
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.shards.pairs.shard import Encoded

SAMPLED_UNITS, SAMPLED_PAIRS = 16, 100
MOST_SHOWN = 60


def preview(spec: PairsSpec, units: Sequence[Unit], source_bytes: int) -> Preview:
    """Read the first pairs of the first unit that has any; how many there are, only reading tells."""
    planned, warnings = sum(unit.num_bytes for unit in units), list[str]()
    for unit in units[:SAMPLED_UNITS]:
        found = _sample(spec, unit, warnings)
        if found:
            schema = PairSchema.of(counted_types(pair.metadata for pair in found))
            lines = (*_lines(spec, found, schema), *_duplicates(spec, units))
            told = tuple(warnings[:1])
            return Preview(KIND, None, None, source_bytes, planned, schema, unit.name, lines, told)
    lines = ("no pair could be read, so what they hold is not known",)
    return Preview(KIND, None, None, source_bytes, planned, None, None, lines, tuple(warnings[:1]))


def _sample(spec: PairsSpec, unit: Unit, warnings: list[str]) -> list[RawPair]:
    """The first usable pairs of a unit; to `warnings` goes what cannot be read."""
    refusals = Refusals()
    try:
        found = list(islice(usable(unit, spec.content, refusals), SAMPLED_PAIRS))
    except Refused as error:
        warnings.append(f"{unit.name}: {error.message}")
        return []
    warnings += [f"{entry.unit}: {entry.reason}" for entry in quarantined(unit.file.path, refusals.found)]
    return found


def _lines(spec: PairsSpec, found: Sequence[RawPair], schema: PairSchema) -> tuple[str, ...]:
    """The first pair, and what the sampled ones have."""
    captions = Counter(name for pair in found for name in pair.captions)
    turns = sum(len(pair.turns) for pair in found)
    metadata = ", ".join(f"{name} ({kind})" for name, kind in schema.metadata.items())
    return (
        f"the first says: {_text(found[0])}",
        f"captions: {', '.join(captions) or 'none'}" + (f"; turns: {turns:,}" if turns else ""),
        f"pictures of the first {len(found)}: {_pictures(spec, found)}",
        f"metadata: {metadata or 'none'}",
    )


def _text(pair: RawPair) -> str:
    text = next(iter((*pair.captions.values(), *(turn.text for turn in pair.turns))))
    return repr(text[:MOST_SHOWN]) + (" …" if len(text) > MOST_SHOWN else "")


def _pictures(spec: PairsSpec, found: Sequence[RawPair]) -> str:
    """What their pictures are, and what would become of those that are not taken."""
    told: Counter[str] = Counter()
    sides: list[int] = []
    for pair in found:
        for picture in pair.pictures:
            assert picture.data is not None  # else the pair is not usable
            try:
                encoded: Encoded = taken(picture.data, spec.content)
            except Unfit as error:
                told[str(error).replace("its picture", "1 picture")] += 1
            except Filtered as error:
                told[f"left out by content.{error}"] += 1
            else:
                told[encoded.encoding] += 1
                sides += [encoded.height, encoded.width]
    listed = ", ".join(f"{count} {name}" for name, count in told.items()) or "none"
    return listed + (f", sides of {min(sides)} to {max(sides)} pixels" if sides else "")


def _duplicates(spec: PairsSpec, units: Sequence[Unit]) -> tuple[str, ...]:
    """How many pairs are left out of the units, where they were compared."""
    if not spec.content.deduplicate:
        return ()
    count = sum(len(unit.dropped) for unit in units) // NUMBER.itemsize
    return (f"duplicates: {count:,} pairs are left out",)
