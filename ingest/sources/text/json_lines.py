"""JSON lines: a document a line, numbered from 1 in its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from robot_foundry.ingest.sources.formats.streams import lines
from robot_foundry.ingest.sources.text.json_document import document_of_json, too_long
from robot_foundry.ingest.sources.unusable import Broken, Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.shards.text.blocks import Document


def documents_of_lines(
    blocks: Iterable[bytes], content: TextContent, *, line: int = 1, before: str = ""
) -> Iterator[Document | Unusable]:
    """The documents of the lines of a stream, of which the first has the number `line`.

    Their ids are the numbers, after `before`. The line in which the stream breaks off ends it.
    """
    try:
        for data in lines(blocks, content.max_document_bytes):
            place = f"{before}{line}"
            found = (
                Unusable(place, too_long(content)) if data is None else document_of_json(data, place, content)
            )
            if found is not None:
                yield found
            line += 1
    except Broken as error:
        yield Unusable(f"{before}{line}", f"{error}, and this line and those after it are lost")
