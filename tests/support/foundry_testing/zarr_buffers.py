"""Replay buffers in zarr's format 2 that tests write with json and numcodecs, as folders and as zips.

Legend: N rows of all episodes, H W pixels.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 24, 32
ENDS = (5, 13, 17)
BLOSC = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0}
FPS = "content.fps=10"


def shade(row: int) -> int:
    """What the image of a row shows."""
    return 20 + row * 12


def arrays(ends: Sequence[int] = ENDS) -> dict[str, NDArray[Any]]:
    """Those of Push-T: float32 numbers, and images as float32 of whole numbers from 0 to 255."""
    num_rows, rng = ends[-1], np.random.default_rng(8)
    levels_N = np.array([shade(row) for row in range(num_rows)], np.float32)
    img_NHW3 = np.broadcast_to(levels_N[:, None, None, None], (num_rows, HEIGHT, WIDTH, 3)).copy()
    img_NHW3[:, 0, 0] = (0, 128, 255)
    return {
        "action": rng.normal(size=(num_rows, 2)).astype(np.float32),
        "img": img_NHW3,
        "state": rng.normal(size=(num_rows, 5)).astype(np.float32),
    }


def write_buffer(
    folder: Path,
    data: Mapping[str, NDArray[Any]] | None = None,
    ends: Any = ENDS,
    *,
    rows: int = 4,
    compressor: Mapping[str, Any] | None = BLOSC,
    **more: Any,
) -> dict[str, NDArray[Any]]:
    """The replay buffer of these arrays, cut every so many rows. `more` is as of `write_array`."""
    data = arrays() if data is None else dict(data)
    for group in ("", "data/", "meta/"):
        write_json(folder / f"{group}.zgroup", {"zarr_format": 2})
    for name, values in data.items():
        write_array(folder / "data" / name, values, (rows, *values.shape[1:]), compressor, **more)
    ends_E = np.asarray(ends)
    write_array(folder / "meta/episode_ends", ends_E, ends_E.shape, compressor)
    return data


def write_array(
    folder: Path,
    values: NDArray[Any],
    chunks: Sequence[int],
    compressor: Mapping[str, Any] | None,
    *,
    order: str = "C",
    separator: str = ".",
    **described: Any,
) -> None:
    """One array; chunks at its edges are whole, with zeros behind its end, as zarr writes them."""
    codec = None if compressor is None else numcodecs.get_codec(dict(compressor))
    sides = zip(values.shape, chunks, strict=True)
    for at in product(*(range(-(-side // chunk)) for side, chunk in sides)):
        inside = tuple(slice(n * chunk, (n + 1) * chunk) for n, chunk in zip(at, chunks, strict=True))
        part = values[inside]
        chunk = np.zeros(chunks, values.dtype)
        chunk[tuple(slice(0, side) for side in part.shape)] = part
        raw = chunk.tobytes(order="F" if order == "F" else "C")
        path = folder / separator.join(map(str, at))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw if codec is None else bytes(codec.encode(raw)))
    about = {
        "zarr_format": 2, "shape": list(values.shape), "chunks": list(chunks), "dtype": values.dtype.str,
        "compressor": compressor, "fill_value": 0, "filters": None, "order": order,
        **({} if separator == "." else {"dimension_separator": separator}), **described,
    }  # fmt: skip
    write_json(folder / ".zarray", about)


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def edit(path: Path, **values: Any) -> None:
    """Change entries of a .zarray."""
    write_json(path, json.loads(path.read_text()) | values)


def zipped(folder: Path, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """The folder in a zip, its files at the top, as zarr's own zips have them."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, str(file.relative_to(folder)))
    return path
