"""What the layout `text` reads of parquet."""

from __future__ import annotations

import datetime
import decimal
import json
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foundry_testing.text_sources import CONTENT, found_in, reasons_of, texts_of, units_of

from robot_foundry.ingest.sources import Refused
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.text.blocks import Document


def file_of(folder: Path, columns, **options) -> Path:
    path = folder / "a.parquet"
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def test_row_groups_are_cut_into_units_and_rows_are_numbered_in_the_file(tmp_path):
    texts = [f"{number} " * 50 for number in range(1000)]
    table = pa.table({"text": texts, "n": range(1000)})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {}}})})
    path = file_of(tmp_path, table, row_group_size=70, compression="zstd")
    assert len(units_of(path)) == 1
    cut = replace(CONTENT, unit_bytes=30_000)
    units = units_of(path, cut)
    assert 3 < len(units) < 15 and not any(unit.alone for unit in units)
    assert len({unit.key for unit in units}) == len(units)
    expected = [Document(str(number), text, {"n": number}) for number, text in enumerate(texts)]
    assert found_in(path, cut) == found_in(path) == expected


@pytest.mark.parametrize(
    "of",
    [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_texts_of_any_type(tmp_path, of):
    values = ["one", None, "", "\u00e9\0", "long" * 50]
    path = file_of(tmp_path, {"text": pa.array(values, pa.string()).cast(of)})
    found = found_in(path, replace(CONTENT, max_document_bytes=100))
    assert texts_of(found) == ["one", "\u00e9\0"]
    assert reasons_of(found) == [
        ("1", "its 'text' is null"),
        ("2", "its 'text' is empty"),
        ("4", "it has more than 100 bytes, which content.max_document_bytes allows"),
    ]


def test_texts_that_are_no_utf8_cost_their_row_alone(tmp_path):
    ends = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 2, 4, 6)))
    odd = pa.Array.from_buffers(pa.string(), 3, [None, ends, pa.py_buffer(b"ab\xff\xfecd")])
    for columns, name in (({"text": odd, "m": ["x"] * 3}, "text"), ({"text": ["x"] * 3, "m": odd}, "m")):
        found = found_in(file_of(tmp_path, columns))
        assert len(texts_of(found)) == 2 and reasons_of(found) == [("1", f"its '{name}' is not UTF-8")]


def test_metadata_of_every_type_is_json(tmp_path):
    berlin = datetime.timezone(datetime.timedelta(hours=1))
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5, 6)
    columns = {
        "text": ["words"],
        "zoned": pa.array([moment.replace(tzinfo=berlin)], pa.timestamp("us", "Europe/Berlin")),
        "ns": pa.array([1], pa.timestamp("ns")),
        "date": [datetime.date(2024, 1, 2)],
        "time": [datetime.time(1, 2, 3)],
        "decimal": [decimal.Decimal("1.50")],
        "duration": pa.array([3], pa.duration("us")),
        "nan": [float("nan")],
        "half": pa.array([1.5], pa.float16()),
        "single": pa.array([-float("inf")], pa.float32()),
        "big": pa.array([(1 << 64) - 1], pa.uint64()),
        "flag": [True],
        "category": pa.array(["x"]).dictionary_encode(),
        "none": pa.nulls(1),
        "list": pa.array([[datetime.date(2024, 1, 1), None]]),
        "fixed": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
        "map": pa.array([[("a", 1.5)]], pa.map_(pa.string(), pa.float64())),
        "struct": [{"a": {"b": [{"c": "d"}]}, "t": moment}],
    }
    (found,) = found_in(file_of(tmp_path, columns))
    assert found == Document(
        "0",
        "words",
        {
            "zoned": "2024-01-02 02:04:05.000006",
            "ns": "1970-01-01 00:00:00.000000001",
            "date": "2024-01-02",
            "time": "01:02:03.000000",
            "decimal": "1.50",
            "duration": 3,
            "nan": "NaN",
            "half": 1.5,
            "single": "-Infinity",
            "big": (1 << 64) - 1,
            "flag": True,
            "category": "x",
            "none": None,
            "list": ["2024-01-01", None],
            "fixed": [1, 2],
            "map": [["a", 1.5]],
            "struct": {"a": {"b": [{"c": "d"}]}, "t": "2024-01-02 03:04:05.000006"},
        },
    )
    assert json.loads(canonical_json(found.metadata)) == found.metadata


@pytest.mark.parametrize(
    ("columns", "content", "reason"),
    [
        (
            {"texts": ["a"], "n": [1]},
            {},
            "it has no column 'text', did you mean 'texts'? (columns: texts, n)",
        ),
        ({"text": [1]}, {}, "its column 'text' is of int64, expected text"),
        ({"text": [["a"]]}, {}, "its column 'text' is of list<element: string>, expected text"),
        (
            {"text": ["a"], "image": [b"\x89PNG"]},
            {},
            "its column 'image' is of binary, which meta",
        ),
        ({"text": ["a"], "image": [{"bytes": b"\x89"}]}, {}, "its column 'image' is of binary"),
        ({"text": ["a"], "image": [b"\x89PNG"]}, {"metadata": ()}, None),
        ({"text": ["a"], "image": [b"\x89PNG"], "n": [1]}, {"metadata": ("n", "absent")}, None),
        ({"body": ["a"], "text": [1]}, {"key": "body", "metadata": ()}, None),
    ],
)
def test_columns_that_are_asked_for_must_fit(tmp_path, columns, content, reason):
    path = file_of(tmp_path, columns)
    if reason is None:
        assert texts_of(found_in(path, replace(CONTENT, **content))) == ["a"]
        return
    with pytest.raises(Refused) as error:
        units_of(path, replace(CONTENT, **content))
    assert error.value.message.startswith(reason)


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(Refused, match="it has two columns 'text'"):
        units_of(file_of(tmp_path, table))


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path):
    texts = [f"{number} " * 40 for number in range(300)]
    path = file_of(
        tmp_path, {"text": texts}, row_group_size=100, compression="none", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[data.index(b"150 150")] ^= 1
    path.write_bytes(data)
    found = found_in(path)
    assert texts_of(found) == texts[:100] + texts[200:]
    reason = "its row group is damaged, and this row and those after it there are lost"
    assert [each for each in found if isinstance(each, Unusable)] == [Unusable("100", reason, 100)]


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = file_of(tmp_path, {"text": ["a"] * 100})
    whole = path.read_bytes()
    for size in random.Random(0).sample(range(1, len(whole)), 20):
        path.write_bytes(whole[:size])
        with pytest.raises(Refused, match="it is no whole parquet file"):
            units_of(path)
