"""Of equal texts the first stays, whatever the units, the groups, the workers and the memory."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.ingest.duplicates import hashes_of, repeated, without_duplicates
from robot_foundry.ingest.files.fingerprints import Fingerprints
from robot_foundry.ingest.sources import SourceFile, Unit
from robot_foundry.ingest.sources.text.text import Text, documents
from robot_foundry.ingest.text.duplicates import TextHashing
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.text.blocks import Document

CONTENT = TextContent(unit_bytes=64)
HERE = Workers()
TEXTS = ["a", "b", "c", "dd", "e" * 40, None, ""]


def units_of(folder: Path, content: TextContent = CONTENT) -> list[Unit]:
    """The units of all files in a folder, with fingerprints."""
    statuses = [files.status(str(folder), path.name) for path in sorted(folder.iterdir())]
    known = Fingerprints(str(folder), open_storage(folder.parent / "fingerprints"), HERE).of(statuses)
    made = [SourceFile(str(folder), file.path, file.size, file.stamp, known[file.path]) for file in statuses]
    return [unit for file in made for unit in Text().list_units(file, content)[0]]


def written(folder: Path, texts_by_file: dict[str, list[str | None]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, texts in texts_by_file.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        (folder / name).write_bytes(gzip.compress(lines, mtime=0) if name.endswith(".gz") else lines)
    return folder


def kept_texts(units: list[Unit], content: TextContent = CONTENT) -> list[str]:
    """What is left of the units' documents, in order."""
    kept = []
    for unit in units:
        dropped = set(np.frombuffer(unit.dropped, "<u4").tolist())
        usable = [found for found in documents(unit, content) if isinstance(found, Document)]
        assert dropped <= set(range(len(usable)))
        kept += [found.text for number, found in enumerate(usable) if number not in dropped]
    return kept


@settings(deadline=None, max_examples=40)
@given(
    files=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "dd", "e" * 40, None, ""]), max_size=12), max_size=5
    ),
    most=st.sampled_from([1, 2, 7, 1000]),
    size=st.integers(1, 4),
)
def test_what_is_kept_is_what_a_dict_keeps(tmp_path_factory, files, most, size):
    folder = tmp_path_factory.mktemp("source")
    suffixes = (".jsonl", ".jsonl.gz")
    names = {f"{number}{suffixes[number % 2]}": texts for number, texts in enumerate(files) if texts}
    units = units_of(written(folder / "raw", names))
    groups = [units[start : start + size] for start in range(0, len(units), size)]
    cache = open_storage(folder / "store")
    made, count = without_duplicates(groups, TextHashing(CONTENT), HERE, cache, most_at_once=most)
    assert [len(group) for group in made] == [len(group) for group in groups]
    texts = [text for each in files for text in each if text]
    kept = kept_texts([unit for group in made for unit in group])
    assert kept == list(dict.fromkeys(texts))
    assert count == len(texts) - len(kept)


@settings(deadline=None)
@given(
    hashes=st.lists(st.tuples(*[st.sampled_from([0, 1, 1 << 62, 1 << 63, (1 << 64) - 1])] * 2), max_size=60),
    most=st.integers(1, 70),
    block=st.integers(1, 70),
)
def test_repeats_are_found_in_any_memory(hashes, most, block):
    array = np.array(hashes, np.uint64).reshape(-1, 2)
    blocks = [array[start : start + block] for start in range(0, len(array), block)]
    seen: set[tuple[int, int]] = set()
    expected = [number for number, pair in enumerate(hashes) if pair in seen or seen.add(pair)]
    assert repeated(blocks, len(array), most).tolist() == expected


def test_a_second_run_reads_only_what_is_new(tmp_path):
    folder = written(tmp_path / "raw", {"a.jsonl": ["x", "y"], "b.jsonl": ["y", "z"]})
    cache = open_storage(tmp_path / "store")
    first, count = without_duplicates(
        [[unit] for unit in units_of(folder)], TextHashing(CONTENT), HERE, cache
    )
    assert count == 1
    written(folder, {"c.jsonl": ["z", "w"]})
    units = units_of(folder)
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).unlink()  # so it would fail if they were read
    made, count = without_duplicates([[unit] for unit in units], TextHashing(CONTENT), HERE, cache)
    assert count == 2
    assert [unit.dropped for group in made for unit in group] == [b"", bytes(4), bytes(4)]
    assert made[:2] == first


def test_metadata_decides_nothing_and_other_settings_of_reading_do(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        '{"text": "x", "n": 1}\n{"text": "x", "n": 2, "other": "y"}\n{"other": "y"}\n'
    )
    cache = open_storage(tmp_path / "store")
    for content, dropped in ((CONTENT, 1), (replace(CONTENT, key="other"), 1), (CONTENT, 1)):
        units = units_of(folder, content)
        assert without_duplicates([units], TextHashing(content), HERE, cache)[1] == dropped
    content = replace(CONTENT, key="other")
    made, _ = without_duplicates([units_of(folder, content)], TextHashing(content), HERE, cache)
    assert kept_texts(made[0], content) == ["y"]


@pytest.mark.parametrize("change", ["flip", "cut", "empty"])
def test_damaged_hashes_are_computed_again(tmp_path, change):
    units = units_of(written(tmp_path / "raw", {"a.jsonl": ["x", "y", "x"]}))
    cache = open_storage(tmp_path / "store")
    right = hashes_of(units, TextHashing(CONTENT), cache)
    whole = cache.read_bytes(right.path)
    changed = {"flip": bytes([whole[0] ^ 1]) + whole[1:], "cut": whole[:-1], "empty": b""}[change]
    cache.write(right.path, changed)
    assert without_duplicates([units], TextHashing(CONTENT), HERE, cache)[1] == 1
    assert cache.read_bytes(right.path) == whole


def test_a_refused_unit_has_no_documents(tmp_path):
    folder = written(tmp_path / "raw", {"a.jsonl.gz": ["x", "y"], "b.jsonl": ["x"]})
    data = bytearray((folder / "a.jsonl.gz").read_bytes())
    data[-8] ^= 1  # its checksum
    (folder / "a.jsonl.gz").write_bytes(data)
    made, count = without_duplicates(
        [units_of(folder)], TextHashing(CONTENT), HERE, open_storage(tmp_path / "store")
    )
    assert count == 0 and [unit.dropped for unit in made[0]] == [b"", b""]


def test_a_file_that_changed_since_it_was_listed_ends_the_run(tmp_path):
    folder = written(tmp_path / "raw", {"a.jsonl": ["x", "y"]})
    units = units_of(folder)
    written(folder, {"a.jsonl": ["x", "y", "z"]})
    with pytest.raises(FoundryError, match=r"a\.jsonl changed while it was ingested"):
        without_duplicates([units], TextHashing(CONTENT), HERE, open_storage(tmp_path / "store"))


def test_a_remote_file_is_fetched_once_for_the_units_of_a_group(tmp_path, monkeypatch):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("x", "y" * 80, "x", "y" * 80, "z"))
    root = "memory://text-duplicates"
    fsspec.filesystem("memory").pipe("/text-duplicates/a.jsonl", lines.encode())
    status = files.status(root, "a.jsonl")
    file = SourceFile(root, status.path, status.size, status.stamp, f"etag:{status.stamp}:{status.size}")
    units, refused = Text().list_units(file, CONTENT)
    assert len(units) > 2 and not refused
    fetched = []
    fetch = files.download
    monkeypatch.setattr(files, "download", lambda *place: fetched.append(place) or fetch(*place))
    made, count = without_duplicates([units], TextHashing(CONTENT), HERE, open_storage(tmp_path / "store"))
    assert count == 2 and len(fetched) == 1
    assert [unit.file for unit in made[0]] == [file] * len(units)
    assert without_duplicates([units], TextHashing(CONTENT), HERE, open_storage(tmp_path / "store")) == (
        made,
        count,
    )
    assert len(fetched) == 1
