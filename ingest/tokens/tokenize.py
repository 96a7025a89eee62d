"""Tokens of a version of text: shard i of the one becomes shard i of the other, by one tokenizer.

As in ingest, every step can be repeated: a shard is named by what goes into it, the text and the tokenizer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as package_version
from typing import Any

import pyarrow.compute as pc

from robot_foundry.catalog.kind import kind_named as catalog_kind
from robot_foundry.catalog.manifest import find_build, read_build, read_manifest
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.refs import check_same_kind, resolve
from robot_foundry.catalog.store import Store, as_store, check_name
from robot_foundry.catalog.tars import is_whole, lacking_tables, lacking_tars, open_tar
from robot_foundry.catalog.tokens.documents import TEXT
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.shown import INEXACT, TEXT_BYTES
from robot_foundry.catalog.tokens.tokenizers import keep
from robot_foundry.ingest.cluster import seen_by_all
from robot_foundry.ingest.engine import DEFAULTS, Options
from robot_foundry.ingest.kind import Preview, Shard
from robot_foundry.ingest.report import Report, report_of
from robot_foundry.ingest.tables.assemble import Request, assemble
from robot_foundry.ingest.tokens.encode import encode_first
from robot_foundry.ingest.tokens.kind import KIND, tokens_of
from robot_foundry.ingest.tokens.shards import ShardTask, write_alone, write_shards
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.tokens.blocks import BYTES, MOST_NAMED
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer

# Raised when other tars follow from the same text and tokenizer.
TOKENIZE_VERSION = 1


def run(
    reference: str,
    tokenizer: Tokenizer,
    *,
    store: Store | str | os.PathLike[str] | None = None,
    name: str,
    options: Options = DEFAULTS,
    strict: bool = False,
    dry_run: bool = False,
) -> Report:
    """Make a version `name` of the tokens of the text that `reference` names, and tell what happened.

    With `strict` nothing is committed where a document is not exactly what its tokens decode to; else that is
    counted and told. Of the options only workers, ray_address, created and quiet are used.
    """
    check_name(name)
    opened = as_store(store)
    text = OpenVersion(opened, resolve(opened, reference))
    check_is_text(text)
    _check_tars(text)
    check_same_kind(opened, name, catalog_kind(KIND.name))
    job = _Job(opened, name, text, tokenizer, options)
    if dry_run:
        return _dry_report(job)
    keep(opened, tokenizer)
    return _made(job, strict) or _run(job, strict)


@dataclass(frozen=True)
class _Job:
    """One run."""

    store: Store
    dataset: str
    text: OpenVersion
    tokenizer: Tokenizer
    options: Options

    @property
    def shard_keys(self) -> list[str]:
        """Of the shards of tokens, in the order of those of text."""
        of_bytes = isinstance(self.tokenizer, ByteTokenizer)
        decisive = {
            "tokenize": TOKENIZE_VERSION,
            "tokenizer": self.tokenizer.id,
            "codecs": {} if of_bytes else {"tokenizers": package_version("tokenizers")},
        }
        return [digest_of({**decisive, "text": entry.tar_sha256}) for entry in self.text.manifest.shards]

    @property
    def build_id(self) -> str:
        return digest_of({"tokenize": [TOKENIZE_VERSION, KIND.tables_version], "shards": self.shard_keys})


def check_is_text(opened: OpenVersion) -> None:
    """UsageError if a version is not of text."""
    manifest = opened.manifest
    if manifest.kind != "text":
        what = "is a mixture" if manifest.mixture is not None else f"holds {manifest.holds.samples}"
        raise UsageError(
            f"{opened.version} {what}, and tokens are made of text",
            hint="foundry-data ls shows what there is; foundry-data ingest text makes text of a source",
        )


def _check_tars(text: OpenVersion) -> None:
    """FoundryError if some of the text is not there."""
    lacking = lacking_tars(text.store, text.manifest)
    if lacking:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise FoundryError(
            f"{text.version} cannot be made into tokens: {lacking[0]}{more}",
            hint="run the foundry-data ingest that made it again: it writes what is missing",
        )


def _made(job: _Job, strict: bool) -> Report | None:
    """The report of the version, if it is there with all its files."""
    version = find_build(job.store, job.dataset, job.build_id)
    if version is None:
        return None
    manifest = read_manifest(job.store, version)
    if lacking_tars(job.store, manifest) or lacking_tables(job.store, manifest):
        return None
    provenance = read_build(job.store, job.store.build(job.dataset, job.build_id))["provenance"]
    report = report_of(job.store, version, manifest, noop=True, provenance=provenance)
    if strict:
        _check_exact(provenance.get(INEXACT))
    return report


def _run(job: _Job, strict: bool) -> Report:
    with (
        Workers(job.options.workers, job.options.ray_address) as workers,
        seen_by_all(job.store, workers),
    ):
        shards = _write_shards(job, workers)
        inexact = _inexact(job, shards)
        if strict:
            _check_exact(inexact)
        request = Request(
            store=job.store,
            dataset=job.dataset,
            build_id=job.build_id,
            kind=KIND,
            asked=Schema.of(job.tokenizer),
            provenance=_provenance(job, shards, inexact),
            refused=(),
            max_errors=None,
        )
        made = assemble(request, shards, workers)
    report = report_of(job.store, made.version, made.manifest, noop=False)
    reused = sum(shard.reused for shard in shards)
    return replace(report, shards_written=len(shards) - reused, shards_reused=reused)


def _write_shards(job: _Job, workers: Workers) -> list[Shard]:
    """All shards, in the order of the text's."""
    manifest, by_index = job.text.manifest, dict[int, Shard]()
    tasks = [
        ShardTask(
            index=index,
            store=job.store,
            dataset=job.dataset,
            shard_key=key,
            text_dataset=manifest.dataset,
            text_key=entry.key,
            text_sha256=entry.tar_sha256,
            num_documents=entry.num_groups,
        )
        for index, (key, entry) in enumerate(zip(job.shard_keys, manifest.shards, strict=True))
    ]
    written = (
        write_shards(job.tokenizer, tasks)
        if workers.inline
        else workers.map(partial(write_alone, job.tokenizer), tasks)
    )
    label = f"tokenize {job.dataset}"
    with Progress(manifest.num_groups, "documents", label, quiet=job.options.quiet) as progress:
        for index, shard in written:
            by_index[index] = shard
            progress.advance(shard.num_groups, bytes=sum(block.num_bytes for block in tokens_of(shard)))
    return [by_index[index] for index in range(len(tasks))]


def _inexact(job: _Job, shards: Sequence[Shard]) -> dict[str, Any] | None:
    """How many documents their tokens do not give back, and the names of the first; None if all are exact."""
    count, first = 0, list[str]()
    for ordinal, shard in enumerate(shards):
        blocks = tokens_of(shard)
        count += sum(block.num_inexact for block in blocks)
        rows = sorted(row for block in blocks for row in block.inexact)
        if rows and len(first) < MOST_NAMED:
            first += _names(job.text, ordinal, rows[: MOST_NAMED - len(first)])
    return {"documents": count, "first": first} if count else None


def _names(text: OpenVersion, ordinal: int, rows: Sequence[int]) -> list[str]:
    """Where the source has these documents of a shard of text."""
    blocks = text.table("blocks")
    files = blocks.filter(pc.equal(blocks["shard"], ordinal))["file"].to_pylist()
    documents = text.shard_table("documents", ordinal).select(["block", "id"]).take(rows).to_pylist()
    return [f"{files[document['block']]}#{document['id']}" for document in documents]


def _check_exact(inexact: dict[str, Any] | None) -> None:
    if inexact is not None:
        listed = ", ".join(inexact["first"])
        raise FoundryError(
            f"{inexact['documents']:,} documents are not what their tokens decode to, the first: {listed}",
            hint="take a byte-level tokenizer without normalizer, or do without --strict",
        )


def _provenance(job: _Job, shards: Sequence[Shard], inexact: dict[str, Any] | None) -> dict[str, Any]:
    created, version = job.options.created, job.text.version
    blocks = [block for shard in shards for block in tokens_of(shard)]
    return {
        "tool": f"robot_foundry {package_version('robot-foundry')}",
        "command": "tokenize",
        TEXT: {"dataset": version.dataset, "version_id": version.version_id},
        TEXT_BYTES: sum(block.num_bytes for block in blocks),
        "tokenizer": job.tokenizer.id,
        **({} if inexact is None else {INEXACT: inexact}),
        **({} if created is None else {"created": created}),
    }


def _dry_report(job: _Job) -> Report:
    """What would be written, by the first documents: only encoding tells of the others."""
    text, holds = job.text, catalog_kind(KIND.name)
    reused = sum(is_whole(job.store, job.dataset, key) for key in job.shard_keys)
    expected = _preview(job)
    return Report(
        holds=holds,
        dataset=job.dataset,
        version=None,
        discovered=text.manifest.num_groups,
        written=text.manifest.num_groups,
        refused=(),
        shards_written=len(text.manifest.shards) - reused,
        shards_reused=reused,
        noop=False,
        counts={
            holds.groups: text.manifest.num_groups,
            holds.samples: expected.num_samples or 0,
            "bytes": expected.stored_bytes,
        },
        build_id=job.build_id,
        preview=expected,
    )


def _preview(job: _Job) -> Preview:
    """What the tokens of the first documents let expect of all."""
    manifest, schema = job.text.manifest, Schema.of(job.tokenizer)
    first = open_tar(job.store, manifest.dataset, manifest.shards[0].key, manifest.tar_hashes)
    sample = encode_first(first, job.tokenizer)
    sample_bytes = int(sample.docs_D4[:, BYTES].sum())
    num_bytes = pc.sum(job.text.table("blocks")["num_bytes"]).as_py()
    in_text = len(sample.token_N) - len(sample)
    tokens = manifest.num_groups + round(num_bytes * in_text / max(sample_bytes, 1))
    said = f"about {tokens:,} tokens, {sample_bytes / max(in_text, 1):.2f} bytes each by the first"
    return Preview(
        holds=catalog_kind(KIND.name),
        num_groups=manifest.num_groups,
        num_samples=tokens,
        source_bytes=num_bytes,
        stored_bytes=tokens * schema.numpy.itemsize,
        schema=schema,
        sampled=f"{len(sample):,} documents",
        lines=(f"{said} {len(sample):,} documents",),
        warnings=(),
    )
