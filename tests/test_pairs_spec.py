"""Specs of pairs: what they say, what is set on the command line, and how mistakes in them are told."""

from __future__ import annotations

import pytest

from robot_foundry.ingest.pairs.spec import PairsContent, PairsSpec, pairs_spec_from_json
from robot_foundry.ingest.spec.spec_files import load_spec, read_spec
from robot_foundry.runtime.errors import UsageError


def test_the_packaged_spec_states_the_defaults():
    assert load_spec("pairs") == PairsSpec("pairs", "pairs", PairsContent())


def test_values_are_set_and_come_back_as_json():
    values = {
        **{"captions": ["re_caption"], "image_keys": ["img"], "metadata": "none", "images": "data/train"},
        **{"format": "jsonl", "verify": "header", "min_side": 64, "max_aspect": 2.5, "max_pixels": 1000},
        **{"resize": 512, "quality": 90, "deduplicate": False, "adopt": False},
        **{"max_picture_bytes": 3, "unit_bytes": 4, "shard_bytes": 5},
    }
    spec = read_spec({"layout": "pairs", "content": values}, "mine")
    read = values | {"captions": ("re_caption",), "image_keys": ("img",), "metadata": ()}
    assert spec == PairsSpec("mine", "pairs", PairsContent(**read))
    assert spec.to_json()["content"] == values
    assert pairs_spec_from_json(spec.to_json(), "again") == spec
    assert set(values) == set(PairsContent().to_json())


def test_overrides_of_the_command_line():
    spec = load_spec("pairs", ["content.captions=none", "content.resize=256", "content.images=pictures/"])
    assert spec.content == PairsContent(captions=(), resize=256, images="pictures")
    assert load_spec("pairs", ["content.resize=null"]).content == PairsContent()


def test_all_mistakes_are_told_at_once():
    values = {
        "layout": "pairs",
        "content": {
            "cptions": "all",
            "verify": "never",
            "image_keys": [],
            "images": "../elsewhere",
            "max_aspect": 0.5,
            "min_side": 0,
            "quality": 101,
            "format": "jsnl",
            "adopt": True,
            "resize": 100,
        },
        "mapping": {},
    }
    with pytest.raises(UsageError) as error:
        read_spec(values, "mine.yaml")
    for told in (
        "the spec mine.yaml has 10 problems",
        "content.cptions: is not a key here, did you mean 'captions'?",
        "content.verify: 'never' is not one of decode, header",
        "content.image_keys: names nothing; null takes what is there",
        "content.images: expected a folder within the source, got '../elsewhere'",
        "content.max_aspect: expected 1 (squares alone) or more, got 0.5",
        "content.min_side: expected a whole number from 1 to 65536, got 0",
        "content.quality: expected a whole number from 1 to 100, got 101",
        "content.format: 'jsnl' is not one of tar, parquet, jsonl, json, coco, csv, tsv, pictures",
        "content.resize: cannot be where tars are adopted",
        "mapping: is not a key here",
    ):
        assert told in error.value.message
