"""foundry-data show: all that one version says of itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.opened import OpenMixture, OpenVersion, OpenVersions
from robot_foundry.catalog.refs import tags
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.absence import absence_lines
from robot_foundry.cli.data.mix import mixture_tables
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import counted, emit, size, table

SHOWN = 5
INSTRUCTION = "instruction"
# Parts of the provenance that have lines of their own, or are for programs.
_STRUCTURED = ("absence", "arrays", "controllers")


@click.command()
@click.argument("ref")
@store_option
@json_option
def command(ref: str, store: str, as_json: bool) -> None:
    """Show a version: NAME, NAME@v3, NAME@<id prefix> or NAME:tag."""
    opened = OpenVersions(Store(store)).open(ref)
    version, manifest = opened.version, opened.manifest
    result = json.loads(manifest.to_json()) | {"version": str(version), "seq": version.seq}
    result["tags"] = [
        name for name, tagged in tags(opened.store, version.dataset).items() if tagged == version
    ]
    if manifest.schema is not None:
        result["episodes"] = _episodes(opened)
    emit(result, as_json=as_json, text=lambda: _text(opened, result))


def _episodes(opened: OpenVersion) -> dict[str, Any]:
    """Lengths, rates, successes, instructions, and of annotations of other kinds how many texts."""
    episodes = opened.table("episodes")
    lengths = sorted(episodes["num_frames"].to_pylist())
    notes = opened.table("annotations")
    kinds: dict[str, Counter[str]] = {}
    for kind, text in zip(notes["kind"].to_pylist(), notes["text"].to_pylist(), strict=True):
        kinds.setdefault(kind, Counter())[text] += 1
    texts = kinds.pop(INSTRUCTION, Counter())
    return {
        "frames_min": lengths[0] if lengths else 0,
        "frames_median": lengths[len(lengths) // 2] if lengths else 0,
        "frames_max": lengths[-1] if lengths else 0,
        "fps": sorted(set(episodes["fps"].to_pylist())),
        "successes": sum(value is True for value in episodes["success"].to_pylist()),
        "instructions": dict(sorted(texts.items(), key=lambda item: (-item[1], item[0]))),
        "annotations": {kind: len(own) for kind, own in sorted(kinds.items())},
    }


def _text(opened: OpenVersion, result: dict[str, Any]) -> str:
    version, manifest = opened.version, opened.manifest
    lines = [
        f"{version}  {manifest.kind}  id {version.version_id}  build {version.build_id}",
        *([f"tags         {', '.join(result['tags'])}"] if result["tags"] else []),
        *(
            f"{name:<12} {_brief(value)}"
            for name, value in sorted(manifest.provenance.items())
            if name not in _STRUCTURED
        ),
    ]
    if isinstance(manifest.schema, Schema):
        lines += _robot_lines(manifest, manifest.schema, result["episodes"])
    if manifest.mixture is not None:
        lines += _mixture_lines(opened.store, manifest.mixture)
    return "\n".join(lines)


def _robot_lines(manifest: Manifest, schema: Schema, episodes: dict[str, Any]) -> list[str]:
    counts = manifest.counts
    rate = "unknown rate" if schema.fps is None else f"{schema.fps:g} Hz"
    lines = [
        f"embodiment   {schema.embodiment}, tool frame {schema.tool_frame}, {rate}",
        f"episodes     {counts['episodes']:,} of {episodes['frames_min']} to {episodes['frames_max']} frames "
        f"(median {episodes['frames_median']}), {episodes['successes']:,} marked successful",
        f"frames       {counts['frames']:,} in {counted(len(manifest.shards), 'shard')}, "
        f"{size(counts['bytes'])}",
        f"units        {counts['discovered']:,} found, {counts['written']:,} written, "
        f"{counts['quarantined']:,} quarantined",
    ]
    lines += [f"             {entry.unit}: {entry.reason}" for entry in manifest.quarantined[:SHOWN]]
    lines += _more(len(manifest.quarantined))
    instructions = list(episodes["instructions"].items())
    lines += [f"instruction  {text!r} × {count:,}" for text, count in instructions[:SHOWN]]
    lines += _more(len(instructions))
    lines += [f"annotation   {kind}: {counted(n, 'text')}" for kind, n in episodes["annotations"].items()]
    lines += [
        f"camera       {c.role}: {c.name}, {c.height} × {c.width}, {c.encoding}" for c in schema.cameras
    ]
    lines += absence_lines(manifest.provenance)
    streams = ("state", *schema.streams)
    dims = [(stream, dim.name, dim.unit, dim.kind) for stream in streams for dim in schema.space(stream)]
    return [*lines, "", table(("stream", "dim", "unit", "kind"), dims)]


def _mixture_lines(store: Store, mixture: Mixture) -> list[str]:
    return [
        f"mixture      {mixture.id}, {mixture.lanes} lanes, spans of {mixture.span}",
        *("", *mixture_tables(OpenMixture.of(store, mixture))),
    ]


def _brief(value: Any) -> str:
    """A record of provenance in one line; what is nested in it is in --json."""
    if not isinstance(value, dict):
        return str(value)
    plain = {key: item for key, item in value.items() if item is not None}
    return ", ".join(f"{key} {item}" for key, item in plain.items() if not isinstance(item, dict | list))


def _more(count: int) -> list[str]:
    return [f"             … and {count - SHOWN:,} more (see --json)"] if count > SHOWN else []
