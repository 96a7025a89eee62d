"""What lies at a place: datasets by the files that describe them, and single files by their bytes."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.ingest.files.places import Listed, listed_at
from robot_foundry.ingest.inspect.forms import sniff
from robot_foundry.ingest.inspect.forms.records import record_form, records, unpacking_problem
from robot_foundry.ingest.sources import LAYOUTS, Refused, layout
from robot_foundry.ingest.sources.hdf5 import hdf5, links
from robot_foundry.ingest.sources.hdf5.layouts import CONTAINER, HDF5
from robot_foundry.ingest.sources.hdf5.recognition import Hdf5Layout
from robot_foundry.ingest.sources.ros.bags.bag_files import is_storage
from robot_foundry.ingest.sources.zarr.places import gathered
from robot_foundry.ingest.sources.zarr.places import is_claimed as is_buffer
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import NO_STAMP, FileStatus, is_remote

# Single files that are opened, of each place; the rest is told as not looked at.
MOST_SNIFFED = 512
MOST_BYTES_JSON = 1 << 24
INFO, FEATURES, DATASET_INFO = "meta/info.json", "features.json", "dataset_info.json"
TRAJECTORY, BAG_METADATA = "trajectory.h5", "metadata.yaml"
# Layouts of which each recording is a folder, and a spec is of all recordings.
TOGETHER = ("ros", "droid_raw")
OF_RECORDS = (
    sniff.PARQUET, sniff.TAR, sniff.JSON_LINES, sniff.JSON, sniff.GZIP, sniff.ZSTD, sniff.TEXT,
)  # fmt: skip
BAG_WORDS = {sniff.ROS1: "ROS 1 bag", sniff.MCAP: "MCAP recording", sniff.SQLITE: "ROS 2 bag (SQLite)"}


@dataclass(frozen=True)
class Found:
    """One thing at a place: `form` in words, `layout` that reads it or None, `place` as `ingest` takes it.

    `sample` is one of its files.
    """

    form: str
    layout: str | None
    place: str
    num_files: int
    num_bytes: int
    sample: str


@dataclass(frozen=True)
class Contents:
    """All that lies at a place. `problems` are (path, what is wrong), `others` numbers of files by form.

    `unseen` files were not opened, for there are too many.
    """

    found: tuple[Found, ...]
    problems: tuple[tuple[str, str], ...]
    others: dict[str, int]
    num_files: int
    num_bytes: int
    unseen: int


def contents_of(source: str | Path) -> Contents:
    """What lies at the file, folder or pattern. UsageError if nothing does."""
    if is_remote(str(source)):
        raise UsageError(f"{source} is far away", hint="inspect reads local files: copy some of it first")
    listed = listed_at(source)
    problems = [(f.path, "is a link that leads nowhere") for f in listed.files if f.stamp == NO_STAMP]
    files = {file.path: file for file in listed.files if file.stamp != NO_STAMP}
    found, others = list[Found](), Counter[str]()
    if not listed.named:
        found += _found_datasets(listed, files)
    rest = [files[path] for path in sorted(files)]
    by_form = defaultdict[tuple[str, str | None], list[FileStatus]](list)
    for file in rest[:MOST_SNIFFED]:
        form, reads, wrong = _form_of(Path(listed.root, file.path))
        problems += [(file.path, problem) for problem in wrong]
        by_form[form, reads].append(file)
    for (form, reads), held in by_form.items():
        if reads is None:
            others[form] += len(held)
        else:
            place = _place(listed, str(source), held)
            found.append(_made(form, reads, place, held, listed.root))
    return Contents(
        tuple(sorted(found, key=lambda item: item.place)),
        tuple(problems),
        dict(others.most_common()),
        len(listed.files),
        sum(file.size for file in listed.files),
        max(0, len(rest) - MOST_SNIFFED),
    )


def _made(form: str, name: str, place: str, held: Sequence[FileStatus], root: str) -> Found:
    return Found(form, name, place, len(held), sum(file.size for file in held), str(Path(root, held[0].path)))


def _found_datasets(listed: Listed, files: dict[str, FileStatus]) -> Iterator[Found]:
    """Datasets that are folders, whose files are taken out of `files`; recordings of one layout are one."""
    paths, together = sorted(files), dict[tuple[str, str], tuple[list[str], list[FileStatus]]]()
    for form, name, root in _datasets(listed, paths):
        held = [files.pop(path) for path in _beneath(paths, root) if path in files]
        if held and name in TOGETHER:
            roots, of_all = together.setdefault((form, name), ([], []))
            roots.append(root)
            of_all += held
        elif held:
            yield _made(form, name, str(Path(listed.root, root)), held, listed.root)
    for (form, name), (roots, held) in together.items():
        place = Path(listed.root, roots[0] if len(roots) == 1 else os.path.commonpath(roots))
        yield _made(form, name, str(place), held, listed.root)


def _beneath(paths: Sequence[str], folder: str) -> Sequence[str]:
    """Those of the sorted paths that lie in the folder."""
    if not folder:
        return paths
    return paths[bisect_left(paths, f"{folder}/") : bisect_left(paths, f"{folder}0")]  # which follows on '/'


def _place(listed: Listed, source: str, held: Sequence[FileStatus]) -> str:
    """The file itself, else the folder that holds all of them, else what was given."""
    if len(held) == 1:
        return str(Path(listed.root, held[0].path))
    if listed.named:
        return source
    above = {file.path.rpartition("/")[0] for file in held}
    return str(Path(listed.root, above.pop())) if len(above) == 1 else listed.root


def _datasets(listed: Listed, paths: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(form, layout, folder) of each dataset that is a folder, told by what describes it, outer first."""
    known = set(paths)
    for path in paths:
        folder, _, name = path.rpartition("/")
        beside = f"{folder}/" if folder else ""
        if path == INFO or path.endswith(f"/{INFO}"):
            version = _json_key(Path(listed.root, path), "codebase_version")
            if version is not None:
                root = path.removesuffix(INFO).rstrip("/")
                yield f"LeRobot dataset, {version}", "lerobot", root
        elif name == FEATURES and f"{beside}{DATASET_INFO}" in known:
            yield "TFDS directory (RLDS)", "rlds", folder
        elif name == TRAJECTORY and _beneath(paths, f"{beside}recordings"):
            yield "DROID recording", "droid_raw", folder
        elif name == BAG_METADATA and sniff.sniff(Path(listed.root, path)).form == sniff.YAML_BAG:
            yield "ROS 2 bag", "ros", folder
    for path, _ in gathered([path for path in paths if is_buffer(path)], known):
        if not path.endswith(".zip"):
            yield "zarr replay buffer", "zarr", path.rpartition("/")[0]


def _json_key(path: Path, key: str) -> str | None:
    """The text under the key of a JSON file, None if there is none."""
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= MOST_BYTES_JSON:
            values = json.loads(path.read_bytes())
            return str(values[key])[:20] if isinstance(values, dict) and key in values else None
    return None


def _form_of(path: Path) -> tuple[str, str | None, list[str]]:
    """The form of one file in words, the layout that reads it or None, and what is wrong with the file."""
    seen = sniff.sniff(path)
    wrong = [] if seen.problem is None else [seen.problem]
    if seen.form == sniff.HDF5:
        return _of_hdf5(path)
    if seen.form in sniff.BAGS and (seen.form != sniff.SQLITE or _is_bag(path)):
        return BAG_WORDS[seen.form], "ros", wrong
    if seen.form == sniff.ZSTD and is_storage(path.name):
        return "ROS 2 bag packed by zstd", "ros", wrong
    if seen.form == sniff.ZIP and is_buffer(path.name):
        return "zarr replay buffer in a zip", "zarr", wrong
    if seen.form in OF_RECORDS:
        held = records(path, seen.form)
        packed = unpacking_problem(path) if seen.form in (sniff.GZIP, sniff.ZSTD) else None
        # One that is cut off says no more by what its reader stumbles over.
        problem = seen.problem or packed or held.problem
        return *record_form(path, seen.form, held), [] if problem is None else [problem]
    return seen.form, None, wrong


def _is_bag(path: Path) -> bool:
    """Whether the database has the tables of a bag of ROS 2."""
    import sqlite3
    from contextlib import closing

    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db,
    ):
        names = {row[0] for row in db.execute("select name from sqlite_master where type = 'table'")}
        return {"topics", "messages"} <= names
    return False


def _of_hdf5(path: Path) -> tuple[str, str | None, list[str]]:
    """The layout that recognises the file, in the order of LAYOUTS; else the one that is told all places."""
    try:
        with hdf5.open_file(path) as file:
            demos = hdf5.groups(file)
            for name, declared in LAYOUTS.items():
                if declared.container == CONTAINER:
                    reader = layout(name)
                    assert isinstance(reader, Hdf5Layout)
                    if reader.recognises(file, demos, is_asked=False):
                        return f"HDF5 of the layout {name}", name, []
            return "HDF5 of a layout of its own", HDF5.name, []
    except Refused as error:
        return sniff.HDF5, None, [error.message]
    except links.ERRORS as error:
        return sniff.HDF5, None, [links.unreadable("the file", error).message]
