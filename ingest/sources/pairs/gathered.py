"""Which files of a source are read together: a table and the pictures that it may name, a tar and what
img2dataset wrote beside it, and pictures with texts of their own name, many at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from robot_foundry.ingest.sources.pairs.asked import PARQUET, PICTURES, TAR, Asked
from robot_foundry.ingest.sources.pairs.forms import by_name
from robot_foundry.runtime.keyed import key

# What may stand beside a picture, by its name with another ending.
BESIDE = ("txt", "json")
# Pictures with their texts that are one unit, on average and at most. The names alone decide where one ends,
# so that another picture changes one unit.
MEAN_CHUNK, LARGEST_CHUNK = 1024, 4096
STATS = "_stats.json"


def gathered(
    claimed: Sequence[str], listed: Collection[str], content: Asked
) -> list[tuple[str, Sequence[str]]]:
    """The files that units are of, sorted, each with its companions. Arguments as in `Layout.together`."""
    forms = {path: _form(path, content) for path in claimed}
    tars = {_stem(path) for path, form in forms.items() if form == TAR}
    pictures = [path for path, form in forms.items() if form == PICTURES]
    beside = _beside(pictures, listed) if pictures else {}
    theirs = {text for texts in beside.values() for text in texts}
    reached = _Reached(listed, content)
    found: list[tuple[str, Sequence[str]]] = []
    for path, form in forms.items():
        stem = _stem(path)
        if form == TAR:
            found.append((path, [f"{stem}.parquet"] if f"{stem}.parquet" in listed else ()))
        elif form == PICTURES or path in theirs or _is_of_img2dataset(path, form, tars, listed):
            continue
        else:
            found.append((path, reached.by(path)))
    # Where nothing may name pictures, those that nothing is said of are told one by one.
    loose = [path for path in pictures if beside[path] or not found]
    found += _chunks(loose, beside)
    return sorted(found, key=lambda entry: entry[0])


def _form(path: str, content: Asked) -> str | None:
    return content.format or by_name(path)


def _stem(path: str) -> str:
    """The path without the ending of its file."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0] if name.lower().endswith('.tar.gz') else _short(name)}"


def _short(name: str) -> str:
    return name.rpartition(".")[0] or name


def _beside(pictures: Sequence[str], listed: Collection[str]) -> dict[str, list[str]]:
    """The texts beside each picture."""
    return {
        path: [text for ending in BESIDE if (text := f"{_stem(path)}.{ending}") in listed]
        for path in pictures
    }


def _is_of_img2dataset(path: str, form: str | None, tars: Collection[str], listed: Collection[str]) -> bool:
    """Whether it tells of a tar, or of a folder of files, and is no source of pairs itself."""
    if path.endswith(STATS):
        stem = path.removesuffix(STATS)
        return stem in tars or f"{stem}.parquet" in listed
    return form == PARQUET and (_stem(path) in tars or f"{_stem(path)}{STATS}" in listed)


class _Reached:
    """The pictures that a table may name: beneath its folder, or that above, or the folder asked for."""

    def __init__(self, listed: Collection[str], content: Asked) -> None:
        self._listed, self._content = listed, content
        self._pictures: list[str] | None = None
        self._by_folder: dict[str, Sequence[str]] = {}

    def by(self, table: str) -> Sequence[str]:
        if self._content.images is not None:
            return self._beneath(self._content.images.strip("/"))
        beside = table.rpartition("/")[0]
        return self._beneath(beside) or self._beneath(beside.rpartition("/")[0])

    def _beneath(self, folder: str) -> Sequence[str]:
        if folder not in self._by_folder:
            if self._pictures is None:
                self._pictures = sorted(path for path in self._listed if by_name(path) == PICTURES)
            prefix = f"{folder}/" if folder else ""
            self._by_folder[folder] = [path for path in self._pictures if path.startswith(prefix)]
        return self._by_folder[folder]


def _chunks(pictures: Sequence[str], beside: dict[str, list[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Pictures that follow each other by path, with their texts."""
    chunk: list[str] = []
    for path in sorted(pictures):
        chunk.append(path)
        if len(chunk) == LARGEST_CHUNK or key("pairs-chunk", path) % MEAN_CHUNK == 0:
            yield _together(chunk, beside)
            chunk = []
    if chunk:
        yield _together(chunk, beside)


def _together(chunk: Sequence[str], beside: dict[str, list[str]]) -> tuple[str, Sequence[str]]:
    texts = dict.fromkeys(text for path in chunk for text in beside[path])
    return chunk[0], sorted([*chunk[1:], *texts])
