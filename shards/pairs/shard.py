"""Blocks of image-text pairs, the members of a shard of pairs. A unit of the source becomes one block.

    <block>-<7 digits>.jpg|png|webp    the picture of a pair; of several `.0.jpg`, `.1.png`, …, with two
                                       digits each where there are more than ten
    <block>-<7 digits>.json            the pair, see `StoredPair`: canonical JSON
    <block>.block.json                 what is known of the block, see `BlockHead`; it is behind its pairs

Pairs are numbered in the order of the source. A picture of an adopted tar has no member here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import blake3

from robot_foundry.runtime.canonical import canonical_json, check_keys
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.keys import checked_key
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.pairs.pair import MOST_PICTURES, ROLES, Pair, Picture, Turn, num_places
from robot_foundry.shards.pictures.probe import ENCODINGS
from robot_foundry.shards.reader import ShardReader

HEAD, PAIR = ".block.json", ".json"
FORMAT = 1
DIGITS = 7
MOST_PAIRS = 10**DIGITS  # of a block
_TOO_LARGE = 1 << 31  # for a side of a picture in pixels, or for its bytes
SUMS = ("num_pairs", "num_pictures", "num_characters", "num_bytes")
_PAIR_KEYS = ("id", "pictures", "captions", "turns", "metadata")
_PICTURE_KEYS = ("member", "encoding", "height", "width", "num_bytes", "hash", "tar")


@dataclass(frozen=True)
class BlockHead:
    """What a shard says of a block beside its pairs: how much it has, and what of its unit it has not.

    num_pictures    with those in adopted tars, whose bytes `num_bytes` counts too
    num_characters  of all captions and turns
    refused         pairs that cannot be taken, by reason
    duplicates      copies of pairs before them; `filtered` counts what the spec leaves out, by rule
    adopted         keys of the tars elsewhere that have its pictures
    unread          members of the source's samples that no pair takes, by ending; JSON has it if there are
    """

    origin: Origin
    num_pairs: int = 0
    num_pictures: int = 0
    num_characters: int = 0
    num_bytes: int = 0
    refused: tuple[Refusal, ...] = ()
    duplicates: int = 0
    filtered: Mapping[str, int] = field(default_factory=dict)
    adopted: tuple[str, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return canonical_json({"format": FORMAT, **self.values()})

    def values(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        fields = asdict(self)
        del fields["unread"]
        more = {"unread": dict(self.unread)} if self.unread else {}
        return {**fields.pop("origin"), **fields, "filtered": dict(self.filtered), **more}

    @classmethod
    def from_json(cls, data: bytes, where: str) -> BlockHead:
        """Strict inverse; CorruptData names `where`."""
        try:
            values = json.loads(data)
            more = [name for name in ("unread",) if name in values]
            check_keys(values, ["format", *cls(Origin("", "", "")).values(), *more], where)
            if values.pop("format") != FORMAT:
                raise ValueError("its format is another one")
            head = cls.of_values(values)
            if head.to_json() != data:
                raise ValueError("it is not written as heads are")
            return head
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FoundryError) as error:
            raise CorruptData(f"{where} is damaged: {error}") from error

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> BlockHead:
        """Inverse of `values`."""
        left = dict(values)
        origin = Origin(left.pop("unit"), left.pop("file"), left.pop("content"))
        refused = tuple(Refusal.from_json(entry, "a refusal") for entry in left.pop("refused"))
        filtered, adopted = dict(left.pop("filtered")), tuple(map(checked_key, left.pop("adopted")))
        unread = dict(left.pop("unread", {}))
        numbers = (*left.values(), *filtered.values(), *unread.values())
        if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
            raise ValueError("it counts with what is no number")
        return cls(origin, **left, refused=refused, filtered=filtered, adopted=adopted, unread=unread)


def picture_hash(data: bytes) -> int:
    """64 bits of the BLAKE3 of a picture's bytes."""
    return _hash(data)


@dataclass(frozen=True)
class StoredPair:
    """A pair, and for each of its pictures the `picture_hash` of its bytes, wherever they lie."""

    pair: Pair
    hashes: tuple[int, ...] = ()

    @cached_property
    def split_hash(self) -> int:
        """64 bits of the BLAKE3 of all pictures' hashes (little-endian), or of the texts where none is."""
        return _hash(self._pictures or self._texts)

    @cached_property
    def content_hash(self) -> int:
        """As `split_hash`, of the pictures' hashes and the texts behind them."""
        return _hash(self._pictures + self._texts)

    @property
    def num_characters(self) -> int:
        """Of all captions and turns."""
        pair = self.pair
        return sum(map(len, pair.captions.values())) + sum(len(turn.text) for turn in pair.turns)

    @cached_property
    def captions_json(self) -> bytes:
        """Canonical JSON of the captions, by name."""
        return canonical_json(dict(self.pair.captions))

    @cached_property
    def turns_json(self) -> bytes:
        """Canonical JSON of the turns, [role, text] each."""
        return canonical_json(_turns(self.pair))

    @property
    def _pictures(self) -> bytes:
        """Their hashes, little-endian."""
        return b"".join(number.to_bytes(8, "little") for number in self.hashes)

    @property
    def _texts(self) -> bytes:
        """Canonical JSON of both."""
        return b"[%b,%b]" % (self.captions_json, self.turns_json)

    def to_json(self) -> bytes:
        """FoundryError where a pair cannot be so: too many pictures, or places for others than it has."""
        _check(self)
        pair = self.pair
        pictures = [
            {**vars(picture), "hash": f"{number:016x}"}
            for picture, number in zip(pair.pictures, self.hashes, strict=True)
        ]
        texts = {"captions": dict(pair.captions), "turns": _turns(pair), "metadata": dict(pair.metadata)}
        return canonical_json({"id": pair.id, "pictures": pictures, **texts})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> StoredPair:
        """Strict inverse; CorruptData names `where`."""
        try:
            obj = json.loads(data)
            check_keys(obj, _PAIR_KEYS, where)
            for entry in obj["pictures"]:
                check_keys(entry, _PICTURE_KEYS, where)
            hashes = tuple(int(entry.pop("hash"), 16) for entry in obj["pictures"])
            turns = tuple(Turn(role, text) for role, text in obj["turns"])
            pictures = tuple(Picture(**entry) for entry in obj["pictures"])
            stored = cls(Pair(obj["id"], pictures, obj["captions"], turns, obj["metadata"]), hashes)
            if stored.to_json() != data:
                raise ValueError("it is not written as pairs are")
            return stored
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FoundryError) as error:
            raise CorruptData(f"{where} is damaged: {error}") from error


def _hash(data: bytes) -> int:
    return int.from_bytes(blake3.blake3(data).digest(8), "little")


def _turns(pair: Pair) -> list[list[str]]:
    return [[turn.role, turn.text] for turn in pair.turns]


def _check(stored: StoredPair) -> None:
    pair = stored.pair
    if type(pair.id) is not str or not isinstance(pair.metadata, Mapping):
        raise FoundryError("a pair has a text as id, and metadata by name")
    if len(pair.pictures) > MOST_PICTURES:
        raise FoundryError(f"a pair has at most {MOST_PICTURES} pictures, not {len(pair.pictures)}")
    for picture in pair.pictures:
        _check_picture(picture)
    if not all(0 <= number < 1 << 64 for number in stored.hashes):
        raise FoundryError("the hash of a picture has 64 bits")
    texts = [*pair.captions, *pair.captions.values(), *(turn.text for turn in pair.turns)]
    if any(type(text) is not str for text in texts) or any(turn.role not in ROLES for turn in pair.turns):
        raise FoundryError(f"captions and turns are texts, and turns are of {', '.join(ROLES)}")
    places = num_places(pair.turns)
    if pair.turns and places != len(pair.pictures):
        raise FoundryError(f"its turns have {places} places for {len(pair.pictures)} pictures")


def _check_picture(picture: Picture) -> None:
    sizes = (picture.height, picture.width, picture.num_bytes)
    is_size = all(type(size) is int and 0 < size < _TOO_LARGE for size in sizes)
    if picture.encoding not in ENCODINGS or not is_size:
        raise FoundryError(f"a picture is {', '.join(ENCODINGS)} with a height, a width and bytes")
    names = [picture.member] if picture.tar is None else [picture.member, checked_key(picture.tar)]
    if any(type(name) is not str or not name for name in names):
        raise FoundryError("a picture has a name")


def pair_key(block: str, number: int) -> str:
    """The key of a block's pair, so that keys sort as the pairs follow."""
    if not 0 <= number < MOST_PAIRS:
        raise FoundryError(f"a block holds at most {MOST_PAIRS:,} pairs", hint="set a smaller unit_bytes")
    return f"{block}-{number:0{DIGITS}d}"


def picture_members(key: str, encodings: Sequence[str]) -> list[str]:
    """The names of the members of a pair's own pictures, in their order."""
    if len(encodings) == 1:
        return [f"{key}.{encodings[0]}"]
    digits = 1 if len(encodings) <= 10 else 2
    return [f"{key}.{number:0{digits}d}.{encoding}" for number, encoding in enumerate(encodings)]


@dataclass(frozen=True)
class Encoded:
    """A picture on its way into a block.

    `height` and `width` are of the upright picture. `adopted` is the key of the tar that has it already, and
    the name of its member there: then only its hash and size are taken of `data`.
    """

    data: bytes
    encoding: str
    height: int
    width: int
    adopted: tuple[str, str] | None = None


class BlockWriter:
    """Writes a block pair by pair: gives each member to `add` in the order of the tar, the head last."""

    def __init__(self, key: str, origin: Origin, add: Callable[[str, bytes], None]) -> None:
        self._key, self._origin, self._add = key, origin, add
        self._sums = dict.fromkeys(SUMS, 0)
        self._adopted: set[str] = set()

    def add(
        self,
        id: str,
        pictures: Sequence[Encoded] = (),
        captions: Mapping[str, str] | None = None,
        turns: Sequence[Turn] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> StoredPair:
        """Write one pair; FoundryError, with nothing of it written, where it cannot be (`StoredPair`)."""
        key = pair_key(self._key, self._sums["num_pairs"])
        own = picture_members(key, [picture.encoding for picture in pictures])
        listed = tuple(_listed(*item) for item in zip(pictures, own, strict=True))
        pair = Pair(id, listed, captions or {}, tuple(turns), metadata or {})
        stored = StoredPair(pair, tuple(picture_hash(picture.data) for picture in pictures))
        members = [(f"{key}{PAIR}", stored.to_json())]
        members += [
            (there.member, picture.data)
            for there, picture in zip(listed, pictures, strict=True)
            if there.tar is None
        ]
        for name, data in sorted(members):
            self._add(name, data)
        sizes = 1, len(pictures), stored.num_characters, sum(len(picture.data) for picture in pictures)
        for name, size in zip(SUMS, sizes, strict=True):
            self._sums[name] += size
        self._adopted.update(there.tar for there in listed if there.tar is not None)
        return stored

    def close(
        self,
        refused: Sequence[Refusal] = (),
        duplicates: int = 0,
        filtered: Mapping[str, int] | None = None,
        unread: Mapping[str, int] | None = None,
    ) -> BlockHead:
        """Write the head, which tells what of the unit is not in the block."""
        head = BlockHead(
            self._origin,
            **self._sums,
            refused=tuple(refused),
            duplicates=duplicates,
            filtered=filtered or {},
            adopted=tuple(sorted(self._adopted)),
            unread=unread or {},
        )
        self._add(f"{self._key}{HEAD}", head.to_json())
        return head


def _listed(picture: Encoded, own: str) -> Picture:
    tar, member = picture.adopted or (None, own)
    return Picture(member, picture.encoding, picture.height, picture.width, len(picture.data), tar)


def block_keys(shard: ShardReader) -> list[str]:
    """The keys of a shard's blocks, in order."""
    return shard.keys(HEAD)


def read_head(shard: ShardReader, key: str) -> BlockHead:
    """CorruptData where it is damaged."""
    return BlockHead.from_json(shard.read_name(f"{key}{HEAD}"), f"{key}{HEAD} of {shard.where}")


def read_pairs(shard: ShardReader, key: str) -> Iterator[StoredPair]:
    """The pairs of a block that its head counts, in order. CorruptData where one is damaged."""
    count = read_head(shard, key).num_pairs
    if count > len(shard):
        raise CorruptData(f"{key}{HEAD} of {shard.where} counts {count:,} pairs, the tar has fewer members")
    names = [f"{pair_key(key, number)}{PAIR}" for number in range(count)]
    for name, data in zip(names, shard.read_many(map(shard.row, names)), strict=True):
        yield StoredPair.from_json(data, f"{name} of {shard.where}")
