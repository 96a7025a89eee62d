"""Random access: every byte checked, from any thread and any storage, and the episodes of a robot shard."""

from __future__ import annotations

import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import webdataset

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import Storage, open_storage
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.errors import CorruptArrays, CorruptMember
from robot_foundry.shards.images import decode, encode_jpeg
from robot_foundry.shards.index import index_of_tar, members_table, read_index, write_index
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.names import episode_json_name, image_name, source_name
from robot_foundry.shards.robot.shard import RobotShard
from robot_foundry.shards.tar import TarWriter

FIRST, SECOND, BLIND = "demo_1-111111111111", "demo_10-222222222222", "demo_2-333333333333"
LENGTHS = {FIRST: 3, SECOND: 2, BLIND: 4}
TAR, INDEX = "shards/d/k.tar", "shards/d/k.index.arrow"


def picture(episode: str, frame: int, camera: str) -> np.ndarray:
    shade = len(episode) * 3 + frame * 20 + len(camera)
    return np.full((16, 24, 3), shade, dtype=np.uint8)


def members() -> dict[str, bytes]:
    """The front camera sees all of two episodes, the wrist only frame 1 of the second."""
    images = [(e, i, "front") for e in (FIRST, SECOND) for i in range(LENGTHS[e])] + [(SECOND, 1, "wrist")]
    found = {image_name(*image): encode_jpeg(picture(*image)) for image in images}
    for episode, length in LENGTHS.items():
        found[episode_json_name(episode)] = json.dumps({"num_frames": length, "id": episode}).encode()
        found[source_name(episode)] = write_npz({"obs/x": np.arange(length) + len(episode)})
    return found


def stored(storage: Storage, content: dict[str, bytes]) -> ShardReader:
    with storage.writer(TAR) as file:
        writer = TarWriter(file)
        for name in sorted(content):
            writer.add(name, content[name])
        summary = writer.close()
    storage.write(INDEX, write_index(summary.members))
    return ShardReader(storage, TAR, read_index(storage, INDEX))


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return open_storage(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def test_every_member_is_read_by_row_and_by_name(storage: Storage) -> None:
    content = members()
    reader = stored(storage, content)
    assert len(reader) == len(content)
    assert [reader.name(row) for row in range(len(reader))] == sorted(content)
    for name, data in content.items():
        assert reader.read_name(name) == data == reader.read(reader.row(name))
    with pytest.raises(FoundryError, match="has no member 'x.json'"):
        reader.read_name("x.json")


def test_a_changed_byte_is_an_error_that_names_the_member(storage: Storage) -> None:
    content = members()
    reader = stored(storage, content)
    tar = bytearray(storage.read_bytes(TAR))
    name = image_name(FIRST, 1, "front")
    row = reader.row(name)
    tar[reader.index["offset"][row].as_py() + 5] ^= 1
    storage.write(TAR, bytes(tar))
    reader.close()
    with pytest.raises(CorruptMember, match=rf"'{name}' of .*{TAR} is damaged"):
        reader.read(row)
    for other in set(content) - {name}:
        assert reader.read_name(other) == content[other]


def test_many_members_are_the_same_as_each(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    content = members()
    reader = stored(storage, content)
    wanted = [row for row in range(len(reader)) if row != 3]
    for span, gap in ((1 << 20, 1 << 20), (1 << 20, 0), (1000, 1 << 20), (1, 1)):
        monkeypatch.setattr("robot_foundry.shards.reader.SPAN_BYTES", span)
        monkeypatch.setattr("robot_foundry.shards.reader.GAP_BYTES", gap)
        assert list(reader.read_many(iter(wanted))) == [content[reader.name(row)] for row in wanted]
    assert list(reader.read_many([])) == []
    tar = bytearray(storage.read_bytes(TAR))
    tar[int(reader.index["offset"][5].as_py())] ^= 1
    storage.write(TAR, bytes(tar))
    reader.close()
    read = reader.read_many(range(len(reader)))
    assert [next(read) for _ in range(5)] == [content[reader.name(row)] for row in range(5)]
    with pytest.raises(CorruptMember):
        next(read)


def test_neighbours_in_a_remote_tar_take_one_request() -> None:
    storage = CountsReads(open_storage("memory://test-reader-many"))
    content = members()
    reader = stored(storage, content)  # type: ignore[arg-type]
    assert list(reader.read_many(range(len(reader)))) == [content[name] for name in sorted(content)]
    assert storage.reads == 1


class CountsReads:
    """A storage that knows how often parts of files were asked for."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.reads = storage, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.storage, name)

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        self.reads += 1
        return self.storage.read_range(path, offset, size)


class DamagesEveryOtherRead:
    """A storage whose transfers fail in a way that only a checksum shows."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.reads = storage, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.storage, name)

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        self.reads += 1
        data = self.storage.read_range(path, offset, size)
        return data if self.reads % 2 == 0 else bytes(len(data))


def test_a_damaged_transfer_is_fetched_again() -> None:
    storage = DamagesEveryOtherRead(open_storage("memory://test-reader-transfer"))
    content = members()
    reader = stored(storage, content)  # type: ignore[arg-type]
    assert {name: reader.read_name(name) for name in content} == content
    assert storage.reads == 2 * len(content)


def test_an_index_of_another_tar_is_refused(storage: Storage) -> None:
    reader = stored(storage, members())
    storage.write(TAR, storage.read_bytes(TAR) + bytes(512))
    with pytest.raises(FoundryError, match="but this one has") as caught:
        ShardReader(storage, TAR, reader.index)
    assert caught.value.hint and "foundry-data index" in caught.value.hint
    storage.delete(TAR)
    with pytest.raises(FileNotFoundError):
        ShardReader(storage, TAR, reader.index)


def test_a_tar_cut_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    reader = stored(open_storage(tmp_path), members())
    reader.read(0)
    os.truncate(tmp_path / TAR, 2000)
    with pytest.raises(CorruptMember):
        reader.read(len(reader) - 1)


def open_files(path: Path) -> int:
    """Descriptors of this process on the file; those of other tests come and go."""
    links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return sum(os.path.realpath(link) == os.path.realpath(path) for link in links)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_descriptors_are_opened_late_and_closed(tmp_path: Path) -> None:
    readers = [stored(open_storage(tmp_path), members())]
    index, file = readers[0].index, tmp_path / TAR
    readers += [ShardReader(open_storage(tmp_path), TAR, index) for _ in range(20)]
    assert open_files(file) == 0
    for reader in readers:
        reader.read(0), reader.read(1)
    assert open_files(file) == len(readers)
    readers[0].close()
    assert open_files(file) == len(readers) - 1
    assert readers[0].read(2) == readers[1].read(2)
    readers.clear()
    del reader
    assert open_files(file) == 0


def test_threads_share_a_reader_that_another_thread_closes(tmp_path: Path) -> None:
    content = members()
    reader = stored(open_storage(tmp_path), content)
    done = threading.Event()

    def close_all_the_time() -> None:
        while not done.is_set():
            reader.close()

    closing = threading.Thread(target=close_all_the_time)
    closing.start()
    try:
        names = sorted(content) * 50
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(reader.read_name, names)) == [content[name] for name in names]
    finally:
        done.set()
        closing.join()


def test_episodes_of_a_robot_shard(storage: Storage) -> None:
    shard = RobotShard(stored(storage, members()))
    assert shard.episodes == [FIRST, SECOND, BLIND]
    assert shard.cameras == ["front", "wrist"]
    assert shard.row_starts.tolist() == [0, 3, 5, 9]
    assert shard.episode_json(SECOND) == {"num_frames": 2, "id": SECOND}
    assert shard.source(BLIND)["obs/x"].tolist() == [19, 20, 21, 22]
    with pytest.raises(FoundryError, match="has no episode 'demo_9'"):
        shard.source("demo_9")


def test_image_rows_lead_from_frame_rows_to_images(storage: Storage) -> None:
    shard = RobotShard(stored(storage, members()))
    frames = [(episode, frame) for episode in shard.episodes for frame in range(LENGTHS[episode])]
    front_N, wrist_N = shard.image_rows("front"), shard.image_rows("wrist")
    assert front_N.dtype == np.int64 and len(front_N) == len(frames)
    for (episode, frame), row in zip(frames, front_N, strict=True):
        assert (row == -1) == (episode == BLIND)
        if row != -1:
            assert np.array_equal(decode(shard.reader.read(row)), picture(episode, frame, "front"))
    assert np.flatnonzero(wrist_N + 1).tolist() == [4]
    assert shard.reader.name(int(wrist_N[4])) == image_name(SECOND, 1, "wrist")
    assert (shard.image_rows("none") == -1).all()


def test_image_rows_agree_with_webdataset(tmp_path: Path) -> None:
    shard = RobotShard(stored(open_storage(tmp_path), members()))
    samples = webdataset.WebDataset(str(tmp_path / TAR), shardshuffle=False)
    expected = [sample["front.jpg"] for sample in samples if "front.jpg" in sample]
    assert [shard.reader.read(row) for row in shard.image_rows("front") if row >= 0] == expected


def test_an_index_made_from_the_tar_serves_as_well(tmp_path: Path) -> None:
    reader = stored(open_storage(tmp_path), members())
    index = index_of_tar(io.BytesIO((tmp_path / TAR).read_bytes()))
    again = RobotShard(ShardReader(reader.storage, TAR, index))
    assert np.array_equal(again.image_rows("front"), RobotShard(reader).image_rows("front"))


def test_a_shard_without_images_or_members(storage: Storage) -> None:
    blind = {name: data for name, data in members().items() if name.startswith(BLIND)}
    shard = RobotShard(stored(storage, blind))
    assert (shard.cameras, shard.image_rows("front").tolist()) == ([], [-1] * 4)
    empty = RobotShard(stored(storage, {}))
    assert (empty.episodes, empty.cameras, len(empty.image_rows("front"))) == ([], [], 0)


def test_members_that_contradict_each_other_are_refused(storage: Storage) -> None:
    name = episode_json_name(FIRST)
    content = members()
    for changed, reason in [
        (
            {name: b'{"num_frames": 2}'},
            f"'{image_name(FIRST, 2, 'front')}' of a frame that its episode lacks",
        ),
        ({name: None}, f"images of '{FIRST}', which has no episode.json"),
        ({name: b"{}"}, "no count `num_frames`"),
        ({name: b'{"num_frames": true}'}, "no count `num_frames`"),
        ({name: b"[]"}, "no count `num_frames`"),
        ({name: b"{"}, "is not JSON"),
        ({name: b"\xff"}, "is not JSON"),
    ]:
        kept = {n: data for n, data in (content | changed).items() if data is not None}
        with pytest.raises(FoundryError, match=reason):
            RobotShard(stored(storage, kept)).image_rows("front")
    with pytest.raises(CorruptArrays):
        RobotShard(stored(storage, content | {source_name(FIRST): b"PK"})).source(FIRST)


def test_image_rows_do_not_depend_on_the_order_of_members(tmp_path: Path) -> None:
    storage, num_frames = open_storage(tmp_path), 20_000
    text = json.dumps({"num_frames": num_frames}).encode()
    place = stored(storage, {episode_json_name(FIRST): text}).index.to_pylist()[0]
    names = [image_name(FIRST, i, camera) for i in range(num_frames) for camera in ("a", "b")]
    names = [episode_json_name(FIRST), *names[::-1]]
    rows = [(name.split(".")[0], name, place["offset"], place["size"], place["crc32c"]) for name in names]
    shard = RobotShard(ShardReader(storage, TAR, members_table(rows, "0" * 64, storage.size(TAR))))
    assert shard.image_rows("b").tolist() == list(range(2 * num_frames - 1, 0, -2))
