"""GGUF files: opened as data, and the tokenizer in one as Hugging Face's `tokenizers` would say it.

GGUF holds vocabulary and merges, and of the rule that cuts text into words only a name, so each rule that is
known here is spelled out. Rules and their names are those of llama.cpp's `llama-vocab.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.byte_tokenizer import special_token
from robot_foundry.shards.tokens.cuts import LLAMA3, QWEN2

if TYPE_CHECKING:
    from gguf import GGUFReader

GGUF_SUFFIX = ".gguf"
_CONTROL, _USER_DEFINED = 3, 4  # types of tokens
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_GPT2 = {**_BYTES, "use_regex": True}


@dataclass(frozen=True)
class Rule:
    """How text is cut before merges: Hugging Face's `pre_tokenizer`, and what goes with it."""

    pre_tokenizer: Mapping[str, Any]
    normalizer: Mapping[str, Any] | None = None
    ignore_merges: bool = False


def _cut_by(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTES, "use_regex": False}]}


RULES: Mapping[str, Rule] = {
    "default": Rule(_GPT2),
    "gpt-2": Rule(_GPT2),
    "smollm": Rule(
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2]}
    ),
    "qwen2": Rule(_cut_by(QWEN2), normalizer={"type": "NFC"}),
    "llama-bpe": Rule(_cut_by(LLAMA3), ignore_merges=True),
}


def open_gguf(path: Path) -> GGUFReader:
    """FoundryError if it is damaged, or if the package that reads it is not installed."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise FoundryError(
            f"{path} cannot be read: the package gguf is not installed",
            hint="pip install 'robot-foundry[hf]'",
        ) from error
    if not path.is_file():
        raise FoundryError(f"there is no file {path}")
    with reading(path):
        reader = GGUFReader(path)
        if reader.byte_order != "I":
            raise ValueError("its bytes are in the other order than this machine's")
    return reader


def metadata(reader: GGUFReader, path: Path) -> dict[str, Any]:
    """What a GGUF says beside its tensors, by key."""
    with reading(path):
        return {name: field.contents() for name, field in reader.fields.items()}


def gguf_tokenizer(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What tokenizer.json and tokenizer_config.json would say of the tokenizer in a GGUF.

    FoundryError unless it is byte-level BPE by one of `RULES`.
    """
    stated = metadata(open_gguf(path), path)
    kind, name = stated.get("tokenizer.ggml.model"), stated.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or name not in RULES:
        what = f"is {kind!r}, not byte-level BPE" if kind != "gpt2" else f"cuts text by the rule {name!r}"
        raise FoundryError(
            f"the tokenizer in {path} {what}; read are byte-level BPE by {', '.join(RULES)}",
            hint="give the tokenizer.json of the same model",
        )
    token, merge = _texts(stated, "tokens", path), _texts(stated, "merges", path)
    kinds = stated.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(token):
        raise FoundryError(f"{path}: tokenizer.ggml.token_type must name a type for each of the tokens")
    if len(set(token)) != len(token):
        raise FoundryError(f"{path}: tokenizer.ggml.tokens holds a token twice")
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
    ids = {role: _id_of(stated, key, len(token), path) for role, key in roles.items()}
    config = {role: token[id] for role, id in ids.items() if id is not None}
    return _tokenizer_json(RULES[name], token, merge, kinds), config


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around what reads a file from anywhere: a damaged one may raise anything."""
    try:
        yield
    except Exception as error:
        raise FoundryError(f"{path} cannot be read as GGUF: {error}", hint="copy it again") from error


def _tokenizer_json(rule: Rule, token: list[str], merge: list[str], kinds: list[int]) -> dict[str, Any]:
    added = [
        {**special_token(text, id), "special": kind == _CONTROL}
        for id, (text, kind) in enumerate(zip(token, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": rule.ignore_merges,
        "vocab": {text: id for id, text in enumerate(token)}, "merges": [pair.split(" ") for pair in merge],
    }  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": rule.normalizer,
        "pre_tokenizer": rule.pre_tokenizer,
        "post_processor": None,
        "decoder": {**_BYTES, "use_regex": True},
        "model": model,
    }


def _texts(stated: Mapping[str, Any], key: str, path: Path) -> list[str]:
    texts = stated.get(f"tokenizer.ggml.{key}")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise FoundryError(f"{path}: tokenizer.ggml.{key} must be a list of texts")
    return texts


def _id_of(stated: Mapping[str, Any], key: str, size: int, path: Path) -> int | None:
    key = f"tokenizer.ggml.{key}_token_id"
    id = stated.get(key)
    if id is not None and (type(id) is not int or not 0 <= id < size):
        raise FoundryError(f"{path}: {key} must be an id of its {size} tokens, not {id}")
    return id
