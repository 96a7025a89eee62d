"""What features.json and dataset_info.json say about a file of a TFDS directory.

<name>/<version>/{features.json, dataset_info.json, <name>-<split>.tfrecord-00000-of-00004, …}
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.rlds.features import Leaf, read_features
from robot_foundry.ingest.sources.rlds.file_names import EXPECTED, USUAL, FileName, Names, parse

FEATURES, INFO = "features.json", "dataset_info.json"
# Statistics can make it large; this is far beyond what a real one has.
LARGEST_JSON = 256 * 1024 * 1024


@dataclass(frozen=True)
class DatasetFile:
    """A file of records. `num_records` is None where dataset_info.json does not tell.

    `is_guess` says that it does for a file that it does not name: one of those that are not empty.
    """

    dataset: str
    version: str
    config: str
    split: str
    num_records: int | None
    leaves: tuple[Leaf, ...]
    is_guess: bool = False


@dataclass(frozen=True)
class _Info:
    name: str
    version: str
    config: str
    lengths: dict[str, tuple[int, ...]]  # records of each file, by split
    templates: dict[str, str]  # of the names of files, by split; empty where it does not tell


def describe(
    path: str, read: Callable[[str], bytes | None], beside: Callable[[], Names] | None = None
) -> DatasetFile:
    """The file of that name, by the JSON files beside it: `read` gives the content of one, None if absent.

    Refused where they are missing, damaged or do not know the file. `beside` gives the names of what lies in
    its folder; without it, of a file that was described before, the number of records is left open where it
    follows from these.
    """
    features = read(FEATURES)
    if features is None:
        raise Refused(f"there is no {FEATURES} beside it, which says what its records hold")
    leaves, text = read_features(features), read(INFO)
    info = None if text is None else _read_info(text)
    named = parse(path, None if info is None else info.templates)
    if named is None and info is not None and (other := parse(path, None)) is not None:
        splits = ", ".join(sorted(info.lengths)) or "none"
        raise Refused(f"{INFO} has no split '{other.split}' (splits: {splits})")
    if named is None:
        raise Refused(f"its name is not {EXPECTED}")
    if beside is not None and not USUAL.fullmatch(path.rpartition("/")[2]):
        _check_alone(path, named, info, beside())
    if info is None:
        return DatasetFile(named.dataset, "", "", named.split, None, leaves)
    num_records, is_guess = _num_records(path, info, named, beside)
    dataset = info.name or named.dataset
    return DatasetFile(dataset, info.version, info.config, named.split, num_records, leaves, is_guess)


def _check_alone(path: str, named: FileName, info: _Info | None, beside: Names) -> None:
    """Refused if another file says that it is the same one of the split, which unusual names may do."""
    templates, name = None if info is None else info.templates, path.rpartition("/")[2]
    for other in beside.of(named, templates):
        if other != name:
            raise Refused(f"'{other}' is file {named.index} of the split '{named.split}' too: move one away")


def _num_records(
    path: str, info: _Info, named: FileName, beside: Callable[[], Names] | None
) -> tuple[int | None, bool]:
    """The stated number of records of the file, and whether that holds only if empty files were left out.

    Refused if dataset_info.json has no such file.
    """
    lengths = info.lengths[named.split]
    if not lengths:
        return None, False
    count = named.count or len(lengths)
    if count == len(lengths) and named.index < count:
        return lengths[named.index], False
    if beside is None:
        return None, False
    present = beside().numbers(named, info.templates)
    if len(present) == len(lengths) < count and named.index < count:
        return lengths[bisect_left(present, named.index)], True
    raise Refused(
        f"{INFO} tells of {len(lengths)} files of the split '{named.split}', the file's name of {count}, and "
        f"{len(present)} are here: fetch those that are missing, or move {INFO} away to have the records of "
        "what is here counted"
    )


def missing_files(info: bytes, paths: Iterable[str]) -> list[str]:
    """For each split that dataset_info.json tells of, how many of its files are not among these, if any."""
    described = _read_info(info)
    names = list(filter(None, (parse(path, described.templates) for path in paths)))
    counts = {
        split: len({name.index for name in names if name.split == split}) for split in described.lengths
    }
    return [
        f"the source has {counts[split]} of the {len(of)} files of the split '{split}' that {INFO} tells of"
        for split, of in sorted(described.lengths.items())
        if counts[split] < len(of)
    ]


@lru_cache(maxsize=8)
def _read_info(text: bytes) -> _Info:
    """dataset_info.json; numbers in it are often written as text."""
    try:
        values = json.loads(text)
        file_format = values.get("fileFormat", "tfrecord")
        lengths = {
            str(split["name"]): tuple(int(length) for length in split.get("shardLengths", ()))
            for split in values.get("splits", ())
        }
        templates = {
            str(split["name"]): str(split.get("filepathTemplate", "")) for split in values.get("splits", ())
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(
            f"{INFO} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
    if file_format != "tfrecord":
        raise Refused(f"{INFO} says that the files are {file_format}, and only tfrecord is read")
    if any(length < 0 for each in lengths.values() for length in each):
        raise Refused(f"{INFO} has a shard of fewer than 0 records")
    names = (values.get(key) for key in ("name", "version", "configName"))
    name, version, config = (value if isinstance(value, str) else "" for value in names)
    return _Info(name, version, config, lengths, templates)
