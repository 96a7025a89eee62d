"""Tokenizers from files: ours, and what Hugging Face's tools write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.shards.tokens import byte_tokenizer, fast_tokenizer
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.fast_tokenizer import FastTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
# What ends a text in tokenizers that do not say so: the names that are in use for it.
ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")


def from_json(obj: Any, where: str) -> Tokenizer:
    """What `Tokenizer.to_json` gave; FoundryError names `where` and what is wrong."""
    if not isinstance(obj, Mapping) or obj.get("type") not in (byte_tokenizer.TYPE, fast_tokenizer.TYPE):
        raise FoundryError(f"{where} describes no tokenizer")
    if obj["type"] == byte_tokenizer.TYPE:
        tokenizer: Tokenizer = ByteTokenizer()
    else:
        if not isinstance(obj.get("definition"), Mapping):
            raise FoundryError(f"{where} describes no tokenizer: it has no definition")
        end, start, pad = (_number(obj, name, where) for name in ("end", "start", "pad"))
        tokenizer = _made(obj["definition"], where, end=end, start=start, pad=pad)
    if canonical_json(tokenizer.to_json()) != canonical_json(dict(obj)):
        raise FoundryError(f"{where} describes no tokenizer as this robot_foundry writes it")
    return tokenizer


def read(path: str | Path) -> Tokenizer:
    """The tokenizer in a file, or in the file tokenizer.json of a folder.

    A file of ours, or a tokenizer.json as Hugging Face's libraries have it; then what begins, ends and pads
    texts is what the tokenizer_config.json beside it says. UsageError where there is none.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"there is no tokenizer at {path}: {file} is no file",
            hint=f"give a folder with {FILE}, or such a file; tokenizer.model alone is not read",
        )
    obj = _json(file)
    if obj.get("type") in (byte_tokenizer.TYPE, fast_tokenizer.TYPE):
        return from_json(obj, str(file))
    config = file.with_name(CONFIG)
    return from_definition(obj, _json(config) if config.is_file() else {}, str(file))


def from_definition(definition: Mapping[str, Any], config: Mapping[str, Any], where: str) -> FastTokenizer:
    """Of a parsed tokenizer.json, and of a tokenizer_config.json, of which it needs the names of tokens."""
    ids = _ids(definition, where)
    end = _named(config, "eos_token", ids, where)
    if end is None:
        end = next((ids[name] for name in ENDS if name in ids), None)
    if end is None:
        raise UsageError(
            f"{where} does not say which token ends a text",
            hint=f'write {{"eos_token": "NAME"}} into {CONFIG} beside it',
        )
    start, pad = (_named(config, name, ids, where) for name in ("bos_token", "pad_token"))
    return _made(
        definition, where, end=end, start=end if start is None else start, pad=end if pad is None else pad
    )


def _made(definition: Mapping[str, Any], where: str, *, end: int, start: int, pad: int) -> FastTokenizer:
    try:
        return FastTokenizer(definition, end=end, start=start, pad=pad)
    except FoundryError as error:
        raise FoundryError(f"{where}: {error.message}", hint=error.hint) from error


def _number(obj: Mapping[str, Any], name: str, where: str) -> int:
    if type(obj.get(name)) is not int:
        raise FoundryError(f"{where} describes no tokenizer: its {name} is {obj.get(name)!r}")
    return int(obj[name])


def _ids(definition: Mapping[str, Any], where: str) -> dict[str, int]:
    """Ids by token, of the vocabulary and of what was added to it."""
    try:
        vocabulary = definition["model"]["vocab"]
        if isinstance(vocabulary, list):
            vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
        added = {token["content"]: token["id"] for token in definition.get("added_tokens") or ()}
        return {**vocabulary, **added}
    except (TypeError, KeyError, ValueError) as error:
        raise FoundryError(f"{where} is no tokenizer.json: it has no vocabulary") from error


def _named(config: Mapping[str, Any], key: str, ids: Mapping[str, int], where: str) -> int | None:
    """The id of the token that the config names so, as a text or an object with its content."""
    value = config.get(key)
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is None:
        return None
    if not isinstance(value, str) or value not in ids:
        near = nearest(value, ids) if isinstance(value, str) else ""
        raise FoundryError(f"{CONFIG} has {key} {value!r}, which {where} does not have{near}")
    return ids[value]


def _json(file: Path) -> dict[str, Any]:
    try:
        obj = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FoundryError(f"{file} is no JSON: {error}") from error
    if not isinstance(obj, dict):
        raise FoundryError(f"{file} is no JSON object")
    return obj
