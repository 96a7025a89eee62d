"""What SQL and `show` tell of tokens."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Description, Row, RowTable, SqlFace
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.documents import TEXT, document_rows, text_reference
from robot_foundry.catalog.tokens.schema import Schema, schema_of
from robot_foundry.catalog.tokens.tokenizers import known
from robot_foundry.runtime.errors import FoundryError

# Under these names the provenance has the bytes of all texts, and which documents are not exact.
TEXT_BYTES, INEXACT = "text_bytes", "inexact"


def rows_of(schema: Schema) -> dict[str, list[Row]]:
    return {"versions": [{"tokenizer": schema.tokenizer, "vocabulary": schema.size}]}


SQL = SqlFace(
    columns=pa.schema([("tokenizer", pa.string()), ("vocabulary", pa.int64())]),
    listed=("tokenizer",),
    tables={},
    rows_of=rows_of,
    in_place={"documents": RowTable(document_rows)},
    help=(("documents_NAME", "documents of tokens NAME: num_tokens, and all columns of their text"),),
    examples=('SELECT file, sum(num_tokens) FROM "documents_web-bpe8k" GROUP BY ALL',),
)


def describe(opened: OpenVersion) -> Description:
    """The tokenizer, the text, and how many tokens its documents have."""
    manifest, schema = opened.manifest, schema_of(opened.manifest)
    tokens, documents = manifest.num_samples, manifest.num_groups
    num_bytes, inexact = (manifest.provenance.get(name) for name in (TEXT_BYTES, INEXACT))
    facts: dict[str, Any] = {"vocabulary": schema.size, "tokens_a_document": tokens / max(documents, 1)}
    head = f"{documents:,} of {facts['tokens_a_document']:,.1f} tokens on average, the end included"
    if num_bytes is not None:
        # Without the token that ends each document, which stands for no byte.
        facts["bytes_a_token"] = num_bytes / max(tokens - documents, 1)
        head += f"; {facts['bytes_a_token']:.2f} bytes a token"
    named = [name for name, of_name in known(opened.store).items() if of_name == schema.tokenizer]
    tokenizer = " ".join([*named, schema.tokenizer[:12]])
    lines = [("tokenizer", f"{tokenizer}, {schema.size:,} tokens, stored as {schema.dtype}")]
    reference = text_reference(opened)
    if reference is not None:
        lines.append(("text", _text(opened.store, reference)))
    if inexact is not None:
        first = ", ".join(inexact["first"])
        lines.append(("inexact", f"{inexact['documents']:,} documents are not what is decoded: {first}"))
    return Description(
        facts={"tokenizer": {**schema.to_json(), "names": named}, "documents": facts},
        head=[("documents", head)],
        tail=lines,
        without_line=(TEXT, TEXT_BYTES, INEXACT, "tokenizer", "command"),
    )


def _text(store: Store, reference: str) -> str:
    try:
        version = resolve(store, reference)
        return f"{version} ({version.version_id[:12]})"
    except FoundryError:
        return f"{reference}, which is not in the store"
