"""Documents of a version of tokens as SQL sees them: their tokens, beside all that their text has.

Legend: E documents, in the order in which their tokens follow.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Rows
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.text import rows as of_text
from robot_foundry.catalog.tokens.tables import DOCUMENTS_SCHEMA
from robot_foundry.runtime.errors import FoundryError

# Where the provenance says of which version of text the tokens are: its `dataset` and `version_id`.
TEXT = "text"


def document_rows(opened: OpenVersion) -> Rows:
    """All documents, and `_row`, their number. FoundryError where their text is not in the store.

    Of a version that names no text there is what it has itself: `num_tokens` and `num_bytes`.
    """
    counts = [entry.num_groups for entry in opened.manifest.shards]
    tables = [opened.shard_table("documents", ordinal) for ordinal in range(len(counts))]
    documents = pa.concat_tables([DOCUMENTS_SCHEMA.empty_table(), *tables])
    row = pa.array(np.arange(documents.num_rows, dtype=np.int64))
    text = text_of(opened)
    if text is None:
        own = documents.select(["num_tokens", "num_bytes"]).append_column("_row", row)
        return Rows(own, "num_tokens, num_bytes, _row")
    rows = of_text.document_rows(text)
    start_E = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    told = rows.table.take(pa.array(start_E + documents["document"].to_numpy()))
    told = told.set_column(told.column_names.index("_row"), "_row", row)
    return Rows(told.append_column("num_tokens", documents["num_tokens"]), f"num_tokens, {rows.columns}")


def text_reference(opened: OpenVersion) -> str | None:
    """The version of text that these are the tokens of, None where nothing says which."""
    named = opened.manifest.provenance.get(TEXT)
    return None if named is None else f"{named['dataset']}@{named['version_id']}"


def text_of(opened: OpenVersion) -> OpenVersion | None:
    """The version of `text_reference`, opened; FoundryError if it is not in the store."""
    reference = text_reference(opened)
    if reference is None:
        return None
    try:
        text = OpenVersion(opened.store, resolve(opened.store, reference))
    except FoundryError as error:
        raise FoundryError(
            f"the text that {opened.version} was made of, {reference}, is not in the store, nor what it says "
            "of its documents",
            hint="run the foundry-data ingest that made it again",
        ) from error
    if [entry.num_groups for entry in text.manifest.shards] != [
        entry.num_groups for entry in opened.manifest.shards
    ]:
        raise FoundryError(f"{text.version} has other documents than {opened.version} was made of")
    return text
