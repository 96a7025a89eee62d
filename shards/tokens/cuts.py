"""Where a long text can be cut so that its parts have the tokens of the whole.

`tokenizers` holds about 140 bytes a character of what it encodes, so one document of 50 MB would take 7 GB.
Tokenizers that cut words as GPT-2, Llama 3 or Qwen do have no token across two places: before a space between
two characters that are no space, and behind a line feed between two such. NFC joins nothing there either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The rules by which these models cut text into words, as `pre_tokenizer` of a tokenizer.json has them.
GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"
QWEN2 = rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}"
WORDS = (GPT2, LLAMA3, QWEN2)
_NUMBERS = re.compile(r" \?\\p\{N\}\{1,\d+\}")  # what `numbers` gives
# No space to Python, nor to the expressions above.
_SOLID = r"[^\s\x00-\x20\x7f-\xa0]"
_PLACE = re.compile(rf"(?<={_SOLID})(?= {_SOLID})|(?<={_SOLID}\n)(?={_SOLID})")


def numbers(digits: int) -> str:
    """The rule that cuts numbers into parts of so many digits, a space before them in the first."""
    return rf" ?\p{{N}}{{1,{digits}}}"


def pieces(text: str, most: int) -> Iterator[str]:
    """The text in parts of `most` characters, or more where it cannot be cut there."""
    start = 0
    while len(text) - start > most:
        place = _PLACE.search(text, start + most)
        if place is None:
            break
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]


def can_be_cut(definition: Mapping[str, Any]) -> bool:
    """Whether the tokenizer of a tokenizer.json is known to have no token across such places."""
    normalizer = definition.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        return False
    if definition["model"].get("type") != "BPE" or any(map(_spans, definition["added_tokens"])):
        return False
    steps = _steps(definition.get("pre_tokenizer"))
    return all(map(_is_local, steps)) and any(map(_cuts_words, steps))


def _spans(token: Mapping[str, Any]) -> bool:
    """Whether a token that text may become reaches over a space."""
    if token["special"]:
        return False
    content: str = token["content"]
    return token["lstrip"] or token["rstrip"] or (bool(re.search(r"\s", content)) and not content.isspace())


def _steps(pre_tokenizer: Any) -> list[Mapping[str, Any]]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer.get("type") == "Sequence":
        return [step for part in pre_tokenizer["pretokenizers"] for step in _steps(part)]
    return [pre_tokenizer]


def _is_local(step: Mapping[str, Any]) -> bool:
    if step.get("type") == "ByteLevel":
        return not step.get("add_prefix_space", True)
    return step.get("type") == "Digits" or _cuts_words(step) or bool(_NUMBERS.fullmatch(_split(step)))


def _cuts_words(step: Mapping[str, Any]) -> bool:
    if step.get("type") == "ByteLevel":
        return bool(step.get("use_regex", True))
    return _split(step) in WORDS


def _split(step: Mapping[str, Any]) -> str:
    """The expression whose matches a step makes parts of their own; empty for any other step."""
    pattern = step.get("pattern")
    isolates = (
        step.get("type") == "Split" and step.get("behavior") == "Isolated" and not step.get("invert", False)
    )
    return str(pattern.get("Regex", "")) if isolates and isinstance(pattern, Mapping) else ""
