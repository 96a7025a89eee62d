"""Long texts are encoded in parts where that gives the tokens of the whole, and only there."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.shards.tokens import cuts, fast_tokenizer
from robot_foundry.shards.tokens.bpe import train
from robot_foundry.shards.tokens.fast_tokenizer import FastTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer

CORPUS = [
    "the cat sat on the mat, and then the other cat sat on the other mat",
    "def encode(self, texts: list[str]) -> list[int]:\n    return 1234\n",
    "le café était fermé, 日本語のテキスト, 🙂🙂",
]


@cache
def trained() -> Tokenizer:
    return train(CORPUS, 320)


WORDY = st.lists(
    st.one_of(
        st.sampled_from(
            [*" \n.,!'", "  ", "\n\n", "\r\n", "\t", "\x1c", "\xa0", "e\u0301", "日本", "🙂", "'s"]
        ),
        st.sampled_from(["the", "cat", "Sat", "on", "12", "3456", "<obs>", "(x)"]),
    ),
    max_size=60,
).map("".join)


def families() -> dict[str, FastTokenizer]:
    """Tokenizers that cut words in each of the ways after which long texts are cut."""
    ours = dict(trained().to_json())
    made = {}
    for number, expression in enumerate(sorted(cuts.WORDS)):
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        joined = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        definition = {**ours["definition"], "normalizer": {"type": "NFC"}}
        definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, joined]}
        made[str(number)] = FastTokenizer(definition, end=ours["end"], start=ours["start"], pad=ours["pad"])
    digits = dict(train(CORPUS, 320, digits=2).to_json())
    made["digits"] = FastTokenizer(digits["definition"], end=digits["end"], start=digits["start"], pad=0)
    return {**made, "trained": FastTokenizer(ours["definition"], end=ours["end"], start=ours["start"], pad=0)}


FAMILIES = families()


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None)
@given(WORDY, st.integers(1, 12))
def test_a_long_text_has_the_tokens_of_the_whole(name: str, text: str, most: int) -> None:
    tokenizer = FAMILIES[name]
    assert cuts.can_be_cut(tokenizer.transformers_json())
    parts = list(cuts.pieces(text, most))
    assert "".join(parts) == text
    whole = tokenizer.encode([text])[0].tolist()
    assert [i for ids in tokenizer.encode(parts) for i in ids.tolist()] == whole


def test_a_very_long_document_is_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["short", " ".join(CORPUS * 50), "", "x" * 5000]
    expected = [ids.tolist() for ids in trained().encode(texts)]
    monkeypatch.setattr(fast_tokenizer, "LONG", 100)
    asked: list[int] = []
    engine = trained()._engine
    monkeypatch.setattr(trained(), "_engine", Watched(engine, asked))
    assert [ids.tolist() for ids in trained().encode(texts)] == expected
    assert len(asked) > 50 and sorted(asked)[-2] < 200 and max(asked) == 5000


class Watched:
    """Notes how long the texts of each call are."""

    def __init__(self, engine: Any, asked: list[int]) -> None:
        self.engine, self.asked = engine, asked

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.asked.append(sum(map(len, texts)))
        return self.engine.encode_batch_fast(texts, **options)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated"}},
        {"added_tokens": [{"content": "a b", "special": False, "lstrip": False, "rstrip": False}]},
        {"added_tokens": [{"content": "ab", "special": False, "lstrip": True, "rstrip": False}]},
        {"model": {"type": "Unigram"}},
    ],
)
def test_other_tokenizers_see_the_whole(change: dict[str, Any]) -> None:
    assert not cuts.can_be_cut({**trained().transformers_json(), **change})
