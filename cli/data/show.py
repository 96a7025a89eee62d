"""foundry-data show: all that one version says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.opened import OpenMixture, OpenVersion, OpenVersions
from robot_foundry.catalog.query.shown import Description, first_few
from robot_foundry.catalog.refs import tags
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import adopted_tars, read_place
from robot_foundry.cli.data.mix import mixture_tables
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import counted, emit, size, table


@click.command()
@click.argument("ref")
@store_option
@json_option
def command(ref: str, store: str, as_json: bool) -> None:
    """Show a version: NAME, NAME@v3, NAME@<id prefix> or NAME:tag."""
    opened = OpenVersions(Store(store)).open(ref)
    version, manifest = opened.version, opened.manifest
    result = json.loads(manifest.to_json()) | {"version": str(version), "seq": version.seq}
    all_tags = tags(opened.store, version.dataset)
    result["tags"] = [name for name, tagged in all_tags.items() if tagged == version]
    description = Description() if manifest.mixture is not None else opened.kind.describe(opened)
    result |= description.facts
    emit(result, as_json=as_json, text=lambda: _text(opened, result, description))


def _text(opened: OpenVersion, result: dict[str, Any], description: Description) -> str:
    manifest = opened.manifest
    lines = [
        f"{opened.version}  {manifest.kind}  id {manifest.version_id}  build {opened.version.build_id}",
        *([_line("tags", ", ".join(result["tags"]))] if result["tags"] else []),
        *(
            _line(name, _brief(value))
            for name, value in sorted(manifest.provenance.items())
            if name not in description.without_line
        ),
    ]
    if manifest.mixture is not None:
        lines += _mixture_lines(opened.store, manifest.mixture)
    else:
        lines += _version_lines(opened.store, manifest, description)
    return "\n".join(lines)


def _version_lines(store: Store, manifest: Manifest, description: Description) -> list[str]:
    counts = manifest.counts
    held = f"{manifest.num_samples:,} in {counted(len(manifest.shards), 'shard')}, {size(counts['bytes'])}"
    units = {"discovered": "found", "written": "written", "quarantined": "quarantined"}
    units |= {name: name for name in manifest.holds.left_out}
    quarantined = (f"{entry.unit}: {entry.reason}" for entry in manifest.quarantined)
    labelled = [
        *description.head,
        (manifest.holds.samples, held),
        *_elsewhere(store, manifest),
        ("units", ", ".join(f"{counts[name]:,} {done}" for name, done in units.items())),
        *first_few("", quarantined),
        *description.tail,
    ]
    lines = [_line(label, text) for label, text in labelled]
    return [*lines, "", table(description.headers, description.rows)] if description.headers else lines


def _elsewhere(store: Store, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Which of the tars were adopted, and where the first of them lies."""
    adopted = adopted_tars(store, manifest)
    if adopted:
        place = read_place(store, manifest.dataset, adopted[0].key)
        held = f"{counted(len(adopted), 'tar')} of these, {size(sum(tar.tar_bytes for tar in adopted))}"
        yield "elsewhere", held if place is None else f"{held}; the first is {place.url}"


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


def _line(label: str, text: str) -> str:
    return f"{label:<12} {text}"
