"""What a spec of text says: `content`, how documents are found in the source and laid into tars.

docs/text.md lists every key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.content_spec import ContentSpec, read_content_spec

JSON_LINES, PARQUET, PLAIN, TAR = "jsonl", "parquet", "text", "tar"
FORMATS = (JSON_LINES, PARQUET, PLAIN, TAR)
# The layouts that make text.
LAYOUTS = ("text",)


@dataclass(frozen=True)
class TextContent:
    """What goes into the tars.

    `key` names the text of a document, `metadata` the other keys that are kept: None for all. With
    `deduplicate` the first of equal texts is taken alone. `format` is one of FORMATS where names and content
    of the files do not tell it. Sizes in bytes: `block_bytes` of text are stored together, `unit_bytes` of a
    source are read by one worker at least, `max_document_bytes` a document has at most in the source, and
    `shard_bytes` the planner aims at.
    """

    key: str = "text"
    metadata: tuple[str, ...] | None = None
    format: str | None = None
    deduplicate: bool = True
    block_bytes: int = 4 * 1024 * 1024
    unit_bytes: int = 64 * 1024 * 1024
    max_document_bytes: int = 64 * 1024 * 1024
    shard_bytes: int = 256 * 1024 * 1024

    def to_json(self) -> dict[str, Any]:
        names = checks.names_to_json(self.metadata)
        return {**asdict(self), "metadata": names}


@dataclass(frozen=True)
class TextSpec(ContentSpec):
    """See `ingest.spec.spec.SourceSpec`."""

    content: TextContent


def text_spec_from_json(values: Any, where: str) -> TextSpec:
    """Check and read a spec in parsed YAML or JSON; `UsageError` names every problem in it."""
    return read_content_spec(TextSpec, values, where, content=_content, layouts=LAYOUTS, docs="docs/text.md")


def _content(section: checks.Section) -> TextContent:
    default = TextContent()

    def size(name: str, most: int) -> int:
        read: int = section.take(name, checks.integer(1, most), getattr(default, name))
        return read

    content = TextContent(
        key=section.take("key", checks.text, default.key),
        metadata=section.take("metadata", checks.names, default.metadata),
        format=section.take("format", checks.optional(checks.choice(FORMATS)), default.format),
        deduplicate=section.take("deduplicate", checks.boolean, default.deduplicate),
        block_bytes=size("block_bytes", 1 << 30),
        unit_bytes=size("unit_bytes", 1 << 40),
        max_document_bytes=size("max_document_bytes", 1 << 30),
        shard_bytes=size("shard_bytes", 1 << 40),
    )
    if content.metadata is not None and content.key in content.metadata:
        section.report("metadata", f"names '{content.key}', which is the text")
    section.close()
    return content
