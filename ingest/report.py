"""What an ingest or a remap did, as the command tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.kind import Kind
from robot_foundry.catalog.manifest import Manifest, Quarantined, numbers
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.version import Version
from robot_foundry.ingest.kind import Preview, kind_named


@dataclass(frozen=True)
class Report:
    """What a run did; `version` is None for a dry run.

    `discovered` is `written`, what was `refused` and what the kind leaves out (`counts`) together.

    `holds` is the kind of the version, by whose names `counts` has its groups and samples.
    `noop` says that the version was there already. `shards_written` is what a dry run would write, and
    `preview` what it would make. `absence` is what the source holds and nothing takes, and what is asked for
    and not there; of a dry run, in one unit.
    """

    holds: Kind
    dataset: str
    version: Version | None
    discovered: int
    written: int
    refused: tuple[Quarantined, ...]
    shards_written: int
    shards_reused: int
    noop: bool
    counts: dict[str, int]
    warnings: tuple[str, ...] = ()
    build_id: str | None = None
    absence: Mapping[str, Any] | None = None
    preview: Preview | None = None

    @property
    def num_refused(self) -> int:
        """How many they are in all."""
        return sum(entry.count for entry in self.refused)

    @property
    def quarantined(self) -> tuple[tuple[str, str], ...]:
        """What was refused, each with the reason, without the counts."""
        return tuple((entry.unit, entry.reason) for entry in self.refused)

    def to_json(self) -> dict[str, Any]:
        version = self.version
        return {
            "dataset": self.dataset,
            "version": None if version is None else str(version),
            "version_id": None if version is None else version.version_id,
            "build_id": self.build_id if version is None else version.build_id,
            "discovered": self.discovered,
            "written": self.written,
            "quarantined": [entry.to_json() for entry in self.refused],
            **{name: self.counts[name] for name in self.holds.left_out if name in self.counts},
            "shards_written": self.shards_written,
            "shards_reused": self.shards_reused,
            "noop": self.noop,
            **{name: self.counts.get(name, 0) for name in (self.holds.groups, self.holds.samples, "bytes")},
            "warnings": list(self.warnings),
            "absence": None if self.absence is None else dict(self.absence),
            **({} if self.preview is None else {"preview": self.preview.to_json()}),
        }


def report_of(
    store: Store,
    version: Version,
    manifest: Manifest,
    *,
    noop: bool,
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """The report of a version from what its manifest says; `provenance` is that of another build of it."""
    made_by = manifest.provenance if provenance is None else provenance
    warnings = kind_named(manifest.holds.name).warnings(made_by)
    return Report(
        holds=manifest.holds,
        dataset=manifest.dataset,
        version=version,
        discovered=manifest.counts["discovered"],
        written=manifest.counts["written"],
        refused=manifest.quarantined,
        shards_written=0,
        shards_reused=len(manifest.shards),
        noop=noop,
        counts=dict(manifest.counts),
        warnings=(*warnings, *_newest_note(store, version)),
        absence=made_by.get("absence"),
    )


def _newest_note(store: Store, version: Version) -> tuple[str, ...]:
    """That the dataset's name means a later version than the one that was made, or found to be there."""
    newest = max(numbers(store, version.dataset))
    if newest == version.seq:
        return ()
    name = version.dataset
    return (f"this is {version}, and '{name}' alone still means {name}@v{newest}, the newest",)
