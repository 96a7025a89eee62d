"""What an ingest of pairs would make, from the first pairs of one unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from robot_foundry.catalog.metadata.types import counted_types
from robot_foundry.catalog.pairs.kind import KIND
from robot_foundry.catalog.pairs.schema import PairSchema
from robot_foundry.ingest.duplicates import NUMBER
from robot_foundry.ingest.kind import Preview
from robot_foundry.ingest.pairs.members import count_unread, usable
from robot_foundry.ingest.pairs.pictures import Filtered, Unfit, taken_of
from robot_foundry.ingest.pairs.spec import PairsContent, PairsSpec
from robot_foundry.ingest.pairs.version_tables import unread_warning
from robot_foundry.ingest.refusals import Refusals, quarantined
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.ingest.sources.pairs.pairs import pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.shards.pairs.shard import Encoded

# Units and pairs of one that are sampled; and how many of one are looked at for them.
SAMPLED_UNITS, SAMPLED_PAIRS, MOST_TRIED = 16, 100, 1000
MOST_SHOWN = 60


@dataclass
class _Sample:
    """The first pairs of a unit that would be taken, with their pictures, and what became of the others."""

    pairs: list[RawPair] = field(default_factory=list)
    pictures: list[Encoded] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


def preview(spec: PairsSpec, units: Sequence[Unit], source_bytes: int) -> Preview:
    """Read the first pairs of the first unit that has any; how many there are, only reading tells."""
    planned, warnings, filtered = sum(unit.num_bytes for unit in units), list[str](), Counter[str]()
    for unit in units[:SAMPLED_UNITS]:
        sample = _sample(unit, spec.content)
        warnings += sample.warnings
        filtered += sample.filtered
        if sample.pairs:
            schema = PairSchema.of(counted_types(pair.metadata for pair in sample.pairs))
            lines = (*_lines(sample, schema), *_duplicates(spec, units))
            told = tuple(warnings)
            return Preview(KIND, None, None, source_bytes, planned, schema, unit.name, lines, told)
    lines = ("none of the first pairs could be read, so what they hold is not known",)
    if filtered:
        lines = ("; ".join([*_rules(filtered), "nothing of the first units is left"]),)
    return Preview(KIND, None, None, source_bytes, planned, None, None, lines, tuple(warnings))


def _sample(unit: Unit, content: PairsContent) -> _Sample:
    sample, refusals = _Sample(), Refusals()
    try:
        tried = islice(pairs_of(unit, content), MOST_TRIED)
        for pair in islice(usable(tried, refusals), SAMPLED_PAIRS):
            try:
                sample.pictures += taken_of(pair, content)
                sample.pairs.append(pair)
                count_unread(sample.unread, pair)
            except Unfit as error:
                refusals.add(pair.id, str(error))
            except Filtered as error:
                sample.filtered[str(error)] += 1
    except Refused as error:
        return _Sample(warnings=[f"{unit.name}: {error.message}"])
    told = quarantined(unit.file.path, refusals.found)
    sample.warnings += [f"{entry.unit}: {entry.reason}" for entry in told]
    sample.warnings += unread_warning(sample.unread)
    return sample


def _lines(sample: _Sample, schema: PairSchema) -> tuple[str, ...]:
    """The first pair, and what the sampled ones have."""
    captions = Counter(name for pair in sample.pairs for name in pair.captions)
    turns = sum(len(pair.turns) for pair in sample.pairs)
    metadata = ", ".join(f"{name} ({kind})" for name, kind in schema.metadata.items())
    pictures = f"pictures of the first {len(sample.pairs)}: {_pictures(sample.pictures)}"
    return (
        f"the first says: {_text(sample.pairs[0])}",
        f"captions: {', '.join(captions) or 'none'}" + (f"; turns: {turns:,}" if turns else ""),
        "; ".join([pictures, *_rules(sample.filtered)]),
        f"metadata: {metadata or 'none'}",
    )


def _rules(filtered: Counter[str]) -> list[str]:
    return [f"content.{rule} leaves out {count}" for rule, count in filtered.items()]


def _text(pair: RawPair) -> str:
    text = next(iter((*pair.captions.values(), *(turn.text for turn in pair.turns))))
    return repr(text[:MOST_SHOWN]) + (" …" if len(text) > MOST_SHOWN else "")


def _pictures(pictures: Sequence[Encoded]) -> str:
    if not pictures:
        return "none"
    counts = Counter(picture.encoding for picture in pictures)
    sides = [side for picture in pictures for side in (picture.height, picture.width)]
    listed = ", ".join(f"{count} {encoding}" for encoding, count in counts.items())
    return f"{listed}, with sides of {min(sides)} to {max(sides)} pixels"


def _duplicates(spec: PairsSpec, units: Sequence[Unit]) -> tuple[str, ...]:
    """How many pairs are left out of the units, where they were compared."""
    if not spec.content.deduplicate:
        return ()
    count = sum(len(unit.dropped) for unit in units) // NUMBER.itemsize
    return (f"duplicates: {count:,} pairs are left out",)
