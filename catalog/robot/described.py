"""What `show` tells of a robot version."""

from __future__ import annotations

from collections import Counter
from typing import Any

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.robot.absence import absence_lines
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.shown import Description, first_few

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
        "annotations": {kind: len(texts) for kind, texts in sorted(kinds.items())},
    }


def _head(manifest: Manifest, schema: Schema, episodes: dict[str, Any]) -> list[tuple[str, str]]:
    rate = "unknown rate" if schema.fps is None else f"{schema.fps:g} Hz"
    return [
        ("embodiment", f"{schema.embodiment}, tool frame {schema.tool_frame}, {rate}"),
        (
            "episodes",
            f"{manifest.num_groups:,} of {episodes['frames_min']} to {episodes['frames_max']} frames "
            f"(median {episodes['frames_median']}), {episodes['successes']:,} marked successful",
        ),
    ]


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
