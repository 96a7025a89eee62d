"""Where the files of a LeRobot dataset lie: by what is there, because the templates of info.json may lie.

<root>/meta/info.json …, <root>/data/<chunk>/<file>.parquet, and videos of one episode (2.x) or several (3.0):
videos/chunk-000/<key>/episode_000000.mp4, videos/<key>/chunk-000/file-000.mp4
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

INFO = "meta/info.json"
META = re.compile(
    r"meta/(info\.json|modality\.json|(episodes|tasks|subtasks)\.jsonl|(tasks|subtasks)\.parquet"
    r"|episodes/(.+/)?[^/]+\.parquet)"
)
# Statistics, which are computed anew, and what the Hugging Face Hub puts beside a dataset.
NEEDLESS = re.compile(
    r"(.*/)?(meta/(stats\.json|episodes_stats\.jsonl)|README\.md|LICENSE|\.gitattributes|\.gitignore)"
    r"|(.*/)?\.cache/huggingface/.*"
)
DATA = re.compile(r"(.*/)?data/(.+/)?[^/]+\.parquet")
# Data by their own names, of which a folder inside of a dataset was given, so that no info.json lies above.
_STRAY = re.compile(r"(.*/)?(episode_[0-9]{1,9}|file-[0-9]{1,9})\.parquet")
VIDEO = ".mp4"
_OF_EPISODE = re.compile(r"episode_([0-9]{1,9})\.[a-z0-9]+")
_OF_FILE = re.compile(r"chunk-([0-9]{1,9})/file-([0-9]{1,9})\.mp4")
_FIELD = re.compile(r"\{(\w+)(?::0?([0-9]{1,2})d)?\}")


def is_claimed(path: str) -> bool:
    """Whether a file tells of a dataset, or may be its data."""
    return is_info(path) or any(kind.fullmatch(path) for kind in (DATA, _STRAY))


def is_info(path: str) -> bool:
    """Whether the file says what a dataset holds."""
    return f"/{path}".endswith(f"/{INFO}")


def episode_number(path: str) -> int | None:
    """The episode that a file alone is of, by its name; None for one that may be of several."""
    named = _OF_EPISODE.fullmatch(path.rpartition("/")[2])
    return None if named is None else int(named[1])


def prefix_of(paths: Iterable[str]) -> str | None:
    """What comes before meta/info.json in the path that is it; None if none is."""
    return next((path.removesuffix(INFO) for path in paths if is_info(path)), None)


def gathered(claimed: Sequence[str], listed: Collection[str]) -> list[tuple[str, Sequence[str]]]:
    """Each claimed file with what is read together with it.

    Data have the metadata and the videos that may show them, info.json the metadata and all data.
    """
    roots = sorted(path.removesuffix(INFO) for path in claimed if is_info(path))
    beneath: dict[str, list[str]] = defaultdict(list)
    for path in sorted(listed):
        root = _root_of(path, roots)
        if root is not None:
            beneath[root].append(path)
    made: list[tuple[str, Sequence[str]]] = [
        (path, ()) for path in claimed if not is_info(path) and _root_of(path, roots) is None
    ]
    for root in roots:
        own = set(beneath[root])
        data = [path for path in claimed if path in own and DATA.fullmatch(path[len(root) :])]
        made += _of_dataset(root, beneath[root], data)
    return sorted(made, key=lambda entry: entry[0])


def _of_dataset(root: str, paths: Sequence[str], data: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    meta = [path for path in paths if META.fullmatch(path[len(root) :])]
    videos: dict[int | None, list[str]] = defaultdict(list)
    for path in paths:
        if path.endswith(VIDEO):
            videos[episode_number(path)].append(path)
    of_several = [*meta, *videos[None]]  # held once for all files
    others = [path for path in meta if not is_info(path)]
    return [
        *(
            (path, [*meta, *videos[n]] if (n := episode_number(path)) is not None else of_several)
            for path in data
        ),
        (f"{root}{INFO}", [*others, *data]),
    ]


def _root_of(path: str, roots: Collection[str]) -> str | None:
    """The innermost dataset that a file lies in."""
    return max((root for root in roots if path.startswith(root)), key=len, default=None)


class VideoFiles:
    """The videos among some paths, found by the numbers in their names."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = {path for path in paths if path.endswith(VIDEO)}
        self._by_episode: dict[int, list[str]] = defaultdict(list)
        self._by_file: dict[tuple[int, int], list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            number, named = episode_number(path), _OF_FILE.search(path)
            if number is not None:
                self._by_episode[number].append(path)
            if named is not None:
                self._by_file[int(named[1]), int(named[2])].append(path)

    def __contains__(self, path: object) -> bool:
        return path in self._paths

    def of_episode(self, key: str, episode: int) -> str | None:
        """The video of one episode and feature, in whatever chunk it lies."""
        return next((path for path in self._by_episode[episode] if f"/{key}/" in f"/{path}"), None)

    def of_several(self, key: str, chunk: int, file: int) -> str | None:
        """The video of that number and feature, which shows several episodes."""
        return next((path for path in self._by_file[chunk, file] if f"/{key}/" in f"/{path}"), None)


def filled(template: str, numbers: dict[str, int], key: str) -> str | None:
    """The path that a template of info.json gives; None for one with fields that are not known."""

    def field(match: re.Match[str]) -> str:
        if match[1] == "video_key":
            return key
        return f"{numbers[match[1]]:0{match[2] or 1}d}"

    try:
        return _FIELD.sub(field, template)
    except KeyError:
        return None
