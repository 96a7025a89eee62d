"""Pictures of a world's scenes and what can be said of them, as image-text pairs in WebDataset tars.

`<out>/train/00000.tar …` and `<out>/held_out/…` are laid out as img2dataset writes: `<9 digits>.jpg` and
`<9 digits>.json`, the first five digits the number of the tar. The JSON has `caption`, one sentence;
`conversations`, questions and answers as LLaVA has them; `kinds`, one name an answer; and metadata. Questions
about a picture to train on are one conversation; about a held-out one each is a pair of its own, so that no
answer is given away by the one before. `<out>/text.jsonl` has the words of all pictures to train on, for a
tokenizer that has them as tokens and a language model that knows them. Equal arguments give equal bytes, with
any number of workers.
Shape suffixes: HWC picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot_foundry.evaluation.appearing import appearing
from robot_foundry.evaluation.worlds.registry import get_scenes
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.images import encode_jpeg
from robot_foundry.shards.tar import TarWriter

TRAIN, HELD_OUT = SPLITS = ("train", "held_out")
PICTURES_PER_TAR = 1000
MOST_TARS = 10**5
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; `kind` says what it asks for."""

    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Described:
    """A scene: its picture, uint8 (H, W, 3), one sentence about it, questions in order, and further facts."""

    picture_HWC: np.ndarray
    caption: str
    questions: tuple[Question, ...]
    facts: Mapping[str, Any]


class Scenes(Protocol):
    """What a world can show and say of its scenes."""

    def describe(self, split: str, seed: int, index: int) -> Described:
        """The scene `index` of a split; equal arguments give the same one."""
        ...


@dataclass(frozen=True)
class ScenesRequest:
    """What to collect: so many pictures a split, `size` pixels a side; of `tasks`, of all without any."""

    pictures: int
    held_out: int
    seed: int
    size: int = 64
    world: str = "tabletop"
    variant: str = "sim"
    tasks: tuple[str, ...] = ()

    def scenes(self) -> Scenes:
        return get_scenes(self.world, self.variant, size=self.size, tasks=self.tasks)


@dataclass(frozen=True)
class CollectedScenes:
    """What was written, by split: pictures, pairs and answers by their kind; bytes of all tars."""

    path: str
    pictures: Mapping[str, int]
    pairs: Mapping[str, int]
    kinds: Mapping[str, Mapping[str, int]]
    bytes: int


def collect_scenes(
    request: ScenesRequest, out: Path, *, workers: int = 0, quiet: bool = False
) -> CollectedScenes:
    """Render the scenes into the folder `out`, which appears whole or not at all; UsageError if it exists,
    FoundryError where another process writes it."""
    request.scenes()
    written: list[_Written] = []
    total = request.pictures + request.held_out
    with (
        appearing(out, partial(check_folder, out), is_folder=True) as place,
        Progress(total, "pictures", "collect scenes", quiet=quiet) as progress,
    ):
        items = [_Tar(request, str(place), *part) for part in _parts(request)]
        for split in {item.split for item in items}:
            (place / split).mkdir()
        for _, tar in unordered_map(_write, items, workers=workers):
            written.append(tar)
            progress.advance(tar.pictures)
        text = b"".join(tar.text for tar in sorted(written, key=lambda tar: tar.number) if tar.split == TRAIN)
        (place / "text.jsonl").write_bytes(text)
        (place / "scenes.json").write_bytes(canonical_json(asdict(request)))
    return _summed(out, written)


def check_folder(out: Path) -> None:
    """UsageError where `out` is there."""
    if out.exists():
        raise UsageError(f"{out} is there already", hint="give another --out, or remove it")


@dataclass(frozen=True)
class _Tar:
    """The `number`th tar of a split: the pictures `start` … `stop` - 1."""

    request: ScenesRequest
    folder: str
    split: str
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class _Written:
    """A tar that is there; `text` is what its pictures are asked, a line a picture."""

    split: str
    number: int
    pictures: int
    pairs: int
    kinds: tuple[str, ...]
    text: bytes
    bytes: int


def _parts(request: ScenesRequest) -> Iterator[tuple[str, int, int, int]]:
    for split, count in zip(SPLITS, (request.pictures, request.held_out), strict=True):
        if count > PICTURES_PER_TAR * MOST_TARS:
            raise FoundryError(f"{count} pictures are more than {PICTURES_PER_TAR * MOST_TARS}")
        for number, start in enumerate(range(0, count, PICTURES_PER_TAR)):
            yield split, number, start, min(start + PICTURES_PER_TAR, count)


def _write(tar: _Tar) -> _Written:
    scenes, request = tar.request.scenes(), tar.request
    path = Path(tar.folder) / tar.split / f"{tar.number:05d}.tar"
    kinds: list[str] = []
    lines: list[bytes] = []
    pairs = 0
    with path.open("wb") as file:
        writer = TarWriter(file)
        for index in range(tar.start, tar.stop):
            described = scenes.describe(tar.split, request.seed, index)
            lines.append(canonical_json({"text": _text(described)}) + b"\n")
            picture = encode_jpeg(described.picture_HWC, JPEG_QUALITY)
            for asked in _conversations(tar.split, described.questions):
                key = f"{tar.number:05d}{pairs:04d}"
                writer.add(f"{key}.jpg", picture)
                writer.add(f"{key}.json", canonical_json(_pair(tar.split, index, described, asked)))
                kinds += [question.kind for question in asked]
                pairs += 1
        summary = writer.close()
    pictures, text = tar.stop - tar.start, b"".join(lines)
    return _Written(tar.split, tar.number, pictures, pairs, tuple(kinds), text, summary.num_bytes)


def _conversations(split: str, questions: tuple[Question, ...]) -> list[tuple[Question, ...]]:
    return [questions] if split == TRAIN else [(question,) for question in questions]


def _text(described: Described) -> str:
    return "\n".join([described.caption, *(f"{q.text}\n{q.answer}" for q in described.questions)])


def _pair(split: str, index: int, described: Described, asked: tuple[Question, ...]) -> dict[str, Any]:
    sides = (("human", "text"), ("gpt", "answer"))
    return {
        "caption": described.caption,
        "conversations": [
            {"from": side, "value": getattr(question, part)} for question in asked for side, part in sides
        ],
        "kinds": [question.kind for question in asked],
        "scene": index,
        "split": split,
        **described.facts,
    }


def _summed(out: Path, written: list[_Written]) -> CollectedScenes:
    def total(split: str, name: str) -> int:
        return sum(getattr(tar, name) for tar in written if tar.split == split)

    kinds: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for tar in written:
        for kind in tar.kinds:
            kinds[tar.split][kind] = kinds[tar.split].get(kind, 0) + 1
    return CollectedScenes(
        str(out),
        {split: total(split, "pictures") for split in SPLITS},
        {split: total(split, "pairs") for split in SPLITS},
        {split: dict(sorted(counts.items())) for split, counts in kinds.items()},
        sum(tar.bytes for tar in written),
    )
