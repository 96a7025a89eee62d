"""What the name of a file of a TFDS directory says: its split, and which of the split's files it is.

    <dataset>-<split>.tfrecord-00000-of-00004     as tensorflow-datasets names files by itself
    <dataset>-<split>-00000-of-00004.tfrecord
    <dataset>-<split>.tfrecord                    a split of one file

each also without `<dataset>-`; or what `filepathTemplate` of the split in dataset_info.json says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

CLAIMED = re.compile(r"(?:.*/)?[^/]*\.tfrecord(?:-\d{5,}(?:-of-\d{5,})?)?")
EXPECTED = "<dataset>-<split>.tfrecord-<number>-of-<count>"
USUAL = re.compile(r"[^/]+-[^/-]+\.tfrecord-\d{5,}(?:-of-\d{5,})?")
_NUMBER, _COUNT = r"(?P<index>\d{5,})", r"(?P<count>\d{5,})"
_NAMES = (
    re.compile(rf"(?P<stem>[^/]+)\.tfrecord-{_NUMBER}(?:-of-{_COUNT})?"),
    re.compile(rf"(?P<stem>[^/]+)-{_NUMBER}-of-{_COUNT}\.tfrecord"),
    re.compile(r"(?P<stem>[^/]+)\.tfrecord"),
)
_TOKENS = {
    "{DATASET}": r"(?P<dataset>[^/]+)",
    "{FILEFORMAT}": "tfrecord",
    "{SHARD_INDEX}": _NUMBER,
    "{NUM_SHARDS}": _COUNT,
    "{SHARD_X_OF_Y}": rf"{_NUMBER}-of-{_COUNT}",
}


@dataclass(frozen=True)
class FileName:
    """File `index` of `count` of a split; `count` is None where the name does not tell."""

    dataset: str
    split: str
    index: int
    count: int | None


class Names:
    """The names of the files of a folder. Each is parsed once, however many of the files ask for it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(sorted(names))
        self._latest: tuple[Mapping[str, str] | None, dict[FileName, list[str]]] | None = None
        self._numbers: dict[FileName, list[int]] = {}

    def of(self, file: FileName, templates: Mapping[str, str] | None) -> Sequence[str]:
        """The names that say that they are this file, as `parse` reads them."""
        return self._parsed(templates).get(file, ())

    def numbers(self, file: FileName, templates: Mapping[str, str] | None) -> Sequence[int]:
        """The numbers, rising, of all files that are named as this one but for its number."""
        self._parsed(templates)
        return self._numbers.get(replace(file, index=0), ())

    def _parsed(self, templates: Mapping[str, str] | None) -> dict[FileName, list[str]]:
        if self._latest is None or self._latest[0] != templates:
            by_file: dict[FileName, list[str]] = {}
            for name in self._names:
                if (file := parse(name, templates)) is not None:
                    by_file.setdefault(file, []).append(name)
            self._latest, self._numbers = (templates, by_file), {}
            for file in sorted(by_file, key=lambda file: file.index):
                self._numbers.setdefault(replace(file, index=0), []).append(file.index)
        return self._latest[1]


def parse(path: str, templates: Mapping[str, str] | None) -> FileName | None:
    """By the splits that dataset_info.json knows, with their templates; None if it can be of none of them.

    Without it (None) the split is what follows the last '-'.
    """
    name = path.rpartition("/")[2]
    for split, template in sorted((templates or {}).items()):
        match = _of_template(template, split).fullmatch(name) if template else None
        if match is not None:
            return _file_name(match, split, match.groupdict().get("dataset") or "")
    match = next(filter(None, (pattern.fullmatch(name) for pattern in _NAMES)), None)
    if match is None:
        return None
    stem = match["stem"]
    if templates is None:
        dataset, _, split = stem.rpartition("-")
        return _file_name(match, split, dataset)
    ends = [split for split in templates if stem == split or stem.endswith(f"-{split}")]
    if not ends:
        return None
    split = max(ends, key=len)
    return _file_name(match, split, stem.removesuffix(split).removesuffix("-"))


def _of_template(template: str, split: str) -> re.Pattern[str]:
    """The pattern of a template such as `{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}`."""
    parts = re.split(r"(\{[A-Z_]+\})", template)
    tokens = {**_TOKENS, "{SPLIT}": re.escape(split)}
    given: set[str] = set()
    pattern = ""
    for part in parts:
        token = tokens.get(part, re.escape(part))
        pattern += re.sub(r"\?P<\w+>", "?:", token) if part in given else token
        given.add(part)
    try:
        return re.compile(pattern)
    except re.error:  # a number that is there twice
        return re.compile(r"(?!)")


def _file_name(match: re.Match[str], split: str, dataset: str) -> FileName:
    parts = match.groupdict()
    index, count = parts.get("index"), parts.get("count")
    if index is None:
        return FileName(dataset, split, 0, 1)
    return FileName(dataset, split, int(index), None if count is None else int(count))
