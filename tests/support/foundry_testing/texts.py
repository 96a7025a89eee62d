"""Sources of documents, and versions of text made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec

# So small that a few documents make several blocks, units and shards.
SMALL = ("content.block_bytes=400", "content.unit_bytes=1500", "content.shard_bytes=900")
WORDS = ("the", "robot", "takes", "a cup", "of blue", "glass", "from its", "table", "und läuft", "über", "道")
KEPT = ("shards", "datasets", "refs", "builds")


def write_lines(path: Path, documents: Iterable[Mapping[str, Any] | str]) -> Path:
    """JSON lines of documents; what is text is a line as it is."""
    lines = (d if isinstance(d, str) else json.dumps(d, ensure_ascii=False) for d in documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def some_documents(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Documents of 1 to 30 words, no two alike, with metadata of several types."""
    return [
        {
            "text": f"{i}: " + " ".join(WORDS[(i * 7 + n * n) % len(WORDS)] for n in range(1 + i * 13 % 30)),
            "language": ("en", "de", "fr")[i % 3],
            "score": i / 8,
            "n": i,
            "good": i % 2 == 0,
            "tags": ["a"] * (i % 3),
        }
        for i in range(first, first + count)
    ]


def ingest(source: Path, store: Path, *overrides: str, name: str = "web", **options: Any) -> Report:
    """A version of text, in small parts."""
    spec = load_spec("text", [*SMALL, *overrides])
    return run(spec, str(source), store=store, name=name, options=Options(**options))


def texts_of(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    return [document["text"] for document in documents]


def content(store: Path) -> dict[str, bytes]:
    """Bytes of all that a store keeps, not of its cache."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in KEPT
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }
