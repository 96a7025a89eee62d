"""What a pipeline has done: a small file a stage, written when its command has ended well.

    runs/pipelines/<path of the file>/<stage>.json

A stage is done while its command, the files that this names, what its needs made and its own product are as
they were then. Small files are known by their content, large ones and folders by names and sizes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robot_foundry.catalog.store import Store
from robot_foundry.cli.pipeline.pipeline_file import Pipeline, Stage
from robot_foundry.cli.pipeline.programs import files_of
from robot_foundry.runtime.canonical import canonical_json, digest_of, sha256_hex
from robot_foundry.runtime.storage.storage import open_storage

FOLDER = Path("runs") / "pipelines"
SMALL_BYTES = 1_000_000


@dataclass(frozen=True)
class Asked:
    """All that decides what a stage makes: words of its command, the store, content of files by their path,
    and digests of what it reads by stage."""

    run: tuple[str, ...]
    store: str
    files: Mapping[str, str]
    reads: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A stage that was done: what was asked, where its product lies, its digest, and the seconds it took.

    These are not known where it was not this pipeline that ran it.
    """

    asked: Asked
    out: str
    product: str
    seconds: float | None


def asked_of(pipeline: Pipeline, stage: Stage, store: str, reads: Mapping[str, str]) -> Asked:
    """What a stage asks now."""
    files = {path.as_posix(): sha256_hex(path.read_bytes()) for path in files_of(pipeline, stage)}
    return Asked(tuple(pipeline.arguments(stage)), store, files, reads)


def product_of(out: str, store: str) -> str | None:
    """The digest of what lies at `out`; None if nothing does, or if it points to what is gone."""
    path = Path(out)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_of([[file.relative_to(path).as_posix(), file.stat().st_size] for file in files])
    if not path.is_file():
        return None
    if (num_bytes := path.stat().st_size) > SMALL_BYTES:
        return digest_of(num_bytes)
    content = path.read_bytes()
    return sha256_hex(content) if _is_there(content, store) else None


def _is_there(content: bytes, store: str) -> bool:
    """Whether what a pointer names is there; other files name nothing."""
    try:
        names: Any = json.loads(content)
    except ValueError:
        return True
    if not isinstance(names, dict):
        return True
    if isinstance(checkpoint := names.get("checkpoint"), str) and "weights" in names:
        return Path(checkpoint).is_dir()
    if {"dataset", "version_id"} <= names.keys():
        opened = Store(store)
        return opened.storage.exists(opened.manifest(names["dataset"], names["version_id"]))
    return True


@dataclass(frozen=True)
class Records:
    """Those of one pipeline."""

    folder: Path

    def read(self, stage: str) -> Record | None:
        """None if there is none that can be read: the stage is run again."""
        try:
            values = json.loads((self.folder / f"{stage}.json").read_bytes())
            asked = values.pop("asked")
            return Record(Asked(tuple(asked.pop("run")), **asked), **values)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None

    def write(self, stage: str, record: Record) -> None:
        open_storage(self.folder).write(f"{stage}.json", canonical_json(asdict(record)))


def records_folder(file: Path) -> Path:
    """Where the records of a pipeline's file lie: by its path from the folder of work, so no two share one.

    The ending .yaml is left out; a slash, which no such path ends with, stands for there being none.
    """
    path = Path(os.path.relpath(file)).as_posix()
    named = path.removesuffix(".yaml")
    return FOLDER / quote(f"{path}/" if named == path else named, safe="")


def why_not_done(record: Record | None, asked: Asked, product: str | None) -> str | None:
    """Why a stage has to run; None if it is done."""
    if record is None:
        return "not done yet" if product is None else "nothing says that what is there is what it makes"
    changed = list(_changed(record.asked, asked))
    if changed:
        return ", ".join(changed)
    if product is None:
        return "what it made is gone"
    return None if product == record.product else "what it made has changed"


def _changed(before: Asked, now: Asked) -> Iterator[str]:
    if before.run != now.run:
        yield "its command has changed"
    if before.store != now.store:
        yield "another store"
    yield from (f"{path} has changed" for path in _differing(before.files, now.files))
    yield from (f"{stage} was made anew" for stage in _differing(before.reads, now.reads))


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in now if before.get(name) != now[name]]
