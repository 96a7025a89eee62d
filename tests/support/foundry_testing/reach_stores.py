"""Stores of a small dataset, ways to damage them and what validate finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from make_robomimic import make

from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.checks.finding import Finding
from robot_foundry.ingest import ingest
from robot_foundry.shards.index import read_index


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of two files, so two shards, and a store with reach@v1."""
    folder = tmp_path_factory.mktemp("reach")
    (folder / "source").mkdir()
    for i in range(2):
        make(folder / "source" / f"part_{i}.hdf5", seed=i, episodes=2, frames=40, size=16)
    ingest("robomimic", folder / "source", store=folder / "store", name="reach")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "store", tmp_path / "store")


def found(store: Path, ref: str = "reach", **how: Any) -> list[Finding]:
    return [finding for one in validate(ref, store=store, **how) for finding in one.findings]


def checks(store: Path, **how: Any) -> list[str]:
    return sorted({finding.check for finding in found(store, **how)})


def tar_of(store: Path, number: int = 0) -> Path:
    return sorted((store / "shards" / "reach").glob("*.tar"))[number]


def member(tar: Path, suffix: str) -> dict[str, Any]:
    index = read_index(Store(tar.parent).storage, tar.name.replace(".tar", ".index.arrow"))
    return next(row for row in index.to_pylist() if row["name"].endswith(suffix))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def folder_of(store: Path) -> Path:
    return store / "datasets" / "reach" / resolve(Store(store), "reach").version_id
