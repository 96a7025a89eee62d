"""Exported windows, read by WebDataset, are the loader's to the bit, and their images those of the store.

Legend: H history, T horizon, L steps of a sequence, P those before the anchor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from foundry_testing.exported import export, exported, hashes
from foundry_testing.kills import killed
from foundry_testing.loader_fixtures import Written, write_version

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.shards.images import encode_jpeg
from robot_foundry.windows.window import WindowSpec

SIZES = {"primary": (12, 16), "wrist_right": (12, 16)}
ARRAYS = {
    "state": "state_BHD",
    "state_mask": "state_mask_BD",
    "action": "action_BTA",
    "action_dim_mask": "action_dim_mask_BA",
    "step_mask": "step_mask_BT",
}
MIX = "sim=0.7,real=0.3"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(str(tmp_path_factory.mktemp("store")))
    write_version(made, "sim", [[13, 9], [11]], cameras=SIZES)
    write_version(made, "real", [[10]], cameras={"primary": (12, 16)}, joints=3, embodiment="ur5")
    return made


def samples(folder: Path, *, decoded: bool = True) -> list[dict[str, Any]]:
    """The windows of the tars of a folder."""
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    tars = [str(folder / f"{json.loads(line)['shard']}.tar") for line in lines]
    data = webdataset.WebDataset(tars, shardshuffle=False)
    read = list(data.decode("rgb8") if decoded else data)
    assert [json.loads(line)["num_sequences"] for line in lines] == [
        sum(sample["__url__"] == tar for sample in read) for tar in tars
    ]
    return read


def rows_of(store: Store, ref: str, count: int, seed: int = 0, **window: Any) -> dict[int, dict[str, Any]]:
    """What the loader gives at the first positions, by position."""
    spec = WindowSpec(**{"cameras": tuple(SIZES)} | window)
    rows: dict[int, dict[str, Any]] = {}
    with load(ref, spec, seed=seed, global_batch=16, store=store, split="all", threads=0) as loader:
        for b in range(-(-count // 16)):
            batch = loader.batch(b)
            for i, k in enumerate(batch.k_B.tolist()):
                arrays = {name: getattr(batch, field)[i] for name, field in ARRAYS.items()}
                images = {role: pixels[i] for role, pixels in batch.images.items()}
                masks = {role: mask[i] for role, mask in batch.image_mask.items()}
                about = {
                    "instruction": batch.instruction[i],
                    "dt": batch.dt_B[i],
                    "weight": batch.weight_B[i],
                }
                rows[k] = {"arrays": arrays, "images": images, "masks": masks, "about": about}
    return rows


def check_equal(sample: dict[str, Any], row: dict[str, Any]) -> None:
    """A window as WebDataset decodes it is a row of the loader, to the bit."""
    for name, expected in row["arrays"].items():
        assert sample["lowdim.npz"][name].dtype == expected.dtype
        assert sample["lowdim.npz"][name].tobytes() == expected.tobytes(), name
    for role, mask_H in row["masks"].items():
        assert sample["json"]["image_mask"][role] == mask_H.tolist()
        for i, is_there in enumerate(mask_H):
            assert (f"{role}.{i}.jpg" in sample) == is_there
            if is_there:
                assert np.array_equal(sample[f"{role}.{i}.jpg"], row["images"][role][i])
    assert sample["json"]["instruction"] == row["about"]["instruction"]
    assert sample["json"]["instruction"] in [*sample["json"]["instructions"], ""]
    assert [sample["json"][name] for name in ("dt", "weight")] == [
        float(row["about"][name]) for name in ("dt", "weight")
    ]


def test_each_window_once_in_the_order_of_training_is_the_loaders(store: Store, tmp_path: Path) -> None:
    report = exported(store, "sim", "windows", tmp_path / "out", "--seed", "5", "--per-shard", "10")
    read = samples(tmp_path / "out")
    expected = rows_of(store, "sim", 33, seed=5)
    assert len(read) == 33 == report["counts"]["windows"]
    for k, sample in enumerate(read):
        assert sample["__key__"] == f"{k:09d}" and sample["json"]["k"] == k
        check_equal(sample, expected[k])
    frames = {(sample["json"]["episode"], sample["json"]["frame"]) for sample in read}
    assert len(frames) == 33


def test_the_first_samples_of_a_mixture_are_drawn_by_its_weights(store: Store, tmp_path: Path) -> None:
    window = ["--representation", "relative_base", "--horizon", "0.3s", "--history", "3", "--mask", "noop"]
    exported(store, MIX, "windows", tmp_path / "out", "--samples", "50", "--seed", "2", *window)
    options = {"representation": "relative_base", "horizon": "0.3s", "history": 3, "flags": {"noop": "mask"}}
    expected = rows_of(store, MIX, 50, seed=2, **options)
    read = samples(tmp_path / "out")
    assert len(read) == 50
    for k, sample in enumerate(read):
        check_equal(sample, expected[k])
    told = json.loads((tmp_path / "out" / "windows.json").read_text())
    drawn = [sum(sample["json"]["dataset"] == name for sample in read) for name in ("sim", "real")]
    assert drawn == [35, 15]
    assert {c["name"]: c["weight"] for c in told["components"]} == {"sim": "7/10", "real": "3/10"}
    assert len(told["state"]) == read[0]["lowdim.npz"]["state"].shape[1] == 13


def test_components_of_a_mixture_go_out_by_themselves_over_the_union(store: Store, tmp_path: Path) -> None:
    exported(store, MIX, "windows", tmp_path / "out")
    sim, real = (samples(tmp_path / "out" / name) for name in ("sim", "real"))
    assert (len(sim), len(real)) == (33, 10)
    names = [dim["name"] for dim in json.loads((tmp_path / "out" / "windows.json").read_text())["state"]]
    joints = [name.startswith("ur5:") for name in names]
    assert sum(joints) == 3
    assert all(not sample["lowdim.npz"]["state"][:, joints].any() for sample in sim)
    assert all(sample["json"]["image_mask"]["wrist_right"] == [False, False] for sample in real)


def written_images(store: Store) -> Written:
    return write_version(store, "again", [[13, 9], [11]], cameras=SIZES)


def test_stored_images_pass_through_and_others_are_encoded_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    by_key = {episode.key: episode for episode in written_images(store).episodes}
    report = exported(store, "again", "windows", tmp_path / "plain")
    assert report["images"]["new_images"] == 0 and report["versions"] == {}
    for sample in samples(tmp_path / "plain", decoded=False):
        about = json.loads(sample["json"])
        frames = [max(0, about["frame"] - 1), about["frame"]]
        for i, frame in enumerate(frames):
            stored = by_key[about["episode"]].images["primary"][frame]
            assert sample.get(f"primary.{i}.jpg") == stored
    small = exported(store, "again", "windows", tmp_path / "small", "--image", "8x8", "--quality", "90")
    assert small["images"]["new_images"] == small["images"]["images"] > 0 and small["versions"]
    expected = rows_of(store, "again", 33, image=(8, 8))
    for k, sample in enumerate(samples(tmp_path / "small", decoded=False)):
        is_there = expected[k]["masks"]["primary"][1]
        pixels = expected[k]["images"]["primary"][1]
        assert sample.get("primary.1.jpg") == (encode_jpeg(pixels, 90) if is_there else None)


def test_every_nth_frame_and_splits_and_conditions(store: Store, tmp_path: Path) -> None:
    exported(store, "sim", "windows", tmp_path / "third", "--every", "3")
    frames = sorted((s["json"]["episode"], s["json"]["frame"]) for s in samples(tmp_path / "third"))
    lengths = {"ep00-sim": 13, "ep01-sim": 9, "ep10-sim": 11}
    assert frames == [(key, frame) for key, length in lengths.items() for frame in range(0, length, 3)]
    exported(store, "sim", "windows", tmp_path / "one", "--where", "num_frames = 9")
    assert {s["json"]["episode"] for s in samples(tmp_path / "one")} == {"ep01-sim"}
    split = [len(exported_split(store, tmp_path, split)) for split in ("train", "val")]
    assert sum(split) == 33 and min(split) > 0


def exported_split(store: Store, folder: Path, split: str) -> list[dict[str, Any]]:
    exported(store, "sim", "windows", folder / split, "--split", split, "--val-fraction", "1/2")
    return samples(folder / split)


PROGRAM = """
import sys
from pathlib import Path
from foundry_testing.exported import exported
from robot_foundry.catalog.store import Store
exported(Store(sys.argv[1]), "sim", "windows", Path(sys.argv[2]), *sys.argv[3:])
"""


@pytest.mark.parametrize("at", ["export_partial:2", "export_renamed:3", "export_recorded:4"])
def test_a_killed_export_goes_on_to_the_same_bytes(store: Store, tmp_path: Path, at: str) -> None:
    options = ("--per-shard", "10", "--layout", "foundry-vla", "--image", "8x8")
    exported(store, "sim", "windows", tmp_path / "whole", *options)
    killed(PROGRAM, store.url, tmp_path / "cut", *options, at=at)
    assert not (tmp_path / "cut" / "windows.json").exists()
    report = exported(store, "sim", "windows", tmp_path / "cut", *options)
    assert report["reused"] >= 1
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_a_folder_of_another_export_is_left_alone(store: Store, tmp_path: Path) -> None:
    exported(store, "sim", "windows", tmp_path / "out", "--every", "4")
    before = hashes(tmp_path / "out")
    code, _, noted = export(store, "sim", "windows", tmp_path / "out", "--every", "4", "--seed", "1")
    assert code == 2 and "its seed is not that of this one" in noted
    assert hashes(tmp_path / "out") == before


def test_a_dry_run_tells_how_much_it_becomes(store: Store, tmp_path: Path) -> None:
    guess = exported(store, "sim", "windows", tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists()
    report = exported(store, "sim", "windows", tmp_path / "out")
    assert guess["counts"] == report["counts"] and guess["files"] == report["files"]
    assert guess["bytes"] == pytest.approx(report["bytes"], rel=0.1)
    assert report["times_source"] == report["bytes"] / report["source_bytes"] > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layout", "foundry-vla", "--representation", "delta"], "deltas are not"),
        (["--layout", "v3.0"], "is none of --to windows"),
        (["--every", "0", "--image", "8", "--mask", "nop"], "did you mean 'noop'"),
        (["--every", "0", "--image", "8", "--mask", "nop"], "--every 0 is below 1; --image '8'"),
        (["--camera", "primry"], "no dataset has a camera with the role 'primry', did you mean 'primary'"),
        (["--image", "0x0"], "image (0, 0) is not (height, width)"),
        (["--stream", "next_stat"], "next_state"),
        (["--horizon", "long"], "neither steps"),
        (["--codec", "av1"], "is of --to lerobot"),
    ],
)
def test_what_cannot_be_asked_is_refused(store: Store, tmp_path: Path, options: list[str], said: str) -> None:
    code, _, noted = export(store, "sim", "windows", tmp_path / "out", *options)
    assert code == 2 and said in noted and "Traceback" not in noted
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "then"),
    [
        ("lerobot", "Next: `foundry-data ingest lerobot {} --as NAME` reads it again"),
        ("windows", "Next: a trainer reads the tars of {}"),
        ("parquet", "Next: pandas, polars and DuckDB read {}"),
    ],
)
def test_an_export_says_what_one_does_with_it(store: Store, tmp_path: Path, to: str, then: str) -> None:
    options = ["--images"] if to == "lerobot" else ["--every", "4"] if to == "windows" else []
    code, _, noted = export(store, "sim", to, tmp_path / "out", *options, "--dry-run")
    assert code == 0 and "Next:" not in noted
    code, _, noted = export(store, "sim", to, tmp_path / "out", *options)
    assert code == 0 and then.format(tmp_path / "out") in noted


def test_a_damaged_image_stops_the_export_and_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    written_images(store)
    [tar, *_] = sorted((tmp_path / "store").rglob("*.tar"))
    data = bytearray(tar.read_bytes())
    at = data.index(b"-000004.primary_camera.jpg")
    data[at // 512 * 512 + 512 + 200] ^= 0xFF
    tar.write_bytes(bytes(data))
    code, _, noted = export(store, "again", "windows", tmp_path / "out")
    assert code == 1 and "000004.primary_camera.jpg" in noted and "validate again" in noted
    assert not (tmp_path / "out" / "windows.json").exists()


def test_images_that_are_not_of_their_cameras_size_are_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))

    def odd(rng: np.random.Generator, height: int, width: int) -> bytes:
        grown = int(rng.integers(2))
        return encode_jpeg(rng.integers(0, 256, (height + grown, width, 3), np.uint8))

    write_version(store, "odd", [[9]], cameras={"primary": (12, 16)}, encode=odd, flaws=False)
    report = exported(store, "odd", "windows", tmp_path / "out")
    assert 0 < report["images"]["new_images"] < report["images"]["images"] == 18
    assert "simplejpeg" in report["versions"]
    told = json.loads((tmp_path / "out" / "windows.json").read_text())
    assert told["encoders"] == report["versions"] and told["counts"] == report["images"]
    expected = rows_of(store, "odd", 9, cameras=("primary",))
    for k, sample in enumerate(samples(tmp_path / "out")):
        assert sample["primary.1.jpg"].shape == expected[k]["images"]["primary"][1].shape
