"""foundry-data index: foreign tars are indexed where they lie, locally and remotely."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run
from robot_foundry.runtime.storage.storage import Storage, open_storage
from robot_foundry.shards.adopt import TarTask, index_beside
from robot_foundry.shards.index import read_index
from robot_foundry.shards.reader import ShardReader

MEMBERS = {"IMG 2.jpg": b"2" * 700, "IMG 2.cls": b"7", "a.jpg": b""}


def foreign(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    found = open_storage(tmp_path if request.param == "local" else f"memory://adopt-{tmp_path.name}")
    found.write("deep/x.tar", foreign(MEMBERS))
    return found


def test_an_adopted_tar_is_read_by_name(storage: Storage) -> None:
    before = storage.read_bytes("deep/x.tar")
    found = index_beside(TarTask(storage, "deep/x.tar", dry_run=False))
    assert (found.status, found.members, found.num_bytes) == ("made", 3, len(before))
    assert storage.read_bytes("deep/x.tar") == before
    reader = ShardReader(storage, "deep/x.tar", read_index(storage, "deep/x.index.arrow"))
    assert {reader.name(row): reader.read(row) for row in range(len(reader))} == MEMBERS


def test_an_index_is_replaced_only_if_it_differs(storage: Storage) -> None:
    def status(dry_run: bool = False) -> str:
        return index_beside(TarTask(storage, "deep/x.tar", dry_run)).status

    assert (status(dry_run=True), storage.exists("deep/x.index.arrow")) == ("made", False)
    assert (status(), status()) == ("made", "unchanged")
    storage.write("deep/x.tar", foreign(MEMBERS | {"a.jpg": b"changed"}))
    assert (status(dry_run=True), status(), status()) == ("replaced", "replaced", "unchanged")
    storage.write("deep/x.index.arrow", b"damaged")
    assert (status(), status()) == ("replaced", "unchanged")


def test_the_command_indexes_a_folder_and_names_what_it_cannot(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.tar").write_bytes(foreign(MEMBERS))
    (tmp_path / "b.tar").write_bytes(foreign(MEMBERS)[:600])
    assert run(foundry_data.group, "foundry-data", ["index", str(tmp_path), "--json"]) == 3
    shown = capsys.readouterr()
    made, refused = json.loads(shown.out)["tars"]
    assert made == {
        "path": str(tmp_path / "a.tar"), "status": "made", "members": 3, "num_bytes": 10240, "reason": None,
    }  # fmt: skip
    assert refused["status"] == "refused" and "cut off" in refused["reason"]
    assert "1 of 2 tars cannot be indexed" in shown.err
    assert (tmp_path / "a.index.arrow").exists() and not (tmp_path / "b.index.arrow").exists()


def test_the_command_takes_one_tar_and_refuses_a_missing_one(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "a.tar").write_bytes(foreign(MEMBERS))
    monkeypatch.chdir(tmp_path)
    assert run(foundry_data.group, "foundry-data", ["index", "a.tar"]) == 0
    assert "made" in capsys.readouterr().out
    for missing in ("b.tar", "none"):
        assert run(foundry_data.group, "foundry-data", ["index", missing]) == 2
        assert f"there is no tar at {missing}" in capsys.readouterr().err
