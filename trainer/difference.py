"""In what two runs differ, by what their newest checkpoints say of themselves; weights are not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.ranks.agreement import unlike
from robot_foundry.trainer.recipes.yaml_text import read_yaml
from robot_foundry.trainer.tasks.known import task_of

# Keys that say where a run is and what it is called, and where its data lie.
PLACES = ("name", "run.dir", "data.store", "data.pairs.store", "data.text.store")
UNKNOWN = None
CONFIG = "config.yaml"


@dataclass(frozen=True)
class Compared:
    """`facts` are (what, of the one, of the other), each a short text, None where a checkpoint does not say;
    `config` are (key, of the one, of the other) of all keys that differ."""

    facts: tuple[tuple[str, str | None, str | None], ...]
    config: tuple[tuple[str, Any, Any], ...]

    def is_equal(self, what: str) -> bool | None:
        """None where one of them does not say."""
        left, right = next((left, right) for name, left, right in self.facts if name == what)
        return None if left is UNKNOWN or right is UNKNOWN else left == right

    def to_json(self) -> dict[str, Any]:
        facts = {
            name: {"equal": self.is_equal(name), "values": [left, right]} for name, left, right in self.facts
        }
        return {**facts, "config": {key: [left, right] for key, left, right in self.config}}


def compare(left: Path, right: Path) -> Compared:
    """Two runs, checkpoints or pointer files. FoundryError where one is none, or is not whole."""
    folders = [checkpoint.find(path) for path in (left, right)]
    ours, theirs = (dict(_facts(folder)) for folder in folders)
    facts = [(name, ours[name], theirs[name]) for name in ours]
    facts[1:1] = _orders(*folders)
    before, now = map(_config, folders)
    keys = tuple(item for item in unlike(before, now) if item[0] not in PLACES)
    return Compared(tuple(facts), keys)


def _config(folder: Path) -> dict[str, Any]:
    """What the recipe of a checkpoint comes to, with the defaults of keys that are newer than it."""
    values = read_yaml((folder / CONFIG).read_text("utf-8"), str(folder))
    task = task_of(values)
    return values if task is None else task.completed(values)


def _facts(folder: Path) -> Iterator[tuple[str, str | None]]:
    lineage = checkpoint.read_json(folder, "lineage.json")
    yield "order", _short(lineage.get("order"))
    yield "data", _short(lineage.get("mixture_id"))
    yield "normalizer", _file(folder, "normalizer.json")
    yield "tokenizer", _file(folder, "tokenizer.json")
    yield "seed", str(lineage.get("seed"))
    init = lineage.get("init")
    yield "start", "random" if init is None else _short(digest_of(_ids(init)))
    yield "code", _short(None if "code" not in lineage else digest_of(lineage["code"]))


def _orders(left: Path, right: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """The order of each stream where a run has several; one that does not say them has none known."""
    said = [checkpoint.read_json(folder, "lineage.json").get("orders") for folder in (left, right)]
    names = dict.fromkeys(name for orders in said for name in orders or ())
    for name in names if len(names) > 1 else ():
        ours, theirs = (
            UNKNOWN if orders is None else _short(orders[name]) if name in orders else "none"
            for orders in said
        )
        yield f"order of {name}", ours, theirs


def _ids(init: Mapping[str, Any]) -> list[Any]:
    """What first weights were, wherever they lay."""
    own = [init["id"]] if "id" in init else []
    return own + [_ids(value) for _, value in sorted(init.items()) if isinstance(value, Mapping)]


def _file(folder: Path, name: str) -> str | None:
    if not (folder / name).is_file():
        return "none"
    return _short(digest_of(checkpoint.read_json(folder, name)))


def _short(digest: str | None) -> str | None:
    return UNKNOWN if digest is None else digest[:12]
