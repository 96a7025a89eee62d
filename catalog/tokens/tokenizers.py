"""Tokenizers in a store, each known by its id, and by names that people gave it.

tokenizers/<id>.json        the canonical JSON of `Tokenizer.to_json`
tokenizers/names/<name>     the id of one; a name never comes to mean another
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from robot_foundry.catalog.store import Store, check_id, check_name
from robot_foundry.runtime.canonical import canonical_json, check_keys, digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.sealed import seal, unseal
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.shards.tokens.tokenizers import from_json, read

# The name of the tokenizer that is there without a file.
BYTE = "byte"
_PREFIX = re.compile(r"[0-9a-f]{4,32}")
_AGAIN = "delete it, then name the tokenizer again"


def keep(store: Store, tokenizer: Tokenizer, name: str | None = None) -> None:
    """Put the tokenizer into the store, under a name if one is given.

    UsageError for a name that another tokenizer has; by its id it is kept all the same.
    """
    store.storage.create(_path(tokenizer.id), canonical_json(tokenizer.to_json()))
    if name is not None:
        _check_free(store, tokenizer, name)
    if name is not None and name != BYTE and not store.storage.create(_name_path(name), _named(tokenizer)):
        _check_free(store, tokenizer, name)


def find(store: Store, place: str) -> Tokenizer:
    """The tokenizer of that name, id, or beginning of an id in the store, else in that file or folder.

    UsageError where there is none.
    """
    if place == BYTE:
        return ByteTokenizer()
    ids = names(store)
    if place in ids:
        return read_id(store, ids[place])
    matching = [of_all for of_all in all_ids(store) if of_all.startswith(place)]
    if _PREFIX.fullmatch(place) and matching:
        if len(matching) > 1:
            raise UsageError(f"{place} begins the ids of {len(matching)} tokenizers: give more of it")
        return read_id(store, matching[0])
    if Path(place).exists():
        return read(place)
    raise UsageError(
        f"there is no tokenizer '{place}'{nearest(place, [BYTE, *ids])}",
        hint="foundry-data tokenizer show lists those of the store; or give a folder or file",
    )


def read_id(store: Store, tokenizer_id: str) -> Tokenizer:
    """The tokenizer with this id; FoundryError where the store lacks it, or has it damaged."""
    path = _path(tokenizer_id)
    try:
        obj = json.loads(store.storage.read_bytes(path))
    except FileNotFoundError as error:
        if tokenizer_id == ByteTokenizer().id:
            return ByteTokenizer()
        raise FoundryError(
            f"the tokenizer {tokenizer_id} is not in the store {store.url}",
            hint="foundry-data tokenizer add puts one there",
        ) from error
    except ValueError as error:
        raise _damaged(store, path) from error
    if digest_of(obj) != tokenizer_id:
        raise _damaged(store, path)
    return from_json(obj, f"{store.url}/{path}")


def all_ids(store: Store) -> list[str]:
    """The ids of all that the store has, sorted."""
    paths = [path.split("/") for path in store.storage.list("tokenizers")]
    return [parts[1].removesuffix(".json") for parts in paths if len(parts) == 2]


def names(store: Store) -> dict[str, str]:
    """Ids by the names that were given, sorted by name."""
    by_name = {}
    for path in store.storage.list("tokenizers/names"):
        record = unseal(store.storage.read_bytes(path), f"{store.url}/{path}", hint=_AGAIN)
        check_keys(record, ["tokenizer"], path)
        by_name[path.rsplit("/", 1)[1]] = check_id(record["tokenizer"])
    return by_name


def _check_free(store: Store, tokenizer: Tokenizer, name: str) -> None:
    check_name(name, "tokenizer name")
    taken = {**names(store), BYTE: ByteTokenizer().id}.get(name)
    if taken not in (None, tokenizer.id):
        raise UsageError(
            f"'{name}' is the name of the tokenizer {taken[:12]} already: take another",
            hint=f"this one is in the store by its id {tokenizer.id[:12]}, which serves in place of a name",
        )


def _path(tokenizer_id: str) -> str:
    return f"tokenizers/{check_id(tokenizer_id)}.json"


def _name_path(name: str) -> str:
    return f"tokenizers/names/{check_name(name, 'tokenizer name')}"


def _named(tokenizer: Tokenizer) -> bytes:
    return seal({"tokenizer": tokenizer.id})


def _damaged(store: Store, path: str) -> FoundryError:
    return FoundryError(
        f"{store.url}/{path} is damaged: it is not what its name says",
        hint="delete it, then make or add the tokenizer again",
    )
