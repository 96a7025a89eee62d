"""TFDS directories that tests write, with any features and files of records.

Examples are serialised by tensorflow-datasets (without TensorFlow); the framing of records is written here.
Legend: T steps.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from PIL import Image
from tensorflow_datasets.core import features as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import SourceFile
from robot_foundry.ingest.sources.rlds.rlds import Rlds
from robot_foundry.ingest.sources.robot.source_episode import Picture, SourceEpisode
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files

SPEC = """
layout: rlds
mapping:
  embodiment: arm
  cameras: {image: primary}
  instruction: [{spans: steps/language_instruction}]
  success: [{attr: episode_metadata/good}]
  state:
    right.ee_position: {key: steps/observation/state}
  actions:
    command:
      right.ee_position: {key: steps/action}
"""

# An episode, and its frames.
Opened = tuple[SourceEpisode, list[Sequence[Picture]]]


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked(length)) + record + struct.pack("<I", masked(record))


def encoded(picture: NDArray[Any], encoding: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, encoding)
    return sink.getvalue()


def picture(seed: int, height: int = 8, width: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


Features = dict[str, Any]  # a feature, a dtype or more of them, by name
STEP: Features = {
    "observation": {
        "state": tfds.Tensor(shape=(3,), dtype=np.float64),
        "image": tfds.Image(shape=(8, 12, 3), encoding_format="jpeg"),
    },
    "action": tfds.Tensor(shape=(3,), dtype=np.float32),
    "is_first": np.bool_,
    "reward": np.float32,
    "language_instruction": tfds.Text(),
}


def step(t: int, num_steps: int, seed: int = 0) -> dict[str, Any]:
    return {
        "observation": {
            "state": np.array([t, seed, 0.5]),
            "image": encoded(picture(100 * seed + t), "jpeg"),
        },
        "action": np.array([t + 1, seed, 0.5], np.float32),
        "is_first": t == 0,
        "reward": float(t == num_steps - 1),
        "language_instruction": "reach" if t < num_steps // 2 else "lift it",
    }


def example_of(lists: Mapping[str, Sequence[Any]]) -> bytes:
    """A tf.train.Example of lists of floats, integers or byte strings by name."""
    features = {}
    for name, values in lists.items():
        if isinstance(values[0], bytes):
            kind = {"bytes_list": tf_feature_pb2.BytesList(value=values)}
        elif isinstance(values[0], float):
            kind = {"float_list": tf_feature_pb2.FloatList(value=values)}
        else:
            kind = {"int64_list": tf_feature_pb2.Int64List(value=values)}
        features[name] = tf_feature_pb2.Feature(**kind)
    return tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=features)).SerializeToString()


class Directory:
    """A TFDS directory: `features` of a step and of the episode, and records by split and file."""

    def __init__(self, root: Path, steps: Features = STEP, metadata: Features | None = None) -> None:
        self.root = root
        self.folder = root / "toy" / "1.0.0"
        self.folder.mkdir(parents=True)
        metadata = metadata or {"good": np.bool_}
        self.features = tfds.FeaturesDict(
            {"steps": tfds.Dataset(steps), "episode_metadata": tfds.FeaturesDict(metadata)}
        )
        self.splits: dict[str, Sequence[int]] = {}
        described = json_format.MessageToDict(self.features.to_proto())
        (self.folder / "features.json").write_text(json.dumps(described))

    def record(self, steps: Iterable[Mapping[str, Any]], metadata: Mapping[str, Any] | None = None) -> bytes:
        serializer = ExampleSerializer(self.features.get_serialized_info())
        episode = {"steps": steps, "episode_metadata": metadata or {"good": True}}
        return serializer.serialize_example(self.features.encode_example(episode))

    def write(self, split: str, *shards: Sequence[bytes], lengths: Sequence[int] | None = None) -> Directory:
        """Files of records, and dataset_info.json; `lengths` overrides what that says."""
        for index, records in enumerate(shards):
            name = f"toy-{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
            (self.folder / name).write_bytes(b"".join(map(framed, records)))
        self.splits[split] = lengths or [len(records) for records in shards]
        splits = [
            {"name": name, "numBytes": "1", "shardLengths": [str(length) for length in lengths]}
            for name, lengths in self.splits.items()
        ]
        info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
        (self.folder / "dataset_info.json").write_text(json.dumps(info))
        return self

    def file(self, name: str = "toy-train.tfrecord-00000-of-00001") -> SourceFile:
        return source_file(self.folder, name)

    def episode(self, number: int = 0, content: Content | None = None) -> Opened:
        """The open episode, with its frames as a list."""
        return opened(self.file(), number, content or Content())


def source_file(
    folder: Path, name: str, companions: Sequence[str] = ("features.json", "dataset_info.json")
) -> SourceFile:
    def file_of(name: str, beside: tuple[SourceFile, ...] = ()) -> SourceFile:
        status = files.status(str(folder), name)
        return SourceFile(str(folder), name, status.size, status.stamp, "0" * 64, beside)

    beside = tuple(file_of(other) for other in companions if (folder / other).exists())
    return file_of(name, beside)


def opened(file: SourceFile, number: int, content: Content) -> Opened:
    reader = Rlds()
    units, _ = reader.list_units(file, content)
    with reader.open(units[number], content) as episode:
        return episode, list(episode.frames)


def simple(root: Path, *lengths: int) -> Directory:
    """A directory with one file of episodes of these lengths."""
    made = Directory(root)
    return made.write(
        "train", [made.record([step(t, n, i) for t in range(n)]) for i, n in enumerate(lengths)]
    )


def ingested(made: Directory, store: Path, **overrides: Any) -> Report:
    path = made.root.with_suffix(".yaml")
    path.write_text(SPEC)
    return run(
        load_spec(path, [f"{key}={value}" for key, value in overrides.items()]),
        made.root,
        store=store,
        name="toy",
    )
