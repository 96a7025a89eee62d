"""What an object of JSON, or a row of a table, says of a pair: captions, turns, pictures, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from robot_foundry.ingest.sources.formats.json_values import UnusableJson, plain, type_of, unicode_text
from robot_foundry.ingest.sources.pairs import conversations
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.pairs.pair import MOST_PICTURES, PLACE, Turn

# What tools write: img2dataset and COCO `caption`, Hugging Face `text`, DataComp `re_caption` and `syn_text`.
PLAIN_CAPTIONS = ("caption", "captions", "text", "texts", "txt", "alt_text", "syn_text")
CAPTION = re.compile(rf"{'|'.join(PLAIN_CAPTIONS)}|.*captions?(_?[0-9]+)?", re.IGNORECASE)
IMAGE_KEYS = (
    "image", "images", "file_name", "file_names", "image_path", "image_paths", "img_path", "filepath",
    "filename", "img", "jpg", "png", "webp",
)  # fmt: skip
# Of an object, in a reason.
MOST_KEYS = 64


@dataclass(frozen=True)
class Record:
    """What is said of a pair, beside its pictures' bytes.

    `pictures` are keys, and values that name or hold a picture each. `silent` are sentences on what
    says nothing.
    """

    captions: Mapping[str, str]
    turns: tuple[Turn, ...]
    metadata: Mapping[str, Any]
    pictures: tuple[tuple[str, Any], ...] = ()
    silent: tuple[str, ...] = ()


def record_of(values: Mapping[str, Any], content: Asked, *, has_images: bool) -> Record:
    """The record of an object, of which a key may name pictures if `has_images`. UnusableJson for none."""
    captions: dict[str, str] = {}
    turns: tuple[Turn, ...] = ()
    metadata: dict[str, Any] = {}
    silent: list[str] = []
    pictures = pictures_of(values, content) if has_images else ()
    check_number(pictures)
    taken = {key for key, _ in pictures}
    keys = _image_keys(content) if has_images else ()
    for name, value in values.items():
        if name in taken or (value is None and name in keys):
            continue
        if _is_conversation(name, value):
            if value is None:
                silent.append(f"its '{name}' is null")
                continue
            if turns:
                raise UnusableJson(f"it has a second conversation, '{name}'")
            turns = conversations.turns_of(value, name)
        elif _is_caption(name, value, content):
            said = _captions(name, value)
            twice = next((each for each in said if each in captions), None)
            if twice is not None:
                raise UnusableJson(f"it has two captions that are called '{twice}'")
            captions.update(said)
            if not said:
                silent.append(f"its '{name}' is {'null' if value is None else 'empty'}")
        elif content.metadata is None or name in content.metadata:
            metadata[unicode_text(name, name)] = plain(value, name)
    return Record(captions, turns, metadata, pictures, tuple(silent))


def pictures_of(values: Mapping[str, Any], content: Asked) -> tuple[tuple[str, Any], ...]:
    """What names or holds pictures in an object, in order, each value behind its key.

    Of the keys that a spec names all are taken, else the first of IMAGE_KEYS that has a value.
    """
    keys = [key for key in _image_keys(content) if values.get(key) is not None]
    found: list[tuple[str, Any]] = []
    for key in keys if content.image_keys is not None else keys[:1]:
        value = values[key]
        found += [(key, item) for item in (value if isinstance(value, list | tuple) else (value,))]
    return tuple(found)


def check_number(pictures: Sequence[Any]) -> None:
    """UnusableJson for more than a pair may have; asked before any is read, as memory holds all of a pair."""
    if len(pictures) > MOST_PICTURES:
        raise UnusableJson(f"it has more than {MOST_PICTURES} pictures")


def pair_of(place: str, record: Record, pictures: Sequence[RawPicture], content: Asked) -> RawPair | Unusable:
    """The pair, if there is something to learn from it."""
    absent = next((picture for picture in pictures if picture.data is None), None)
    if absent is not None:
        return Unusable(f"{place} ({absent.name})", absent.absent or "its picture is not there")
    try:
        if not record.captions and not record.turns:
            raise UnusableJson(
                " and ".join(record.silent) or _nothing_said(tuple(record.metadata), content.captions)
            )
        if not record.turns and not pictures:
            hint = "; content.image_keys names what has pictures" if record.metadata else ""
            raise UnusableJson(f"it has a caption and no picture{_keys(tuple(record.metadata))}{hint}")
        check_number(pictures)
        for name, text in record.captions.items():
            if PLACE in text:
                raise UnusableJson(f"its '{name}' holds {PLACE}, which stands for a picture in turns alone")
        turns = conversations.placed(record.turns, len(pictures)) if record.turns else ()
    except UnusableJson as error:
        return Unusable(place, str(error))
    return RawPair(place, tuple(pictures), record.captions, turns, record.metadata)


def _image_keys(content: Asked) -> tuple[str, ...]:
    return IMAGE_KEYS if content.image_keys is None else content.image_keys


def _is_conversation(name: str, value: Any) -> bool:
    return name in conversations.KEYS or (name == conversations.ROUNDS and conversations.is_rounds(value))


def _is_caption(name: str, value: Any, content: Asked) -> bool:
    """By what the spec names, else by the name; of names that only end so, texts alone are captions."""
    if content.captions is not None:
        return name in content.captions
    if name.lower() in PLAIN_CAPTIONS:
        return True
    is_text = isinstance(value, str) or (isinstance(value, list) and all(isinstance(i, str) for i in value))
    return is_text and CAPTION.fullmatch(name) is not None


def _captions(name: str, value: Any) -> dict[str, str]:
    """Of a list each text is a caption: name, name_2, name_3 …; null is none."""
    unicode_text(name, name)
    if value is None:
        return {}
    texts = value if isinstance(value, list | tuple) else [value]
    found: dict[str, str] = {}
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UnusableJson(f"its '{name}' is {type_of(text)}, expected text")
        if text.strip():
            found[name if number == 1 else f"{name}_{number}"] = unicode_text(text, name)
    return found


@lru_cache(maxsize=256)
def _nothing_said(names: tuple[str, ...], asked: tuple[str, ...] | None) -> str:
    known = _keys(names)
    if asked is None:
        hint = "; content.captions names captions that are called otherwise" if names else ""
        return f"it has neither a caption nor a conversation{known}{hint}"
    if not asked:
        return f"it has no conversation, and captions are not asked for{known}"
    close = next((text for text in (nearest(name, names[:MOST_KEYS]) for name in asked) if text), "")
    return f"it has none of the captions {', '.join(asked)}{close}{known}"


def _keys(names: tuple[str, ...]) -> str:
    more = ", …" if len(names) > MOST_KEYS else ""
    return f" (keys: {', '.join(sorted(names)[:MOST_KEYS])}{more})" if names else ""
