"""LeRobot writes, we read; we export, LeRobot reads: every item is compared.

    python examples/interop/run.py LEROBOT_PYTHON [REF …] [--folder FOLDER]

LEROBOT_PYTHON is the python of an environment with LeRobot (requirements.txt beside this file). Without REF
the dataset that LeRobot wrote is what is exported; with it versions of the store are, too. Exit code 1 where
anything differs beyond what is said of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import robot_foundry

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
# Mean absolute difference of 8-bit levels. LeRobot's video, decoded and encoded as JPEG once more, and ours.
LEVELS = {"LeRobot's video as ingested": 4.0, "images": 0.0, "video": 6.0}


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def of_lerobot(python: str, *arguments: str | Path) -> str:
    """What its environment does; its libraries talk on stderr, which is left out."""
    command = [python, str(HERE / "lerobot_side.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nLeRobot's side ended with {done.returncode}")
    return done.stdout.strip()


def items_of(folder: Path, python: str, into: Path) -> dict[str, NDArray[Any]]:
    print(of_lerobot(python, "read", folder, into))
    with np.load(into, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def names_in(folder: Path, key: str) -> list[str]:
    info = json.loads((folder / "meta/info.json").read_text("utf-8"))
    return [str(name) for name in info["features"][key]["names"]]


def episodes_of(dataset: Any, folder: Path) -> list[Any]:
    """The episodes as the folder has them: an export has the held-out ones last, and says which are which."""
    keys = dataset.episodes()["key"].to_pylist()
    table = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet")
    order = table["source_key"].to_pylist() if "source_key" in table.column_names else keys
    return [dataset.episode(key) for key in order]


def differences(
    ref: str, store: Path | None, items: dict[str, NDArray[Any]], folder: Path, how: str, named: str = ""
) -> Iterator[str]:
    """What is not as in LeRobot's items; `named` is what its names of dims lack in front."""
    dataset = robot_foundry.open(ref, store)
    episodes = episodes_of(dataset, folder)
    frames = [frame for episode in episodes for frame in episode]
    if len(frames) != len(items["index"]):
        yield f"{len(frames)} frames here, {len(items['index'])} there"
        return
    (stream, *_) = [s for s in dataset.schema.streams if f"action.{s}" in frames[0]]
    for key, ours, space in (
        ("observation.state", "state", dataset.space()),
        ("action", f"action.{stream}", dataset.space(stream)),
    ):
        at = [space.names.index(f"{named}{name}") for name in names_in(folder, key)]
        here = np.stack([frame[ours][at] for frame in frames])
        if here.tobytes() != items[key].reshape(here.shape).tobytes():
            yield f"'{key}' is not equal to the bit"
    for camera in dataset.schema.cameras:
        ends = (f".{camera.role}", f".{camera.name}")
        key = next(k for k in items if k.startswith("observation.image") and k.endswith(ends))
        here = np.stack([frame[f"image.{camera.role}"] for frame in frames]).astype(np.int16)
        levels = float(np.abs(here - items[key].astype(np.int16)).mean())
        print(f"  {key}: {levels:.2f} levels apart on average ({how}; at most {LEVELS[how]})")
        if levels > LEVELS[how]:
            yield f"'{key}' is {levels:.2f} levels apart"
    said = [text for episode in episodes for text in tasks(episode)]
    if "task" in items and said != items["task"].tolist():
        yield "the instructions differ"


def tasks(episode: Any) -> list[str]:
    """The instruction of each frame, or no text."""
    texts = [""] * len(episode)
    for span in episode.annotations:
        if span["kind"] in ("instruction", "task"):
            texts[span["start"] : span["end"]] = [span["text"]] * (span["end"] - span["start"])
    return texts


def exported(ref: str, store: Path | None, folder: Path, python: str) -> Iterator[str]:
    """What is not equal in exports of a version, as videos and as images."""
    where = [] if store is None else ["--store", store]
    for how, flags in (("video", []), ("images", ["--images"])):
        out = folder / f"{ref}-{how}"
        run(BIN / "foundry-data", "export", ref, "--to", "lerobot", "--out", out, *flags, *where)
        items = items_of(out, python, folder / "items.npz")
        yield from (f"{ref}, {how}: {told}" for told in differences(ref, store, items, out, how))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("refs", nargs="*")
    parser.add_argument("--folder", type=Path, help="keep what is made here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        store, moving = folder / "store", folder / "moving"
        of_lerobot(asked.python, "write", moving)
        run(BIN / "foundry-data", "ingest", "lerobot", moving, "--as", "moving", "--store", store)
        items = items_of(moving, asked.python, folder / "items.npz")
        how = "LeRobot's video as ingested"
        told = [f"moving: {t}" for t in differences("moving", store, items, moving, how, "robot.value.")]
        told += exported("moving", store, folder, asked.python)
        for ref in asked.refs:
            told += exported(ref, None, folder, asked.python)
    print("\n".join(told) if told else "all items are equal")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
