"""What `show` tells of a robot version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Description, first_few
from robot_foundry.catalog.robot.absence_lines import absence_lines
from robot_foundry.catalog.robot.schema import Schema, schema_of

INSTRUCTION = "instruction"


def describe(opened: OpenVersion) -> Description:
    """Robot and tool, episodes, language, cameras and dims."""
    schema, episodes = schema_of(opened.manifest), _episodes(opened)
    streams = ("state", *schema.streams)
    return Description(
        facts={"episodes": episodes},
        head=_head(opened.manifest, schema, episodes),
        tail=[*_tail(schema, episodes), *absence_lines(opened.manifest.provenance)],
        headers=("stream", "dim", "unit", "kind"),
        rows=[(stream, dim.name, dim.unit, dim.kind) for stream in streams for dim in schema.space(stream)],
        without_line=("absence", "arrays", "controllers"),
    )


def _episodes(opened: OpenVersion) -> dict[str, Any]:
    """Lengths, rates, successes, instructions, and of annotations of other kinds how many texts."""
    episodes, notes = opened.table("episodes"), opened.table("annotations")
    length_E = np.sort(episodes["num_frames"].to_numpy())
    texts: dict[str, dict[str, int]] = {}
    for kind in pc.unique(notes["kind"]).to_pylist():
        counts = pc.value_counts(notes.filter(pc.equal(notes["kind"], kind))["text"])
        texts[kind] = {count["values"]: count["counts"] for count in counts.to_pylist()}
    instructions = texts.pop(INSTRUCTION, {})
    return {
        "frames_min": int(length_E[0]) if len(length_E) else 0,
        "frames_median": int(length_E[len(length_E) // 2]) if len(length_E) else 0,
        "frames_max": int(length_E[-1]) if len(length_E) else 0,
        "fps": sorted(pc.unique(episodes["fps"]).to_pylist()),
        "successes": pc.sum(episodes["success"]).as_py() or 0,
        "successes_told": len(episodes) - episodes["success"].null_count,
        "instructions": dict(sorted(instructions.items(), key=lambda item: (-item[1], item[0]))),
        "annotations": {kind: len(texts[kind]) for kind in sorted(texts)},
    }


def _head(manifest: Manifest, schema: Schema, episodes: dict[str, Any]) -> list[tuple[str, str]]:
    rate = "unknown rate" if schema.fps is None else f"{schema.fps:g} Hz"
    return [
        ("embodiment", f"{schema.embodiment}, tool frame {schema.tool_frame}, {rate}"),
        (
            "episodes",
            f"{manifest.num_groups:,} of {episodes['frames_min']} to {episodes['frames_max']} frames "
            f"(median {episodes['frames_median']}), {_successes(manifest.num_groups, episodes)}",
        ),
    ]


def _successes(total: int, episodes: dict[str, Any]) -> str:
    """How many episodes are marked as successes, of those that say whether they are."""
    told = episodes["successes_told"]
    if not told:
        return "success not told"
    return f"{episodes['successes']:,} marked successful" + (f" of {told:,} that say" if told < total else "")


def _tail(schema: Schema, episodes: dict[str, Any]) -> list[tuple[str, str]]:
    instructions = (f"{text!r} × {count:,}" for text, count in episodes["instructions"].items())
    annotations = (
        f"{kind}: {count:,} text{'s' if count != 1 else ''}"
        for kind, count in episodes["annotations"].items()
    )
    cameras = (f"{c.role}: {c.name}, {c.height} × {c.width}, {c.encoding}" for c in schema.cameras)
    return [
        *first_few("instruction", instructions),
        *(("annotation", text) for text in annotations),
        *(("camera", text) for text in cameras),
    ]
