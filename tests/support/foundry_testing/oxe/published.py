"""TFDS directories of the features that datasets publish (features.yaml), with numbers of one's own.

Legend: T steps.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation
from tensorflow_datasets.core import features as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from foundry_testing.rlds_directories import framed
from robot_foundry.ingest.spec.yaml_text import parse_yaml

T = 6
STEPS = {"is_first": "b", "is_last": "b", "is_terminal": "b", "reward": "f"}
TEXT = {"language_instruction": "s", "language_embedding": "f 512", "discount": "f"}
OLD = {
    "observation/natural_language_instruction": "s",
    "observation/natural_language_embedding": "f 512",
}
LIKE = {
    "bare": (STEPS, {}),
    "old": (STEPS | OLD, {}),
    "new": (STEPS | TEXT, {"episode_metadata/file_path": "s"}),
}
DTYPES = {
    "f": np.float32, "d": np.float64, "h": np.float16, "i": np.int32, "l": np.int64, "u": np.uint8,
    "b": np.bool_, "z": np.float32,
}  # fmt: skip
# Of images: the channels, the type and the format of the file.
IMAGES = {
    "jpeg": (3, np.uint8, "jpeg"), "png": (3, np.uint8, "png"), "jpeg1": (1, np.uint8, "jpeg"),
    "png1": (1, np.uint8, "png"), "png16": (1, np.uint16, "png"), "depth": (1, np.float32, "png"),
}  # fmt: skip
# Where a rotation must be one: matrices of 4 x 4 from that column, row by row or column by column.
POSES = {
    "viola": ("observation/ee_states", 0, "columns"),
    "austin_buds_dataset_converted_externally_to_rlds": ("observation/state", 8, "columns"),
    "austin_sailor_dataset_converted_externally_to_rlds": ("observation/state_ee", 0, "columns"),
    "austin_sirius_dataset_converted_externally_to_rlds": ("observation/state_ee", 0, "columns"),
    "utaustin_mutex": ("observation/state", 8, "columns"),
    "uiuc_d3field": ("observation/state", 0, "rows"),
}
MODES = {"action_mode": (-1.0, 0.0, 1.0, 1.0, 0.0, -1.0)}
CODE_POINTS = {"observation/instruction": "push the blüe moon 🌙"}

Episode = dict[str, NDArray[Any]]


@cache
def published() -> dict[str, Any]:
    return parse_yaml((Path(__file__).parent / "features.yaml").read_text("utf-8"), "features.yaml")


def instruction(name: str) -> str:
    return CODE_POINTS["observation/instruction"] if name == "language_table" else f"do {name}"


def features_of(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of a step and of the episode: what each feature is, by path."""
    return features_in(published()[name])


def features_in(entry: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """As `features_of`, of an entry written as those of features.yaml."""
    steps, episode = (dict(part) for part in LIKE[entry["like"]])
    for without in entry.get("without", ()):
        del steps[without]
    action = entry["action"]
    steps |= {"action": action} if isinstance(action, str) else _under("action", action)
    steps |= _under("observation", entry["observation"]) | entry.get("step", {})
    return steps, episode | entry.get("episode", {})


def _under(parent: str, features: dict[str, str]) -> dict[str, str]:
    return {f"{parent}/{path}": kind for path, kind in features.items()}


def write(name: str, root: Path) -> Episode:
    """A folder with one episode; the numbers of its steps by path, as an Example holds them."""
    steps, episode = features_of(name)
    rng = np.random.default_rng(len(name))
    values = {path: _values(name, path, kind, rng) for path, kind in steps.items()}
    of_episode = {path: _values(name, path, kind, rng)[0] for path, kind in episode.items()}
    written = tfds.FeaturesDict(
        {"steps": tfds.Dataset(_nested(steps, _written)), **_nested(episode, _written)}
    )
    rows = [_nested({path: rows[t] for path, rows in values.items()}) for t in range(T)]
    serializer = ExampleSerializer(written.get_serialized_info())
    example = written.encode_example({"steps": rows, **_nested(of_episode)})
    write_folder(name, root, steps, episode, [serializer.serialize_example(example)])
    return {path: np.array(rows) for path, rows in values.items() if steps[path].split()[0] in DTYPES}


def write_folder(
    name: str,
    root: Path,
    steps: Mapping[str, str],
    episode: Mapping[str, str],
    records: Sequence[bytes],
) -> None:
    """A folder of the features of steps and episodes, with these records in one file."""
    features = tfds.FeaturesDict(
        {"steps": tfds.Dataset(_nested(steps, _feature)), **_nested(episode, _feature)}
    )
    folder = root / name / "0.1.0"
    folder.mkdir(parents=True)
    (folder / f"{name}-train.tfrecord-00000-of-00001").write_bytes(b"".join(map(framed, records)))
    (folder / "features.json").write_text(json.dumps(json_format.MessageToDict(features.to_proto())))
    split = {"name": "train", "numBytes": "1", "shardLengths": [str(len(records))]}
    info = {"name": name, "version": "0.1.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _nested(features: Mapping[str, Any], made: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """Paths as dictionaries; below action and observation names may hold a slash themselves."""
    nested: dict[str, Any] = {}
    for path, value in features.items():
        first, _, rest = path.partition("/")
        if rest:
            nested.setdefault(first, {})[rest] = made(value)
        else:
            nested[first] = made(value)
    return nested


def _feature(kind: str) -> Any:
    word, *shape = kind.split()
    if word == "s":
        return tfds.Text()
    if word in IMAGES:
        channels, dtype, encoding = IMAGES[word]
        return tfds.Image(shape=(*map(int, shape), channels), dtype=dtype, encoding_format=encoding)
    encoding = "zlib" if word == "z" else "none"
    return tfds.Tensor(shape=tuple(map(int, shape)), dtype=DTYPES[word], encoding=encoding)


def _written(kind: str) -> Any:
    """As an Example is written: TFDS needs TensorFlow for images of floats, which are files of four bytes."""
    word, *shape = kind.split()
    if word == "depth":
        return tfds.Image(shape=(*map(int, shape), 4), dtype=np.uint8, encoding_format="png")
    return _feature(kind)


def _values(name: str, path: str, kind: str, rng: np.random.Generator) -> Any:
    """T values of a feature."""
    word, *sizes = kind.split()
    if word == "s":
        return [instruction(name) if "instruction" in path else "/somewhere"] * T
    if word in IMAGES:
        return [_image(word, *map(int, sizes))] * T
    shape = (T, *map(int, sizes))
    if path in CODE_POINTS:
        codes = [ord(letter) for letter in CODE_POINTS[path]]
        return np.array([codes + [0] * (shape[1] - len(codes))] * T, np.int32)
    if path in MODES:
        return np.array(MODES[path], np.float32)[:, None]
    if word in "bilu":
        return rng.integers(0, 2, shape).astype(DTYPES[word])
    values: np.ndarray[Any, Any] = rng.uniform(-0.9, 0.9, shape).astype(DTYPES[word])
    at = POSES.get(name)
    if at is not None and at[0] == path:
        flat = values.reshape(T, -1)
        poses = np.tile(np.eye(4), (T, 1, 1))
        poses[:, :3, :3] = Rotation.random(T, random_state=len(name)).as_matrix()
        poses[:, :3, 3] = rng.uniform(-0.5, 0.5, (T, 3))
        poses = poses if at[2] == "rows" else poses.transpose(0, 2, 1)
        flat[:, at[1] : at[1] + 16] = poses.reshape(T, 16)
    return values


@cache
def _image(word: str, height: int, width: int) -> bytes:
    channels, dtype, encoding = IMAGES[word]
    if dtype == np.uint16:
        image = Image.fromarray(np.full((height, width), 700, np.uint16))
    elif dtype == np.float32:  # the four bytes of a float are the channels of the file
        image = Image.fromarray(np.full((height, width, 4), 64, np.uint8), "RGBA")
    else:
        image = Image.new("RGB" if channels == 3 else "L", (width, height), 90)
    sink = io.BytesIO()
    image.save(sink, encoding)
    return sink.getvalue()
