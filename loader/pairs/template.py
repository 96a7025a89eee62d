"""How a pair becomes tokens, and which of them are to be learnt.

A caption: its pictures, the caption, and the tokenizer's `end`. Caption and end are learnt.
A conversation: turns by the special tokens that the tokenizer has. Answers and the end of each are learnt.

    roles    <|user|>…<|end|><|assistant|>…<|end|>, of tokenizers made here
    chatml   <|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n…<|im_end|>\\n
    plain    Question: …\\nAnswer: … and the tokenizer's `end`, for any other

A pair that has several captions, or captions and a conversation, is one of these at a time. A picture stands
where PLACE is, as its image tokens, in front of a caption. Where the tokenizer has a `start` of its own,
that comes first, and so it does where else nothing would be in front of a caption.

Legend: N tokens of a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robot_foundry.shards.pairs.pair import ASSISTANT, PLACE, SYSTEM, USER, Turn
from robot_foundry.shards.tokens.tokenizer import IMAGE, Tokenizer

TEMPLATE_VERSION = 1  # of all that this module decides
_IM_START, _IM_END = "<|im_start|>", "<|im_end|>"
_ROLE_NAMES, _ROLE_END = {SYSTEM: "<|system|>", USER: "<|user|>", ASSISTANT: "<|assistant|>"}, "<|end|>"
_PICTURE = None
Content = str | int | None  # a text to encode, an id, or a picture
Piece = tuple[Content, bool]  # and whether it is to be learnt


@dataclass(frozen=True)
class PairText:
    """What a pair says: as `shards.pairs.pair.Pair`, without its pictures, of which there are so many."""

    num_pictures: int = 0
    captions: Mapping[str, str] = field(default_factory=dict)
    turns: Sequence[Turn] = ()


@dataclass(frozen=True)
class Rendered:
    """ids_N, int32; learn_N says which of them are to be predicted; of each picture where its first image
    token stands."""

    ids_N: NDArray[np.int32]
    learn_N: NDArray[np.bool_]
    image_starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids_N)

    def cut(self, length: int, image_tokens: int) -> Rendered:
        """As much of its beginning as has `length` tokens, without a picture that does not fit whole."""
        if len(self.ids_N) <= length:
            return self
        lost = [start for start in self.image_starts if start + image_tokens > length]
        end = min([length, *lost])
        kept = tuple(start for start in self.image_starts if start < end)
        return Rendered(self.ids_N[:end], self.learn_N[:end], kept)


def without_pictures(pair: Rendered, tokenizer: Tokenizer, image_tokens: int) -> Rendered:
    """The same tokens without those of pictures. Exactly the same are learnt: the tokenizer's `start` comes
    where nothing else would be in front of them."""
    is_picture_N = np.zeros(len(pair), bool)
    for start in pair.image_starts:
        is_picture_N[start : start + image_tokens] = True
    ids_N, learn_N = pair.ids_N[~is_picture_N], pair.learn_N[~is_picture_N]
    if learn_N[:1].all():  # or there is nothing
        ids_N, learn_N = np.insert(ids_N, 0, tokenizer.start), np.insert(learn_N, 0, False)
    return Rendered(ids_N, learn_N, ())


def rendered(pair: PairText, tokenizer: Tokenizer, image_tokens: int, choice: float = 0.0) -> Rendered:
    """The tokens of a pair; of its n variants, captions by name and then the conversation, it is that at
    `choice` · n (0 ≤ choice < 1)."""
    return rendered_all([chosen(pair, tokenizer, choice)], tokenizer, image_tokens)[0]


def prompt(
    turns: Sequence[Turn], tokenizer: Tokenizer, image_tokens: int, *, num_pictures: int = 0
) -> Rendered:
    """The tokens up to where an answer to `turns` begins; without any, where a caption does of so many
    pictures. `answer_text` is what the tokens say that follow, up to one of `answer_ends`."""
    if turns:
        dialect = dialect_of(tokenizer)
        pieces = [*_conversation(turns, dialect, is_open=True), *_unlearnt(dialect.opening[ASSISTANT])]
    else:
        pieces = [(_PICTURE, False)] * num_pictures
    return rendered_all([_begun(pieces, tokenizer)], tokenizer, image_tokens)[0]


def answer_ends(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end an answer or a caption."""
    return tuple(sorted({dialect_of(tokenizer).end, tokenizer.end}))


def answer_text(ids: Sequence[int] | NDArray[np.integer], tokenizer: Tokenizer) -> str:
    """What an answer says, without what is only written in front of each."""
    return tokenizer.decode(ids).removeprefix(dialect_of(tokenizer).before_answer)


@dataclass(frozen=True)
class Dialect:
    """How turns are written: `opening` and `closing` by role, `before_answer` in front of each answer and
    `end` behind it, both learnt with it."""

    name: str
    opening: Mapping[str, Sequence[Content]]
    closing: Mapping[str, Sequence[Content]]
    end: int
    before_answer: str = ""


def dialect_of(tokenizer: Tokenizer) -> Dialect:
    """By the special tokens that it has."""
    ids = tokenizer.specials
    if {*_ROLE_NAMES.values(), _ROLE_END} <= ids.keys():
        opening = {role: (ids[name],) for role, name in _ROLE_NAMES.items()}
        end = ids[_ROLE_END]
        return Dialect("roles", opening, {SYSTEM: (end,), USER: (end,), ASSISTANT: ()}, end)
    if {_IM_START, _IM_END} <= ids.keys():
        headed = {role: (ids[_IM_START], f"{role}\n") for role in _ROLE_NAMES}
        closed = (ids[_IM_END], "\n")
        return Dialect("chatml", headed, {SYSTEM: closed, USER: closed, ASSISTANT: ("\n",)}, ids[_IM_END])
    named = {SYSTEM: (), USER: ("Question: ",), ASSISTANT: ("Answer:",)}
    return Dialect("plain", named, dict.fromkeys(_ROLE_NAMES, ("\n",)), tokenizer.end, " ")


def chosen(pair: PairText, tokenizer: Tokenizer, choice: float) -> list[Piece]:
    """The pieces of the variant at `choice`."""
    return _variant(pair, tokenizer, int(choice * _num_variants(pair)))


def variants(pair: PairText, tokenizer: Tokenizer) -> list[list[Piece]]:
    """The pieces of each form that a pair can take; of one that says nothing, its pictures alone."""
    return [_variant(pair, tokenizer, number) for number in range(_num_variants(pair))]


def _num_variants(pair: PairText) -> int:
    return max(1, len(pair.captions) + bool(pair.turns))


def _variant(pair: PairText, tokenizer: Tokenizer, number: int) -> list[Piece]:
    names, end = sorted(pair.captions), tokenizer.end
    if number < len(names):
        said: list[Piece] = [(pair.captions[names[number]], True), (end, True)]
    elif pair.turns:
        return _begun(_conversation(pair.turns, dialect_of(tokenizer)), tokenizer)
    else:
        said = [(end, False)]
    return _begun([(_PICTURE, False)] * pair.num_pictures + said, tokenizer)


def num_text_tokens(forms: Sequence[Sequence[Piece]], tokenizer: Tokenizer) -> list[int]:
    """How many tokens each form has beside those of its pictures."""
    lengths = iter([len(ids) for ids in tokenizer.encode(_texts(forms))])
    return [
        sum(next(lengths) if isinstance(content, str) else content is not _PICTURE for content, _ in form)
        for form in forms
    ]


def rendered_all(forms: Sequence[Sequence[Piece]], tokenizer: Tokenizer, image_tokens: int) -> list[Rendered]:
    """The tokens of many pairs, all texts encoded at once."""
    encoded = iter(tokenizer.encode(_texts(forms)))
    image = np.full(image_tokens, tokenizer.specials.get(IMAGE, tokenizer.pad), np.int32)
    parts, sizes, learnt, ends, starts = [np.empty(0, np.int32)], [0], [False], [0], []
    at = 0
    for form in forms:
        of_form = []
        for content, is_learnt in form:
            if isinstance(content, str):
                part = next(encoded)
            elif content is _PICTURE:
                of_form.append(at - ends[-1])
                part = image
            else:
                part = np.array([content], np.int32)
            parts.append(part)
            sizes.append(len(part))
            learnt.append(is_learnt)
            at += len(part)
        ends.append(at)
        starts.append(tuple(of_form))
    ids, learn = np.concatenate(parts), np.repeat(learnt, sizes)
    return [
        Rendered(ids[first:end], learn[first:end], of_form)
        for (first, end), of_form in zip(pairwise(ends), starts, strict=True)
    ]


def _texts(forms: Iterable[Iterable[Piece]]) -> list[str]:
    return [content for form in forms for content, _ in form if isinstance(content, str)]


def _conversation(turns: Sequence[Turn], dialect: Dialect, *, is_open: bool = False) -> list[Piece]:
    """The pieces of turns. What closes the last one stands only where more is to come (`is_open`)."""
    pieces: list[Piece] = []
    for number, turn in enumerate(turns):
        is_answer = turn.role == ASSISTANT
        pieces += _unlearnt(dialect.opening[turn.role])
        text = dialect.before_answer + turn.text if is_answer else turn.text
        pieces += _with_pictures(text, is_answer)
        if is_answer:
            pieces.append((dialect.end, True))
        if is_open or number + 1 < len(turns):
            pieces += _unlearnt(dialect.closing[turn.role])
    return pieces


def _with_pictures(text: str, is_learnt: bool) -> list[Piece]:
    first, *others = text.split(PLACE)
    pieces: list[Piece] = [(first, is_learnt)]
    for part in others:
        pieces += [(_PICTURE, False), (part, is_learnt)]
    return pieces


def _unlearnt(contents: Sequence[Content]) -> list[Piece]:
    return [(content, False) for content in contents]


def _begun(pieces: Sequence[Piece], tokenizer: Tokenizer) -> list[Piece]:
    """With `start` where it belongs. Neighbouring texts are joined, so that they are encoded as one."""
    joined: list[Piece] = []
    for content, is_learnt in pieces:
        if isinstance(content, str) and joined and joined[-1][1] == is_learnt:
            before = joined[-1][0]
            if isinstance(before, str):
                joined[-1] = (before + content, is_learnt)
                continue
        if content != "":
            joined.append((content, is_learnt))
    has_own_start = tokenizer.start != tokenizer.end and joined[:1] != [(tokenizer.start, False)]
    is_first_learnt = not joined or joined[0][1]
    return [(tokenizer.start, False), *joined] if has_own_start or is_first_learnt else joined
