"""Demonstrations as RLDS: a folder that tensorflow-datasets opens, written without TensorFlow.

    <version>/features.json, dataset_info.json, <name>-train.tfrecord-00000-of-00001, …

An episode is a tf.train.Example of `steps` (observation, action, language_instruction, is_first, is_last,
is_terminal, reward, discount) and `episode_metadata` (embodiment, seed, success). An Example holds no floats
but float32. Pictures are JPEG.

Shape suffixes: N steps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from tensorflow_datasets.core import features as tfds
from tensorflow_datasets.core.dataset_info import DatasetIdentity, DatasetInfo
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.file_adapters import FileFormat
from tensorflow_datasets.core.naming import ShardedFileTemplate
from tensorflow_datasets.core.splits import SplitDict, SplitInfo

from robot_foundry.evaluation.recorders.recorder import JPEG_QUALITY, Common, Demonstration, Parts
from robot_foundry.ingest.sources.rlds.tfrecord import framed
from robot_foundry.shards.images import encode_jpeg

VERSION, SPLIT = "1.0.0", "train"
SHARD_BYTES = 128 * 1024 * 1024


class RldsRecorder:
    """See `Recorder`."""

    def __init__(self, place: Path, common: Common) -> None:
        self._folder, self._common = place / VERSION, common
        self._folder.mkdir()
        self._features: Any = None
        self._file: IO[bytes] | None = None
        self._lengths: list[int] = []  # episodes of each file
        self._num_bytes = 0

    def __enter__(self) -> RldsRecorder:
        return self

    def add(self, demonstration: Demonstration) -> None:
        parts = Parts.of(demonstration.recording)
        if self._features is None:
            self._features = _features(parts)
        episode = {
            "steps": list(_steps(demonstration, parts)),
            "episode_metadata": {
                "embodiment": self._common.embodiment,
                "seed": demonstration.seed,
                "success": demonstration.recording.success,
            },
        }
        serializer = ExampleSerializer(self._features.get_serialized_info())
        example = serializer.get_tf_example(self._features.encode_example(episode))
        # Protocol buffers order the entries of a map by chance, unless they are told not to.
        record = framed(example.SerializeToString(deterministic=True))
        if self._file is None or self._file.tell() + len(record) > SHARD_BYTES:
            self._close_file()
            self._file = self._unfinished(len(self._lengths)).open("wb")
            self._lengths.append(0)
        self._file.write(record)
        self._lengths[-1] += 1
        self._num_bytes += len(record)

    def __exit__(self, failed: object, *_: object) -> None:
        self._close_file()
        if failed is not None or self._features is None:
            return
        template = ShardedFileTemplate(
            data_dir=self._folder, dataset_name=self._common.name, split=SPLIT, filetype_suffix="tfrecord"
        )
        count = len(self._lengths)
        for number in range(count):
            path = template.sharded_filepath(shard_index=number, num_shards=count)
            os.replace(self._unfinished(number), path)
        split = SplitInfo(
            name=SPLIT, shard_lengths=self._lengths, num_bytes=self._num_bytes, filename_template=template
        )
        identity = DatasetIdentity(
            name=self._common.name, version=VERSION, data_dir=str(self._folder), module_name=__name__
        )
        info = DatasetInfo(
            builder=identity,
            features=self._features,
            description=json.dumps(self._common.environment, sort_keys=True),
        )
        info.set_file_format(FileFormat.TFRECORD)
        info.set_splits(SplitDict([split]))
        info.write_to_directory(self._folder)

    def _unfinished(self, number: int) -> Path:
        """How many files there will be, which is in their names, is known at the end."""
        return self._folder / f"{number:05d}.unfinished"

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _features(parts: Parts) -> Any:
    """Of episodes such as this one."""
    observation = {
        **{camera: tfds.Image(shape=(*pictures.shape[1:],), encoding_format="jpeg")
           for camera, pictures in parts.pictures.items()},
        **{name: tfds.Tensor(shape=(numbers.shape[1],), dtype=np.float32)
           for name, numbers in parts.numbers.items()},
    }  # fmt: skip
    step = {
        "observation": tfds.FeaturesDict(observation),
        "action": tfds.Tensor(shape=(parts.action_NC.shape[1],), dtype=np.float32),
        "language_instruction": tfds.Text(),
        **{name: tfds.Scalar(np.bool_) for name in ("is_first", "is_last", "is_terminal")},
        **{name: tfds.Scalar(np.float32) for name in ("reward", "discount")},
    }
    metadata = {"embodiment": tfds.Text(), "seed": tfds.Scalar(np.int64), "success": tfds.Scalar(np.bool_)}
    return tfds.FeaturesDict({"steps": tfds.Dataset(step), "episode_metadata": tfds.FeaturesDict(metadata)})


def _steps(demonstration: Demonstration, parts: Parts) -> Iterator[dict[str, Any]]:
    """Of a success the last step is rewarded and terminal; of any other the time was up."""
    recording, last = demonstration.recording, demonstration.num_frames - 1
    for n in range(last + 1):
        succeeds = n == last and recording.success
        yield {
            "observation": {
                **{
                    camera: encode_jpeg(pictures[n], JPEG_QUALITY)
                    for camera, pictures in parts.pictures.items()
                },
                **{name: numbers[n].astype(np.float32) for name, numbers in parts.numbers.items()},
            },
            "action": parts.action_NC[n].astype(np.float32),
            "language_instruction": recording.instruction,
            "is_first": n == 0,
            "is_last": n == last,
            "is_terminal": succeeds,
            "reward": float(succeeds),
            "discount": 1.0,
        }
