"""Conversations as sources write them, and where pictures stand in them.

LLaVA: `conversations` of {from: human | gpt, value}. Chats: `messages` of {role, content}, where the content
is a text or a list of {type: text, text} and {type: image}. The Cauldron: `texts` of {user, assistant}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robot_foundry.ingest.sources.formats.json_values import MOST_SHOWN, UnusableJson, type_of, unicode_text
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.pairs.pair import ASSISTANT, PLACE, SYSTEM, USER, Turn, num_places, with_places

KEYS = ("conversations", "messages", "conversation")
# Where a list of questions with their answers stands for a conversation, and of captions otherwise.
ROUNDS = "texts"
_ROLES = {
    "human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "model": ASSISTANT,
    "system": SYSTEM,
}  # fmt: skip


def is_rounds(value: Any) -> bool:
    """Whether it is a list of {user, assistant}."""
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) and USER in i for i in value)


def turns_of(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns of a conversation. UnusableJson if it is none."""
    if not isinstance(value, list):
        raise UnusableJson(f"its '{name}' is {type_of(value)}, expected a list of turns")
    if not value:
        raise UnusableJson(f"its '{name}' is empty")
    if is_rounds(value):
        return tuple(turn for item in value for turn in _round(item, name))
    return tuple(_turn(item, name) for item in value)


def placed(turns: Sequence[Turn], num_pictures: int) -> tuple[Turn, ...]:
    """The turns with a place for each picture: before the first user's text where none has a place.

    UnusableJson for another number of places than pictures.
    """
    places = num_places(turns)
    if places == num_pictures:
        return tuple(turns)
    if places:
        raise UnusableJson(f"it has {_counted(num_pictures)} and {places} times {PLACE} in its turns")
    found = with_places(turns, num_pictures)
    if found is None:
        raise UnusableJson("it has no turn of a user, in which its pictures could stand")
    return found


def _counted(num_pictures: int) -> str:
    return "1 picture" if num_pictures == 1 else f"{num_pictures} pictures"


def _round(item: Mapping[str, Any], name: str) -> list[Turn]:
    return [Turn(role, _text(item.get(role), name)) for role in (USER, ASSISTANT)]


def _turn(item: Any, name: str) -> Turn:
    if not isinstance(item, dict):
        raise UnusableJson(f"a turn of its '{name}' is {type_of(item)}, expected an object")
    keys = [("from", "value"), ("role", "content")]
    found = next(((who, what) for who, what in keys if who in item and what in item), None)
    if found is None:
        raise UnusableJson(f"a turn of its '{name}' has neither 'from' and 'value' nor 'role' and 'content'")
    who, what = item[found[0]], item[found[1]]
    role = _ROLES.get(who.lower()) if isinstance(who, str) else None
    if role is None:
        shown = repr(who[:MOST_SHOWN]) if isinstance(who, str) else type_of(who)
        close = nearest(who[:MOST_SHOWN], _ROLES) if isinstance(who, str) else ""
        raise UnusableJson(f"a turn of its '{name}' is of the unknown role {shown}{close}")
    return Turn(role, _text(what, name))


def _text(value: Any, name: str) -> str:
    if isinstance(value, list):
        return "".join(_part(part, name) for part in value)
    if not isinstance(value, str):
        raise UnusableJson(f"the text of a turn of its '{name}' is {type_of(value)}, expected text")
    return unicode_text(value, name)


def _part(part: Any, name: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image", "image_url"):
        return PLACE
    if kind == "text":
        return _text(part.get("text"), name)
    raise UnusableJson(f"a part of a turn of its '{name}' is neither text nor image")
