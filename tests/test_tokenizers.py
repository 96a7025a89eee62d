"""Tokenizers: lossless whatever a text holds, equal whatever the machine, and read from others' files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.bpe import LEAST, train
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import SPECIALS, Tokenizer
from robot_foundry.shards.tokens.tokenizers import from_json, read
from robot_foundry.trainer.models import tokenizer as of_instructions

CORPUS = [
    "the cat sat on the mat, and then the other cat sat on the other mat",
    "def encode(self, texts: list[str]) -> list[int]:\n    return 1234\n",
    "le café était fermé, 日本語のテキスト, 🙂🙂",
]
HARD = [
    "",
    " ",
    "\ufeffx",
    "a\x00b",
    "<|endoftext|>",
    "x<obs>y <pad>",
    "  \n\n\t ",
    "e\u0301",
    "1234567",
    "🙂",
]


@cache
def trained() -> Tokenizer:
    return train(CORPUS, 320)


def made(name: str) -> Tokenizer:
    return ByteTokenizer() if name == "byte" else trained()


pieces = st.one_of(st.text(), st.sampled_from([*SPECIALS, *CORPUS, "\x00", "\ufeff", "  "]))


@pytest.mark.parametrize("name", ["byte", "bpe"])
@settings(deadline=None)
@given(st.lists(st.lists(pieces, max_size=4).map("".join), max_size=4))
def test_any_text_comes_back_and_becomes_no_special_token(name: str, texts: list[str]) -> None:
    tokenizer = made(name)
    ids = tokenizer.encode(texts)
    assert [tokenizer.decode(of_text) for of_text in ids] == texts
    assert tokenizer.restores(texts, ids).tolist() == [True] * len(texts)
    assert not {i for of_text in ids for i in of_text.tolist()} & set(tokenizer.specials.values())
    others = [text + "x" for text in texts]
    assert tokenizer.restores(others, ids).tolist() == [False] * len(texts)


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_special_tokens_follow_the_text_in_one_order(name: str) -> None:
    tokenizer = made(name)
    assert list(tokenizer.specials) == list(SPECIALS)
    assert list(tokenizer.specials.values()) == list(range(tokenizer.size - len(SPECIALS), tokenizer.size))
    assert tokenizer.end == tokenizer.start == tokenizer.specials["<|endoftext|>"]
    assert tokenizer.pad == tokenizer.specials["<pad>"]
    assert [tokenizer.decode([byte]) for byte in b"aZ"] == ["a", "Z"]
    ids = [*b"hi", tokenizer.end]
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, specials=True) == "hi<|endoftext|>"


def test_bytes_have_the_ids_that_instructions_give_them() -> None:
    tokenizer = ByteTokenizer()
    assert (tokenizer.specials["<pad>"], tokenizer.specials["<obs>"]) == (
        of_instructions.PAD,
        of_instructions.OBS,
    )
    text = "pick up the café cup"
    assert tokenizer.encode([text])[0].tolist() == of_instructions.ByteTokenizer(64).encode(text)
    assert tokenizer.id == "4dba409b104b0a07d27f45802f93782a"


def test_training_merges_the_most_frequent_pairs() -> None:
    tokenizer = train(["low low low low lower lowest"], LEAST + 3)
    assert [tokenizer.decode([256 + i]) for i in range(3)] == ["lo", "low", " low"]
    assert tokenizer.encode(["low lower"])[0].tolist() == [257, 258, *b"er"]


def test_digits_stay_alone() -> None:
    tokenizer = train(["2024 2024 2024 2024 " * 20], 300)
    assert tokenizer.encode(["2024"])[0].tolist() == list(b"2024")


def test_training_ends_where_there_are_no_more_pairs() -> None:
    assert train(["ab"], 1000).size == LEAST + 1


@pytest.mark.parametrize("size", [0, LEAST - 1, 1 << 30])
def test_a_vocabulary_must_hold_the_bytes(size: int) -> None:
    with pytest.raises(UsageError, match=f"a vocabulary has {LEAST} to"):
        train(CORPUS, size)


PROGRAM = """
import sys
from robot_foundry.shards.tokens.bpe import train
words = [chr(97 + i % 7) + chr(97 + i % 11) + chr(97 + i % 3) for i in range(4000)]
texts = [" ".join(words[i : i + 40]) for i in range(0, 4000, 40)]
print(train(texts[:: int(sys.argv[1])], 400).id)
"""


def test_training_depends_on_no_threads_and_no_order() -> None:
    def id_with(order: int, **settings: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(order)],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout

    alone = id_with(1, TOKENIZERS_PARALLELISM="false")
    assert alone == id_with(-1, RAYON_NUM_THREADS="7") == id_with(1, RAYON_NUM_THREADS="2")


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_a_tokenizer_is_what_its_json_says(name: str, tmp_path: Path) -> None:
    tokenizer = made(name)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(tokenizer.to_json()))
    for copy in (read(tmp_path), read(file), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.id == tokenizer.id
        assert (copy.size, copy.end, copy.start, copy.pad) == (
            tokenizer.size,
            tokenizer.end,
            tokenizer.start,
            tokenizer.pad,
        )
        assert [i.tolist() for i in copy.encode(HARD)] == [i.tolist() for i in tokenizer.encode(HARD)]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "bits"},
        {"end": "last"},
        {"end": 100_000},
        {"pad": True},
        {"definition": []},
        {"definition": {}},
        {"definition": {"model": {"type": "BPE"}}},
        {"definition": {"model": {"type": "BPE"}, "added_tokens": 7}},
        {"more": 1},
    ],
)
def test_another_json_is_no_tokenizer(change: dict[str, Any]) -> None:
    with pytest.raises(FoundryError, match=r"run/tokenizer\.json"):
        from_json({**trained().to_json(), **change}, "run/tokenizer.json")


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_what_cannot_be_encoded_or_decoded_is_refused(name: str) -> None:
    tokenizer = made(name)
    with pytest.raises(FoundryError, match="lone surrogate at character 1"):
        tokenizer.encode(["fine", "x\ud800"])
    for wrong in (-1, tokenizer.size):
        with pytest.raises(FoundryError, match=f"there is no token {wrong}"):
            tokenizer.decode([5, wrong])


# What others' tools write.


@pytest.fixture(scope="module")
def gpt2_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it, with tokens that begin, end and pad."""
    from tokenizers import Tokenizer as Engine
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2-like")
    definition = dict(trained().to_json()["definition"])
    definition["added_tokens"] = []
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Engine.from_str(json.dumps(definition)),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<fill>",
    )
    fast.add_tokens(["    ", "<tool>"])
    fast.save_pretrained(folder)
    return folder


def test_a_folder_of_transformers_gives_the_same_ids(gpt2_like: Path) -> None:
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(gpt2_like), read(gpt2_like)
    assert (ours.start, ours.end, ours.pad) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert ours.size == len(theirs)
    texts = [*CORPUS, "def f():\n    <tool> x", ""]
    assert [i.tolist() for i in ours.encode(texts)] == [
        theirs.encode(text, add_special_tokens=False) for text in texts
    ]
    assert ours.restores(texts, ours.encode(texts)).all()


@pytest.mark.parametrize("text", ["</s>", "a <s> b</s>", "<fill><fill>", *HARD])
def test_a_text_with_the_names_of_their_special_tokens_stays_text(gpt2_like: Path, text: str) -> None:
    ours = read(gpt2_like / "tokenizer.json")
    ids = ours.encode([text])
    assert not set(ids[0].tolist()) & set(ours.specials.values())
    assert ours.decode(ids[0]) == text and ours.restores([text], ids).all()


def test_what_cuts_pads_or_draws_is_for_prompts_alone(gpt2_like: Path, tmp_path: Path) -> None:
    definition = json.loads((gpt2_like / "tokenizer.json").read_text())
    plain = read(gpt2_like)
    definition["truncation"] = {
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    definition["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    definition["model"]["dropout"] = 0.9
    write(tmp_path, definition, json.loads((gpt2_like / "tokenizer_config.json").read_text()))
    assert [i.tolist() for i in read(tmp_path).encode(CORPUS)] == [i.tolist() for i in plain.encode(CORPUS)]
    assert read(tmp_path).id == plain.id


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_transformers_reads_what_is_ours(name: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    ours = made(name)
    write(tmp_path, ours.transformers_json())
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = [text for text in [*CORPUS, *HARD] if not any(name in text for name in SPECIALS)]
    ids = [theirs.encode(text, add_special_tokens=False) for text in texts]
    assert ids == [of_text.tolist() for of_text in ours.encode(texts)]
    assert theirs.decode(ids[2]) == texts[2]
    assert {name: theirs.convert_tokens_to_ids(name) for name in SPECIALS} == dict(ours.specials)


def write(folder: Path, definition: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))


def definition_of(model: Any, **parts: Any) -> dict[str, Any]:
    from tokenizers import Tokenizer as Engine

    engine = Engine(model)
    for name, part in parts.items():
        setattr(engine, name, part)
    return json.loads(engine.to_str())


def test_what_a_tokenizer_loses_is_told(tmp_path: Path) -> None:
    from tokenizers import normalizers

    definition = {**trained().to_json()["definition"]}
    lower = definition_of(engine_model(), normalizer=normalizers.Lowercase())["normalizer"]
    write(tmp_path, {**definition, "normalizer": lower})
    tokenizer, texts = read(tmp_path), ["low", "High", "", "école É"]
    assert tokenizer.restores(texts, tokenizer.encode(texts)).tolist() == [True, False, True, False]


def engine_model() -> Any:
    from tokenizers import models

    return models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="<unk>")


def test_a_vocabulary_of_words_loses_the_others(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    write(tmp_path, definition_of(engine_model(), pre_tokenizer=pre_tokenizers.Whitespace()))
    tokenizer = read(tmp_path)
    # "</s>" is in the model's vocabulary alone, and still ends texts.
    assert tokenizer.end == 1 and tokenizer.specials == {"</s>": 1}
    texts = ["a b", "a c", "b"]
    assert tokenizer.restores(texts, tokenizer.encode(texts)).tolist() == [True, False, True]


def test_a_unigram_vocabulary_is_read(tmp_path: Path) -> None:
    from tokenizers import decoders, models, pre_tokenizers

    vocabulary = [("<unk>", 0.0), ("</s>", -1.5), ("▁a", -2.0), ("b", -2.5), ("▁", -3.0)]
    model = models.Unigram(vocabulary, unk_id=0, byte_fallback=False)
    parts = {"pre_tokenizer": pre_tokenizers.Metaspace(), "decoder": decoders.Metaspace()}
    write(tmp_path, definition_of(model, **parts), {"eos_token": {"content": "</s>"}, "bos_token": None})
    tokenizer = read(tmp_path)
    assert (tokenizer.end, tokenizer.start, tokenizer.pad, tokenizer.size) == (1, 1, 1, 5)
    texts = ["ab ab", "abc"]
    assert tokenizer.restores(texts, tokenizer.encode(texts)).tolist() == [True, False]
    assert from_json(tokenizer.to_json(), "x").id == tokenizer.id


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path, gpt2_like: Path) -> None:
    with pytest.raises(UsageError, match="there is no tokenizer at"):
        read(tmp_path)
    definition = json.loads((gpt2_like / "tokenizer.json").read_text())
    write(tmp_path, definition, {"eos_token": "</z>"})
    with pytest.raises(FoundryError, match="eos_token '</z>', which .* did you mean '</s>'"):
        read(tmp_path)
    write(tmp_path, definition, {"eos_token": ["</s>"]})
    with pytest.raises(FoundryError, match="eos_token"):
        read(tmp_path)
    nameless = {**definition, "added_tokens": []}
    write(tmp_path, nameless, {})
    with pytest.raises(UsageError, match="does not say which token ends a text"):
        read(tmp_path)
    for wrong, reason in ((b"{", "is no JSON"), (b"[]", "no JSON object"), (b"[" * 100_000, "is no JSON")):
        (tmp_path / "tokenizer.json").write_bytes(wrong)
        with pytest.raises(FoundryError, match=reason):
            read(tmp_path)
    damaged = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    write(tmp_path, {**definition, "normalizer": damaged})
    with pytest.raises(FoundryError, match="'tokenizers' reads"):
        read(tmp_path)
    vast = {**definition["model"]["vocab"], "far": 2**32 - 1}
    write(tmp_path, {**definition, "model": {**definition["model"], "vocab": vast}})
    with pytest.raises(FoundryError, match="has the id 4,294,967,295, more than 16,777,216 are not read"):
        read(tmp_path)
    gap = {**definition["added_tokens"][-1], "id": 9_999, "content": "<far>"}
    write(tmp_path, {**definition, "added_tokens": [*definition["added_tokens"], gap]})
    with pytest.raises(FoundryError, match="'<far>' has the id 9999 in the file"):
        read(tmp_path)
    write(tmp_path, {"model": {"type": "BPE", "vocab": {"</s>": 0}, "merges": ["a b"]}})
    with pytest.raises(FoundryError, match="'tokenizers' reads"):
        read(tmp_path)


def test_ids_are_of_what_is_encoded(gpt2_like: Path) -> None:
    ids = {ByteTokenizer().id, trained().id, train(CORPUS, 321).id, read(gpt2_like).id}
    assert len(ids) == 4
    assert all(of_text.dtype == np.int32 for of_text in trained().encode(HARD))


def test_digits_of_a_number_can_be_one_token() -> None:
    """From the left, as many as are asked for, with the space before; by themselves without being asked."""
    texts = ["12 and 7, at 0 and 13, in 2024, 20 24"] * 9
    together, apart = train(texts, 400, digits=2), train(texts, 400)

    def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
        return [tokenizer.decode([token]) for token in tokenizer.encode([text])[0].tolist()]

    assert pieces(together, "12 7") == ["12", " 7"] and pieces(together, " 2024") == [" 20", "24"]
    assert pieces(apart, "12 7") == ["1", "2", " ", "7"]
    assert together.restores(texts, together.encode(texts)).all()
    with pytest.raises(UsageError, match="at least one digit"):
        train(texts, 400, digits=0)
