"""What the corruption suite declares: classes of damage, cases of each, and what may become of a source."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from pathlib import Path


class Damage(Enum):
    """Classes of damage, each with its name on the page."""

    TRUNCATION = "truncation"
    HEADER_FLIPS = "flips in headers"
    PAYLOAD_FLIPS = "flips in payload"
    DTYPE = "wrong dtype"
    SHAPE = "wrong shape"
    NOT_FINITE = "NaN and inf"
    CAMERA = "missing camera"
    STEP = "missing step"
    EMPTY = "empty"
    DUPLICATES = "duplicated ids"
    ABSURD = "absurd sizes"
    CHECKSUM = "wrong checksum"
    MIXED = "mixed features"


class Outcome(Flag):
    """What becomes of a damaged source; several may hold of one.

    UNSEEN is data that changed where nothing in the source, the report or `validate` says so.
    """

    REFUSED = auto()
    QUARANTINED = auto()
    EQUAL = auto()
    TOLD = auto()
    FLAGGED = auto()
    FOUND = auto()
    UNSEEN = auto()


WORDS: Mapping[Outcome, str] = {
    Outcome.REFUSED: "refused",
    Outcome.QUARANTINED: "quarantined",
    Outcome.EQUAL: "equal",
    Outcome.TOLD: "told",
    Outcome.FLAGGED: "flagged",
    Outcome.FOUND: "found by `validate`",
    Outcome.UNSEEN: "not detected",
}

# On the page, in tables.
LETTERS: Mapping[Outcome, str] = {
    Outcome.REFUSED: "R",
    Outcome.QUARANTINED: "Q",
    Outcome.EQUAL: "E",
    Outcome.TOLD: "T",
    Outcome.FLAGGED: "F",
    Outcome.FOUND: "V",
    Outcome.UNSEEN: "U",
}

# Damages the source in the folder; gives patterns, as of a shell, of the units `file#id` that may change.
Spoil = Callable[[Path, random.Random], str | tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One way to damage a source, `variants` times with other seeds.

    `outcomes` is what becomes of it; of damage at random places, all that may. `why` says why what is UNSEEN
    cannot be detected.
    """

    damage: Damage
    what: str
    spoil: Spoil
    outcomes: Outcome
    variants: int = 1
    why: str = ""

    @property
    def is_random(self) -> bool:
        return self.variants > 1


@dataclass(frozen=True)
class Form:
    """A format: `make` writes a sound source to a folder, and a spec beside it where `spec` is a file.

    `without` says of classes of damage why there is no such case of this format.
    """

    name: str
    make: Callable[[Path], None]
    cases: tuple[Case, ...]
    spec: str
    settings: tuple[str, ...] = ()
    without: Mapping[Damage, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A case with its seed."""

    form: Form
    case: Case
    number: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.form.name}, {self.case.damage.value}, {self.case.what}, {self.number}"

    def rng(self) -> random.Random:
        return random.Random(f"{self.seed}, {self.name}")
