"""Tars as others write them, stores that adopt them where they lie, and what such a store holds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robot_foundry.catalog.manifest import Manifest, ShardEntry, read_manifest
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import adopted_tars, read_place
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.pairs.dataset import PairDataset

ADOPTING = ("content.adopt=true",)
TARS, PAIRS = 3, 5


def picture(seed: int, encoding: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed % 3, 24, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, encoding)
    return sink.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    """A tar as others write it: GNU format, with times and owners."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1.7e9, "someone"
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def samples(number: int) -> dict[str, bytes]:
    """The members of a tar: JPEGs and a PNG under names that are not ours, and texts."""
    members = {}
    for i in range(PAIRS):
        seed, suffix = number * 100 + i, "PNG" if i == 1 else "jpg"
        members[f"IMG {seed}.{suffix}"] = picture(seed, "PNG" if i == 1 else "JPEG")
        members[f"IMG {seed}.json"] = json.dumps({"caption": f"picture {seed}", "seed": seed}).encode()
    return members


def make_source(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(TARS):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "tars")


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that adopted the source in one run without trouble."""
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert (report.written, report.refused, report.noop) == (TARS * PAIRS, (), False)
    return store


def ingest(source: Path | str, store: Path | str, *sets: str, **options: Any) -> Report:
    spec = load_spec("pairs", sets or ADOPTING)
    return run(spec, str(source), store=store, name="photos", options=Options(**options))


def manifest_of(store: Path | str) -> Manifest:
    opened = Store(store)
    return read_manifest(opened, OpenVersions(opened).open("photos").version)


def adopted_in(store: Path | str) -> dict[str, ShardEntry]:
    """The adopted tars of the version by their names in the source."""
    entries = {}
    for entry in adopted_tars(Store(store), manifest_of(store)):
        place = read_place(Store(store), "photos", entry.key)
        assert place is not None
        entries[place.name] = entry
    return entries


def dataset(store: Path | str) -> PairDataset:
    versions = OpenVersions(Store(store))
    return PairDataset(versions, versions.open("photos").version)


def read_all(store: Path | str) -> list[tuple[str, dict[str, str], bytes]]:
    """Id, captions and pixels of all pairs, by their ids."""
    pairs = (dict(pair) for pair in dataset(store))
    return sorted((p["id"], dict(p["captions"]), b"".join(x.tobytes() for x in p["pictures"])) for p in pairs)


def content(store: Path) -> dict[str, bytes]:
    """Bytes of all that a store keeps, not of its cache."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in ("shards", "datasets", "refs", "builds")
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }


def damage_of(store: Path | str, *, deep: bool = False) -> list[tuple[str, str, str]]:
    [found] = validate("photos", store=store, deep=deep)
    return [(finding.check, finding.message, finding.remedy or "") for finding in found.damage]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
