"""Specs of text: what they say, what is set on the command line, and how mistakes in them are told."""

from __future__ import annotations

import pytest

from robot_foundry.ingest.spec.spec_files import load_spec, read_spec
from robot_foundry.ingest.text.spec import TextContent, TextSpec, text_spec_from_json
from robot_foundry.runtime.errors import UsageError


def test_the_packaged_spec_states_the_defaults():
    assert load_spec("text") == TextSpec("text", "text", TextContent())


def test_values_are_set_and_come_back_as_json():
    sizes = {"block_bytes": 1, "unit_bytes": 2, "max_document_bytes": 3, "shard_bytes": 4}
    content = {"key": "body", "format": "jsonl", "deduplicate": False, **sizes}
    for metadata, read in (("all", None), ("none", ()), (["url", "n"], ("url", "n"))):
        values = {"layout": "text", "content": {**content, "metadata": metadata}}
        spec = read_spec(values, "mine")
        assert spec == TextSpec("mine", "text", TextContent(**{**content, "metadata": read}))
        assert spec.to_json()["content"] == values["content"]
        assert text_spec_from_json(spec.to_json(), "again") == spec


def test_overrides_of_the_command_line():
    spec = load_spec("text", ["content.key=content", "content.metadata=[url]", "content.unit_bytes=1000"])
    assert spec.content == TextContent(key="content", metadata=("url",), unit_bytes=1000)
    assert len(spec.overrides) == 3
    assert load_spec("text", ["content.metadata=none"]).content.metadata == ()


def test_an_empty_list_of_metadata_is_none():
    spec = load_spec("text", ["content.metadata=[]"])
    assert spec.content.metadata == () and spec.to_json()["content"]["metadata"] == "none"


def test_all_mistakes_are_told_at_once():
    values = {
        "layout": "text",
        "content": {
            "kye": "text",
            "metadata": "some",
            "deduplicate": "yes",
            "block_bytes": 0,
            "format": "json",
            "shard_bytes": 1.5,
        },
        "mapping": {},
    }
    with pytest.raises(UsageError) as error:
        read_spec(values, "mine.yaml")
    for told in (
        "the spec mine.yaml has 7 problems",
        "content.kye: is not a key here, did you mean 'key'?",
        "content.metadata: expected all, none or a list of names, got 'some'",
        "content.deduplicate: expected true or false, got 'yes'",
        "content.block_bytes: expected a whole number from 1",
        "content.format: 'json' is not one of jsonl, parquet, text, tar, did you mean 'jsonl'?",
        "content.shard_bytes: expected a whole number",
        "mapping: is not a key here",
    ):
        assert told in error.value.message


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (["url", "url"], "names one twice: url, url"),
        (["text"], "names 'text', which is the text"),
        ([1], "expected text, got 1"),
        ({"url": True}, "expected all, none or a list of names"),
    ],
)
def test_metadata_that_cannot_be(metadata, reason):
    with pytest.raises(UsageError, match="content.metadata: ") as error:
        read_spec({"layout": "text", "content": {"metadata": metadata}}, "mine")
    assert reason in error.value.message
