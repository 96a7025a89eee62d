"""foundry-data index TAR…: make the index of tars that others wrote, or that lost theirs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import dry_run_option, json_option, workers_option
from robot_foundry.cli.output import emit, table
from robot_foundry.runtime.errors import FindingsError, UsageError
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.storage import open_storage

if TYPE_CHECKING:
    from robot_foundry.shards.adopt import TarTask


@click.command("index")
@click.argument("tars", nargs=-1, required=True, metavar="TAR|FOLDER...")
@workers_option
@dry_run_option
@json_option
def command(tars: tuple[str, ...], workers: int, dry_run: bool, as_json: bool) -> None:
    """Put NAME.index.arrow beside each NAME.tar, so that members are read without a scan.

    Any WebDataset tar will do; of a folder, all tars below it. The tars are read and left as they are; what
    cannot be indexed (compressed, cut off, with folders or links) is named, and the exit code is then 3.
    `foundry-data ingest pairs` with content.adopt makes a version of tars where they lie, by these indexes.
    """
    from robot_foundry.runtime.parallel import unordered_map
    from robot_foundry.shards.adopt import index_beside

    tasks = [task for tar in tars for task in _tasks(tar, dry_run)]
    results = {}
    with Progress(len(tasks), "tars", "index") as progress:
        for number, indexed in unordered_map(index_beside, tasks, workers=workers):
            results[number] = indexed
            progress.advance(1, bytes=indexed.num_bytes, errors=indexed.status == "refused")
    rows = [(f"{task.storage.url}/{task.path}", results[n]) for n, task in enumerate(tasks)]
    emit(
        {"dry_run": dry_run, "tars": [asdict(indexed) | {"path": path} for path, indexed in rows]},
        as_json=as_json,
        text=lambda: table(
            ("tar", "index", "members", "bytes"),
            [
                (path, indexed.reason or indexed.status, indexed.members, indexed.num_bytes)
                for path, indexed in rows
            ],
        ),
    )
    refused = sum(indexed.status == "refused" for _, indexed in rows)
    if refused:
        raise FindingsError(f"{refused} of {len(rows)} tars cannot be indexed")


def _tasks(place: str, dry_run: bool) -> list[TarTask]:
    from robot_foundry.shards.adopt import TAR_END, TarTask

    if place.endswith(TAR_END):
        folder, _, name = (place if "://" in place else str(Path(place).absolute())).rpartition("/")
        storage, paths = open_storage(folder or "/"), [name]
        missing = not storage.exists(name)
    else:
        storage = open_storage(place)
        paths = [path for path in storage.list() if path.endswith(TAR_END)]
        missing = not paths
    if missing:
        raise UsageError(f"there is no tar at {place}", hint="name a .tar file, or a folder that holds some")
    return [TarTask(storage, path, dry_run) for path in paths]
