"""What features.json and dataset_info.json say about a file of a TFDS directory.

<name>/<version>/{features.json, dataset_info.json, <name>-<split>.tfrecord-00000-of-00004, …}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.rlds_features import Leaf, read_features

FEATURES, INFO = "features.json", "dataset_info.json"
FILE_NAME = re.compile(
    r"(?:.*/)?(?P<dataset>[^/]+)-(?P<split>[^/-]+)\.tfrecord-(?P<index>\d{5,})(?:-of-(?P<count>\d{5,}))?"
)
# Statistics can make it large; this is far beyond what a real one has.
LARGEST_JSON = 256 * 1024 * 1024


@dataclass(frozen=True)
class DatasetFile:
    """A file of records. `num_records` is None where dataset_info.json does not tell."""

    dataset: str
    version: str
    config: str
    split: str
    num_records: int | None
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class _Info:
    name: str
    version: str
    config: str
    lengths: dict[str, tuple[int, ...]]  # records of each file, by split


def describe(path: str, read: Callable[[str], bytes | None]) -> DatasetFile:
    """The file of that name, by the JSON files beside it: `read` gives the content of one, None if absent.

    Refused where they are missing, damaged or do not know the file.
    """
    features = read(FEATURES)
    if features is None:
        raise Refused(f"there is no {FEATURES} beside it, which says what its records hold")
    found = FILE_NAME.fullmatch(path)
    if found is None:
        raise Refused("its name is not <dataset>-<split>.tfrecord-<number>-of-<count>")
    leaves, split, text = read_features(features), found["split"], read(INFO)
    if text is None:
        return DatasetFile(found["dataset"], "", "", split, None, leaves)
    info = _read_info(text)
    return DatasetFile(
        info.name or found["dataset"], info.version, info.config, split, _num_records(info, found), leaves
    )


def _num_records(info: _Info, found: re.Match[str]) -> int | None:
    """The stated number of records of the file. Refused if dataset_info.json has no such file."""
    split, index = found["split"], int(found["index"])
    if split not in info.lengths:
        known = ", ".join(sorted(info.lengths)) or "none"
        raise Refused(f"{INFO} has no split '{split}' (splits: {known})")
    lengths = info.lengths[split]
    if not lengths:
        return None
    count = int(found["count"] or len(lengths))
    if count != len(lengths) or index >= count:
        raise Refused(
            f"{INFO} tells of {len(lengths)} files of the split '{split}', the file's name of {count}"
        )
    return lengths[index]


def missing_files(info: bytes, paths: Iterable[str]) -> list[str]:
    """For each split that dataset_info.json tells of, how many of its files are not among these, if any."""
    lengths = _read_info(info).lengths
    matches = filter(None, map(FILE_NAME.fullmatch, paths))
    present = {(found["split"], int(found["index"])) for found in matches}
    counts = {
        split: sum((split, index) in present for index in range(len(of))) for split, of in lengths.items()
    }
    return [
        f"the source has {counts[split]} of the {len(of)} files of the split '{split}' that {INFO} tells of"
        for split, of in sorted(lengths.items())
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
    return _Info(name, version, config, lengths)
