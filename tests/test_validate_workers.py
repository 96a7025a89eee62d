"""Workers change nothing of what validate finds and ingest warns of."""

from __future__ import annotations

import shutil
from dataclasses import replace

import h5py
from foundry_testing import reach_stores
from foundry_testing.reach_stores import flip, folder_of, found, member, tar_of

from robot_foundry.catalog.manifest import Manifest, read_manifest
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options, run

# Fixtures.
made, store = reach_stores.made, reach_stores.store


def test_workers_find_the_same(store, ray_workers):
    flip(tar_of(store), member(tar_of(store), ".jpg")["offset"] + 200)
    assert found(store, deep=True, workers=ray_workers) == found(store, deep=True)


def test_ingest_warns_of_what_validate_finds_whatever_the_workers(made, tmp_path, ray_workers):
    shutil.copytree(made / "source", tmp_path / "source")
    for path in (tmp_path / "source").iterdir():
        with h5py.File(path, "r+") as file:
            for demo in file["data"].values():
                demo["actions"][:, 6] *= -1
                demo["obs/robot0_eef_pos"][:] *= 1000
    manifests = []
    for workers in (0, ray_workers):
        store = tmp_path / f"store{workers}"
        report = run("robomimic", tmp_path / "source", store=store, name="reach", options=Options(workers))
        assert any("goes against the opening" in warning for warning in report.warnings)
        assert any("millimetres for metres" in warning for warning in report.warnings)
        again = run("robomimic", tmp_path / "source", store=store, name="reach")
        assert again.noop and again.warnings == report.warnings
        kept = read_manifest(Store(store), report.version).provenance["checks"]
        assert [entry["check"] for entry in kept["findings"]] == [f.check for f in found(store)]
        manifests.append((folder_of(store) / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    manifest = Manifest.from_json(manifests[0])
    assert replace(manifest, provenance={}).version_id == manifest.version_id
