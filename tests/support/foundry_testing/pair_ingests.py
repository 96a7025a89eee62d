"""Sources of pairs as WebDataset has them, versions made of them, and what these hold, read back without us.

Legend: H × W pixels.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec

DATASET = "photos"
# So small that a few pairs make several shards.
SMALL = ("content.unit_bytes=4000", "content.shard_bytes=6000")


@dataclass(frozen=True)
class Sample:
    """A sample of a tar: pictures by their endings, a text, and its JSON or what that says; None for none."""

    name: str
    pictures: Mapping[str, bytes]
    text: str | None = None
    told: Mapping[str, Any] | str | None = None

    @property
    def members(self) -> dict[str, bytes]:
        made = {f"{self.name}.{ending}": data for ending, data in self.pictures.items()}
        if self.text is not None:
            made[f"{self.name}.txt"] = self.text.encode()
        if self.told is not None:
            text = self.told if isinstance(self.told, str) else json.dumps(self.told)
            made[f"{self.name}.json"] = text.encode()
        return made


def picture(seed: int, size: tuple[int, int] = (24, 32), name: str = "JPEG", **options: Any) -> bytes:
    """A smooth picture of H × W, encoded by Pillow."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    sink = io.BytesIO()
    made = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    made.save(sink, name, **options)
    return sink.getvalue()


def some_samples(count: int, first: int = 0) -> list[Sample]:
    """Pairs with one picture, a caption and metadata, no two alike."""
    endings = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
    made = []
    for number in range(first, first + count):
        ending, name = endings[number % 3]
        told = {"caption": f"thing {number}", "language": ("en", "de")[number % 2], "score": number / 8}
        made.append(Sample(f"{number:05d}", {ending: picture(number, name=name)}, told=told))
    return made


def write_tar(path: Path, samples: Iterable[Sample]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            for name, data in sample.members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def ingest(source: Path | str, store: Path | str, *overrides: str, **options: Any) -> Report:
    """A version of pairs, in small shards."""
    spec = load_spec("pairs", [*SMALL, *overrides])
    return run(spec, str(source), store=str(store), name=DATASET, options=Options(**options))


@dataclass(frozen=True)
class Stored:
    """A pair as the tars of a version have it: what its JSON says, its pictures' bytes, and its file."""

    key: str
    said: Mapping[str, Any]
    pictures: tuple[bytes, ...]
    file: str

    @property
    def id(self) -> str:
        return str(self.said["id"])


def manifest_of(store: Path, report: Report) -> dict[str, Any]:
    assert report.version is not None
    path = store / "datasets" / DATASET / report.version.version_id / "manifest.json"
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def stored(store: Path, report: Report) -> list[Stored]:
    """Every pair of a version, in the order of its shards; adopted tars are read where they lie."""
    found = []
    for shard in manifest_of(store, report)["shards"]:
        if shard["num_pairs"]:
            found += _of_shard(store / "shards" / DATASET, shard["key"])
    return found


def _of_shard(folder: Path, key: str) -> list[Stored]:
    members = _members(folder / f"{key}.tar")
    heads = {name.split(".")[0]: json.loads(data) for name, data in members.items() if ".block." in name}
    found = []
    for name in sorted(name for name in members if name.endswith(".json") and ".block." not in name):
        own, said = name.split(".")[0], json.loads(members[name])
        pictures = tuple(_picture(folder, members, entry) for entry in said["pictures"])
        assert [len(data) for data in pictures] == [entry["num_bytes"] for entry in said["pictures"]]
        found.append(Stored(own, said, pictures, heads[own.rpartition("-")[0]]["file"]))
    return found


def _picture(folder: Path, members: Mapping[str, bytes], entry: Mapping[str, Any]) -> bytes:
    if entry["tar"] is None:
        return members[entry["member"]]
    place = json.loads((folder / f"{entry['tar']}.place.json").read_text())
    return _members(Path(place["url"].removeprefix("file://")))[entry["member"]]


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
