"""Types of messages: by the definition that a bag has of them, by .msg files, or by those of a ROS release.

rosbags makes Python code of definitions. What a bag says goes into it by names alone, and these are checked
here, so that untrusted input stays data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Nodetype,
)
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.damage import MISTYPED, in_words
from robot_foundry.ingest.sources.ros.bags.services import event_types
from robot_foundry.ingest.sources.unusable import shown

TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*){1,2}")
FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
FOLDERS = ("msg", "srv", "action")
IDL_SEPARATOR = "=" * 80 + "\n"
CDR = "cdr"
ROS1 = "ros1_noetic"
NO_DEFINITION = hashlib.md5(b"").hexdigest()  # noqa: S324  (what ROS 1 knows a type by)
LONGEST_NAME, LONGEST_DEFINITION = 80, 1 << 19
# Entries of fixed lists of messages or texts in all types of a definition.
MOST_WRITTEN, TEXTS = 1 << 14, ("string", "wstring")
MOST_STORES, MOST_TYPES = 256, 1000
UNREADABLE: tuple[type[Exception], ...] = (SerdeError, TypesysError, Refused, *MISTYPED)


class Undecodable(Exception):
    """Bytes are no message of their type; the message is the reason, after which its kind is counted."""


def full_type(name: str) -> str:
    """As ROS 2 calls it: `std_msgs/msg/String` for the old `std_msgs/String`."""
    package, _, rest = name.partition("/")
    return name if "/" in rest or not rest else f"{package}/msg/{rest}"


class Types:
    """Types of messages by connection; `files` are .msg files, `release` has what no definition tells."""

    def __init__(self, release: str, files: Iterable[Path] = ()) -> None:
        self._release = release
        self._of_files = _types_of_files(files)
        self._made: dict[tuple[str, str, str, bool], Typestore | str] = {}

    def store(self, connection: Connection, *, is_ros1: bool) -> Typestore | str:
        """What knows the type of its messages; or why nothing does, in words that follow the type's name."""
        name = full_type(connection.msgtype)
        extended = connection.ext
        if isinstance(extended, ConnectionExtRosbag2) and extended.serialization_format not in ("", CDR):
            return f"is serialised as '{shown(extended.serialization_format, LONGEST_NAME)}', not as CDR"
        key = (name, connection.msgdef.data, connection.digest, is_ros1)
        if key not in self._made:
            self._made[key] = self._store(name, connection, is_ros1)
        return self._made[key]

    def _store(self, name: str, connection: Connection, is_ros1: bool) -> Typestore | str:
        definition, store = connection.msgdef, None
        says_nothing = not definition.data.strip() and connection.digest != NO_DEFINITION
        try:
            if definition.format != MessageDefinitionFormat.NONE and not says_nothing:
                store = _store_of_definition(definition, name)
            elif name in self._of_files:
                store = _store_of(self._of_files, _release(self._release))
            else:
                store = _release(ROS1 if is_ros1 else self._release)
            if name not in store.fielddefs:
                known = ROS1 if is_ros1 else self._release
                return f"has no definition in the bag, in content.ros.definitions or in {known}"
            if is_ros1 and says_nothing and store.generate_msgdef(name)[1] != connection.digest:
                return "has no definition in the bag, and another one by its MD5 than the one that is known"
            store.get_msgdef(name)
        except UNREADABLE as error:
            return f"has a definition that cannot be read: {shown(in_words(error), 2 * LONGEST_NAME)}"
        return store


@cache
def _release(name: str) -> Typestore:
    return get_typestore(Stores(name))


@lru_cache(MOST_STORES)
def _store_of_definition(definition: MessageDefinition, name: str) -> Typestore:
    """The types in a definition that came with a bag, which the next bag most likely has as well."""
    return _store_of(_parsed(definition, name))


def _parsed(definition: MessageDefinition, name: str) -> dict[str, Any]:
    """The types in a definition that came with a bag."""
    if len(definition.data) > LONGEST_DEFINITION:
        raise Refused(f"it has {len(definition.data)} letters")
    if definition.format == MessageDefinitionFormat.MSG:
        return event_types(definition.data, name) or dict(get_types_from_msg(definition.data, name))
    types: dict[str, Any] = {}
    if not definition.data.startswith(f"{IDL_SEPARATOR}IDL: "):
        return dict(get_types_from_idl(definition.data))
    for part in definition.data.split(IDL_SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.partition("\n")[2]))
    return types


def _store_of(types: dict[str, Any], release: Typestore | None = None) -> Typestore:
    """A store of these types and of a release's, without constants. Refused for names that are none."""
    known = {} if release is None else dict(release.fielddefs)
    plain: dict[str, Any] = {name: ([], fields) for name, (_, fields) in {**known, **types}.items()}
    for name, (_, fields) in plain.items():
        named = [text for field in fields for text in _type_names(field[1])]
        if not all(TYPE.fullmatch(text) for text in (name, *named)):
            raise Refused(f"a type is called {shown(name, LONGEST_NAME)!r}")
        if not all(FIELD.fullmatch(field[0]) for field in fields):
            raise Refused(f"a field of {name} has a name of other letters than a-z, A-Z, 0-9 and '_'")
    if len(types) > MOST_TYPES:
        raise Refused(f"it has {len(types)} types")
    _check_lists(plain)
    store = get_typestore(Stores.EMPTY)
    store.register(plain)
    return store


def _check_lists(types: Mapping[str, Any]) -> None:
    """Refused for lists that a few bytes make endless, or for which rosbags would write endless code."""
    num_written = 0
    empty = _empty(types)
    for name, (_, fields) in types.items():
        for field, (node, what) in fields:
            if node not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                continue
            (inner, inside), count = what
            if inner == Nodetype.NAME and inside in empty:
                raise Refused(f"the field {field} of {name} lists messages that have no field")
            # rosbags writes a line for each entry of a fixed number of messages or texts.
            is_written = node == Nodetype.ARRAY and (inner == Nodetype.NAME or inside[0] in TEXTS)
            num_written += count if is_written else 0
            if num_written > MOST_WRITTEN:
                raise Refused(f"the field {field} of {name} has {count} entries")


def _empty(types: Mapping[str, Any]) -> set[str]:
    """Types whose messages take no bytes: without fields, or with fields of such types alone."""
    empty: set[str] = set()
    for _ in types:
        more = {
            name
            for name, (_, fields) in types.items()
            if all(node == Nodetype.NAME and what in empty for _, (node, what) in fields)
        }
        if more == empty:
            break
        empty = more
    return empty


def _type_names(described: Any) -> list[str]:
    """The types that a field's description names."""
    _, what = described
    if isinstance(what, str):
        return [what]
    inner = what[0]
    return _type_names(inner) if isinstance(inner, tuple) else []


def _types_of_files(files: Iterable[Path]) -> dict[str, Any]:
    """The types of .msg files at `<package>/msg/<Type>.msg` or `<package>/<Type>.msg`."""
    types: dict[str, Any] = {}
    for path in files:
        package = path.parent.parent if path.parent.name in FOLDERS else path.parent
        folder = path.parent.name if path.parent.name in FOLDERS else "msg"
        name = str(PurePosixPath(package.name, folder, path.stem))
        try:
            types.update(get_types_from_msg(path.read_text("utf-8"), name))
        except UNREADABLE as error:
            raise Refused(f"the definition {path.name} cannot be read: {in_words(error)}") from error
    return types
