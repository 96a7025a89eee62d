"""What an ingest made, read back with tarfile, json, NumPy and pyarrow alone.

Legend: H W pixels.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec.spec_files import load_spec


class Ingested:
    """A version in a fresh store; `members` are those of all its tars by name."""

    def __init__(
        self,
        spec: str | Path,
        source: str | Path,
        store: Path,
        overrides: Sequence[str] = (),
        options: Options | None = None,
    ) -> None:
        self.report = run(
            load_spec(spec, overrides), source, store=store, name="made", options=options or Options()
        )
        assert self.report.version is not None
        self.folder = store / "datasets" / "made" / self.report.version.version_id
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.members: dict[str, bytes] = {}
        for shard in self.manifest["shards"]:
            with tarfile.open(store / "shards" / "made" / f"{shard['key']}.tar") as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None, f"{member.name} is not a file"
                    self.members[member.name] = file.read()
        episodes = self.table("episodes.arrow")
        self.rows = {row["id"]: row for row in episodes}
        self.reasons = {entry["unit"]: entry["reason"] for entry in self.manifest["quarantined"]}

    def table(self, path: str) -> list[dict[str, Any]]:
        return pa.ipc.open_file(self.folder / path).read_all().to_pylist()

    def episode(self, name: str) -> dict[str, Any]:
        return json.loads(self.members[f"{self.rows[name]['key']}.episode.json"])

    def source(self, name: str) -> Mapping[str, NDArray[Any]]:
        return np.load(io.BytesIO(self.members[f"{self.rows[name]['key']}.source.npz"]), allow_pickle=False)

    def images(self, name: str, camera: str) -> list[bytes]:
        """The camera's images in order of frames."""
        start = f"{self.rows[name]['key']}-"
        own = [key for key in sorted(self.members) if key.startswith(start) and f".{camera}." in key]
        return [self.members[key] for key in own]

    def frames(self, name: str) -> list[dict[str, Any]]:
        row = self.rows[name]
        key = self.manifest["shards"][row["shard"]]["key"]
        start = row["row_start"]
        return self.table(f"frames/{key}.arrow")[start : start + row["num_frames"]]

    def column(self, name: str, column: str) -> NDArray[Any]:
        return np.array([row[column] for row in self.frames(name)])

    def dims(self, column: str) -> list[str]:
        """Names of the dims of `state`, or of a stream."""
        schema = self.manifest["schema"]
        return [dim["name"] for dim in (schema["state"] if column == "state" else schema["streams"][column])]

    def instructions(self) -> dict[str, str]:
        ids = {row["key"]: name for name, row in self.rows.items()}
        return {ids[row["key"]]: row["text"] for row in self.table("annotations.arrow")}


def pixels(data: bytes) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] by Pillow."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def jpeg(pixels_HW3: NDArray[np.uint8], quality: int = 90) -> bytes:
    """A JPEG by Pillow, which is not the encoder of the product."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "JPEG", quality=quality)
    return file.getvalue()


def smooth(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """An image that survives JPEG, with every corner and channel different."""
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)
    shade = np.random.default_rng(seed).uniform(0, 60)
    red = 40 + 150 * down[:, None] + 0 * across + shade
    green = 0 * down[:, None] + 30 + 100 * across
    blue = 10 + 60 * down[:, None] * across
    return np.stack([red, green, blue], -1).round().clip(0, 255).astype(np.uint8)
