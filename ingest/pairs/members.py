"""What a unit of a source becomes in a shard of pairs: one block, and what was left out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from robot_foundry.ingest.duplicates import marked
from robot_foundry.ingest.kind import UnitTars
from robot_foundry.ingest.pairs.pictures import Filtered, Unfit, taken_of
from robot_foundry.ingest.pairs.spec import PairsContent
from robot_foundry.ingest.refusals import Refusals
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.sources.pairs.pairs import pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.shards.origin import Origin
from robot_foundry.shards.pairs.pair import ASSISTANT
from robot_foundry.shards.pairs.shard import BlockWriter, Encoded

# Of members that no pair takes, endings that are told apart in a block, and characters of each.
_MOST_ENDINGS, _LONGEST_ENDING = 20, 40
OTHER_ENDINGS = "(others)"


def write_unit(unit: Unit, content: PairsContent, tars: UnitTars) -> None:
    """Read the unit and add its pairs in their order, its head last; memory holds one pair."""
    adopted = tars.adopt() if content.adopt else None
    block = BlockWriter(unit.key, Origin(unit.name, unit.file.path, unit.file.blake3), tars.add)
    refusals, filtered, unread, duplicates = Refusals(), Counter[str](), Counter[str](), 0
    for pair, is_dropped in marked(unit, usable(pairs_of(unit, content), refusals)):
        if is_dropped:
            duplicates += 1
            continue
        try:
            pictures = taken_of(pair, content)
        except Unfit as error:
            refusals.add(pair.id, str(error))
        except Filtered as error:
            filtered[str(error)] += 1
        else:
            if adopted is not None:
                pictures = _left_in(adopted, pair, pictures)
            block.add(pair.id, pictures, pair.captions, pair.turns, pair.metadata)
            count_unread(unread, pair)
    block.close(refusals.found, duplicates, filtered, unread)


def usable(items: Iterable[RawPair | Unusable], refusals: Refusals) -> Iterator[RawPair]:
    """The pairs from which something can be learnt; the others go to `refusals`.

    No picture is decoded yet, so it is cheap enough to be asked twice: equal pairs are found among these.
    """
    for item in items:
        if isinstance(item, Unusable):
            refusals.add(item.id, item.reason, item.count)
            continue
        reason = _reason(item)
        if reason is None:
            yield item
        else:
            refusals.add(item.id, reason)


def count_unread(counts: Counter[str], pair: RawPair) -> None:
    """Add the members of the pair's sample that it does not take; of many endings the last are one."""
    for ending in (name[:_LONGEST_ENDING] for name in pair.unread):
        counts[ending if ending in counts or len(counts) < _MOST_ENDINGS else OTHER_ENDINGS] += 1


def _reason(pair: RawPair) -> str | None:
    """Why there is nothing to learn from a conversation; None where there is."""
    answers = [turn.text for turn in pair.turns if turn.role == ASSISTANT]
    if pair.turns and not answers:
        return "its conversation has no answer of an assistant"
    if any(not text.strip() for text in answers):
        return "an answer in its conversation is empty"
    return None


def _left_in(adopted: str, pair: RawPair, pictures: Sequence[Encoded]) -> list[Encoded]:
    """The pictures as they are found in the tar of the key `adopted`, which is the unit."""
    return [
        replace(picture, adopted=(adopted, _member(raw)))
        for picture, raw in zip(pictures, pair.pictures, strict=True)
    ]


def _member(picture: RawPicture) -> str:
    assert picture.member is not None  # what is no tar is refused when it is adopted
    return picture.member
