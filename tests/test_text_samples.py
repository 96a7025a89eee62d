"""Real files of text, against `json`, `gzip`, zstandard, `tarfile` and pyarrow.

None of robot_foundry's readers is used on the other side.
"""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from foundry_testing.text_sources import CONTENT, found_in, reasons_of, texts_of, units_of

from robot_foundry.shards.text.blocks import Document

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")


def sample(path):
    return Path(str(SAMPLES)) / path


def triples(rows, first):
    """Id, text and metadata of what another reader gave."""
    return [
        (str(number), row["text"], {name: value for name, value in row.items() if name != "text"})
        for number, row in enumerate(rows, first)
    ]


def read(path, content=CONTENT):
    return [(document.id, document.text, document.metadata) for document in found_in(path, content)]


def test_plain_json_lines_in_many_units():
    path = sample("text/dclm_agreement_data.jsonl")
    cut = replace(CONTENT, unit_bytes=20_000)
    assert len(units_of(path, cut)) > 30
    expected = triples(map(json.loads, path.read_text("utf-8").splitlines()), 1)
    assert read(path, cut) == read(path) == expected


def test_compressed_json_lines():
    path = sample("text/dclm_agreement/part-0.jsonl.gz")
    assert read(path) == triples(map(json.loads, gzip.decompress(path.read_bytes()).splitlines()), 1)
    path = sample("text/dclm_agreement/part-1.jsonl.zst")
    data = zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read()
    assert read(path) == triples(map(json.loads, data.decode().splitlines()), 1)


def test_parquet():
    path = sample("text/dclm_agreement/part-2.parquet")
    assert read(path) == triples(pq.read_table(path).to_pylist(), 0)


def test_a_tar_of_compressed_json_lines_whose_names_do_not_say_so():
    path = sample("text/lm_dataformat_blns.jsonl.zst.tar")
    expected = []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile():
                data = zstandard.ZstdDecompressor().stream_reader(tar.extractfile(member)).read()
                lines = [json.loads(line) for line in data.decode().splitlines()]
                expected += [(f"{member.name}:{n}", line) for n, line in enumerate(lines, 1)]
    found = found_in(path)
    assert len(found) == len(expected) == 8
    for document, (place, line) in zip(found, expected, strict=True):
        assert document.id == place
        if isinstance(line["text"], str):
            assert document.text == line["text"] and document.metadata == {"meta": line["meta"]}
        else:
            assert document.reason == "its 'text' is a list, expected text"
    assert len(texts_of(found)) == 6


def test_tars_of_text_files():
    path = sample("text/lm_dataformat_blns.txt.tar.gz")
    with tarfile.open(path) as tar:
        text = tar.extractfile("blns.txt").read().decode()
    assert found_in(path) == [Document("blns.txt", text, {})]
    path = sample("webdataset/wds_compressed.tar")
    with tarfile.open(path) as tar:
        members = {m.name: gzip.decompress(tar.extractfile(m).read()) for m in tar if m.isfile()}
    assert read(path) == [(name, data.decode(), {}) for name, data in members.items()]


def test_a_tar_without_text_is_told_member_by_member():
    found = found_in(sample("webdataset/wds_sample.tgz"))
    assert len(found) == 180 and not texts_of(found)
    assert {reason for _, reason in reasons_of(found)} == {
        "no text is read of a .cls",
        "no text is read of a .png",
    }
