"""How pairs become tokens: which of them are learnt, where pictures stand, and what a prompt is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Engine
from transformers import PreTrainedTokenizerFast

from robot_foundry.loader.pairs.template import (
    PairText,
    Rendered,
    answer_ends,
    answer_text,
    num_text_tokens,
    prompt,
    rendered,
    variants,
    without_pictures,
)
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.shards.tokens.tokenizers import from_definition

CHATML = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    Turn("system", "Be brief."),
    Turn("user", "What is it?"),
    Turn("assistant", "A cup."),
    Turn("user", "Sure?"),
    Turn("assistant", "Yes, it is."),
]


def definition(*specials: str) -> dict[str, Any]:
    """A tokenizer.json of bytes, with these special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Engine(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return json.loads(engine.to_str())


def of_specials(*specials: str, **config: str) -> Tokenizer:
    return from_definition(definition(*specials), {"eos_token": specials[0], **config}, "here")


CHATML_TOKENS = of_specials("<|im_end|>", "<|im_start|>", "<|endoftext|>")
PLAIN_TOKENS = of_specials("</s>", "<s>", bos_token="<s>")
DIALECTS = {"roles": ByteTokenizer(), "chatml": CHATML_TOKENS, "plain": PLAIN_TOKENS}


def said(made: Rendered, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(made.ids_N, specials=True)


def learnt(made: Rendered, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(made.ids_N[made.learn_N], specials=True)


def test_a_caption_stands_behind_its_pictures_and_is_learnt_with_its_end() -> None:
    tokenizer = ByteTokenizer()
    made = rendered(PairText(2, {"caption": "a cup"}), tokenizer, 3)
    assert said(made, tokenizer) == "<image>" * 6 + "a cup<|endoftext|>"
    assert learnt(made, tokenizer) == "a cup<|endoftext|>"
    assert made.image_starts == (0, 3)


def test_a_caption_without_pictures_has_what_it_is_predicted_from() -> None:
    tokenizer = ByteTokenizer()
    made = rendered(PairText(0, {"caption": "a cup"}), tokenizer, 3)
    assert said(made, tokenizer) == "<|endoftext|>a cup<|endoftext|>"
    assert learnt(made, tokenizer) == "a cup<|endoftext|>"


def test_turns_are_written_with_the_tokens_of_roles() -> None:
    tokenizer = ByteTokenizer()
    made = rendered(PairText(0, {}, CHAT), tokenizer, 3)
    assert said(made, tokenizer) == (
        "<|system|>Be brief.<|end|><|user|>What is it?<|end|><|assistant|>A cup.<|end|>"
        "<|user|>Sure?<|end|><|assistant|>Yes, it is.<|end|>"
    )
    assert learnt(made, tokenizer) == "A cup.<|end|>Yes, it is.<|end|>"


def test_chatml_is_as_transformers_writes_it() -> None:
    messages = [{"role": turn.role, "content": turn.text} for turn in CHAT]
    engine = Engine.from_str(
        __import__("json").dumps(definition("<|im_end|>", "<|im_start|>", "<|endoftext|>"))
    )
    theirs = PreTrainedTokenizerFast(tokenizer_object=engine, eos_token="<|im_end|>", chat_template=CHATML)
    whole = theirs.apply_chat_template(messages, return_dict=False)
    made = rendered(PairText(0, {}, CHAT), CHATML_TOKENS, 3)
    assert made.ids_N.tolist() == whole[:-1]  # but for the line end behind the last turn
    assert learnt(made, CHATML_TOKENS) == "A cup.<|im_end|>Yes, it is.<|im_end|>"
    asked = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert prompt(CHAT[:-1], CHATML_TOKENS, 3).ids_N.tolist() == asked


def test_without_tokens_for_it_a_conversation_is_plain_text() -> None:
    made = rendered(PairText(0, {}, CHAT), PLAIN_TOKENS, 3)
    assert said(made, PLAIN_TOKENS) == (
        "<s>Be brief.\nQuestion: What is it?\nAnswer: A cup.</s>\nQuestion: Sure?\nAnswer: Yes, it is.</s>"
    )
    assert learnt(made, PLAIN_TOKENS) == " A cup.</s> Yes, it is.</s>"


@pytest.mark.parametrize("name", DIALECTS)
def test_a_prompt_is_what_stands_in_front_of_the_answer(name: str) -> None:
    tokenizer = DIALECTS[name]
    for turns in (CHAT, [Turn("user", "<image>\nWhat <image>?"), Turn("assistant", "a cup")]):
        asked = prompt(turns[:-1], tokenizer, 3)
        whole = rendered(PairText(2, {}, turns), tokenizer, 3)
        assert np.array_equal(whole.ids_N[: len(asked)], asked.ids_N)
        assert whole.image_starts == asked.image_starts
        answer = whole.ids_N[len(asked) :]
        assert whole.learn_N[len(asked) :].all()
        assert answer[-1] in answer_ends(tokenizer)
        assert answer_text(answer[:-1], tokenizer) == turns[-1].text
    captioned = rendered(PairText(1, {"text": "a cup"}), tokenizer, 3)
    asked = prompt((), tokenizer, 3, num_pictures=1)
    assert np.array_equal(captioned.ids_N[: len(asked)], asked.ids_N)
    assert captioned.ids_N[-1] in answer_ends(tokenizer)
    assert answer_text(captioned.ids_N[len(asked) : -1], tokenizer) == "a cup"


def test_pictures_stand_where_the_text_has_their_places() -> None:
    tokenizer = ByteTokenizer()
    turns = [Turn("user", "<image>is <image><image>?"), Turn("assistant", "<|user|>")]
    made = rendered(PairText(3, {}, turns), tokenizer, 2)
    image = "<image>" * 2
    assert said(made, tokenizer).startswith(f"<|user|>{image}is {image}{image}?<|end|><|assistant|>")
    assert made.image_starts == (1, 6, 8)
    # What a text says is never a special token.
    assert made.ids_N[made.learn_N].tolist() == [*b"<|user|>", tokenizer.specials["<|end|>"]]


def test_where_no_token_stands_for_images_the_padding_does() -> None:
    made = rendered(PairText(1, {"c": "x"}), PLAIN_TOKENS, 2)
    assert (
        made.ids_N[list(range(made.image_starts[0], made.image_starts[0] + 2))].tolist()
        == [PLAIN_TOKENS.pad] * 2
    )


def test_of_several_captions_and_a_conversation_one_is_chosen() -> None:
    tokenizer = ByteTokenizer()
    pair = PairText(0, {"b": "two", "a": "one"}, [Turn("user", "?"), Turn("assistant", "three")])
    answers = [learnt(rendered(pair, tokenizer, 1, choice), tokenizer) for choice in (0, 0.34, 0.99)]
    assert answers == ["one<|endoftext|>", "two<|endoftext|>", "three<|end|>"]


def test_a_pair_that_says_nothing_teaches_nothing() -> None:
    made = rendered(PairText(1), ByteTokenizer(), 2)
    assert len(made) == 3 and not made.learn_N.any()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def pair_of(count: int, captions: dict[str, str], answers: list[str]) -> PairText:
    places = ["<image>" * count, *[""] * len(answers)]
    asked = [
        (Turn("user", f"{place}why?"), Turn("assistant", a))
        for place, a in zip(places, answers, strict=False)
    ]
    return PairText(count, captions, [turn for both in asked for turn in both])


PAIRS = st.builds(
    pair_of,
    st.integers(0, 3),
    st.dictionaries(st.sampled_from("abc"), TEXTS, max_size=2),
    st.lists(TEXTS, max_size=2),
)


@given(PAIRS, st.sampled_from(sorted(DIALECTS)), st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_lengths_are_those_of_what_is_rendered(pair: PairText, name: str, image: int, choice: float) -> None:
    tokenizer = DIALECTS[name]
    forms = variants(pair, tokenizer)
    lengths = [count + image * pair.num_pictures for count in num_text_tokens(forms, tokenizer)]
    made = rendered(pair, tokenizer, image, choice)
    assert len(made) == lengths[int(choice * len(forms))] <= max(lengths)
    assert not made.learn_N[0]  # nothing predicts the first
    assert len(made.image_starts) == pair.num_pictures


@given(PAIRS, st.sampled_from(sorted(DIALECTS)), st.integers(1, 5), st.integers(5, 60))
def test_without_its_pictures_the_same_of_a_pair_is_learnt(
    pair: PairText, name: str, image: int, length: int
) -> None:
    tokenizer = DIALECTS[name]
    seen = rendered(pair, tokenizer, image).cut(length, image)
    made = without_pictures(seen, tokenizer, image)
    assert learnt(made, tokenizer) == learnt(seen, tokenizer)
    assert len(made) and not made.learn_N[0] and made.image_starts == ()
    gone = len(seen) - image * len(seen.image_starts)
    if pair.captions and gone:  # the caption is as that of a pair that never had a picture
        alone = rendered(PairText(0, pair.captions), tokenizer, image)
        assert np.array_equal(made.ids_N, alone.ids_N[: len(made)])


@given(PAIRS, st.integers(1, 5), st.integers(5, 60))
def test_what_is_cut_keeps_whole_pictures(pair: PairText, image: int, length: int) -> None:
    whole = rendered(pair, ByteTokenizer(), image)
    kept = whole.cut(length, image)
    assert len(kept) <= length and np.array_equal(kept.ids_N, whole.ids_N[: len(kept)])
    assert kept.image_starts == whole.image_starts[: len(kept.image_starts)]
    assert all(start + image <= len(kept) for start in kept.image_starts)
    # No more is lost than must be: up to the length, or to a picture that would pass it.
    lost = whole.image_starts[len(kept.image_starts) :]
    assert len(kept) == min(len(whole), length) or (len(kept) in lost and len(kept) + image > length)
