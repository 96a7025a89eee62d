"""Files of text: each is a document, whose characters are kept as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robot_foundry.ingest.sources.formats.json_values import BOM
from robot_foundry.ingest.sources.formats.streams import whole
from robot_foundry.ingest.sources.text.json_document import too_long
from robot_foundry.ingest.sources.unusable import Broken, Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.shards.text.blocks import Document

UTF16 = (b"\xff\xfe", b"\xfe\xff")


def document_of_text(
    blocks: Iterable[bytes], place: str, content: TextContent, metadata: Mapping[str, Any] | None = None
) -> Document | Unusable:
    """The document that a stream of UTF-8 is, without its byte order mark."""
    try:
        data = whole(blocks, content.max_document_bytes)
    except Broken as error:
        return Unusable(place, str(error))
    if data is None:
        return Unusable(place, too_long(content))
    data = data.removeprefix(BOM)
    if not data:
        return Unusable(place, "it is empty")
    try:
        return Document(place, data.decode(), metadata or {})
    except UnicodeDecodeError:
        is_utf16 = data.startswith(UTF16)
        return Unusable(place, f"it is {'UTF-16' if is_utf16 else 'no UTF-8'}, and text is read as UTF-8")
