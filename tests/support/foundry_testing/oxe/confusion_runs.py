"""Right and confused specs, ingested from recordings, and what the checks find of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foundry_testing.oxe.confusions import Confusion, confusions, in_degrees, names_cause
from foundry_testing.oxe.recorded import write_recordings
from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.ingest import remapping
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

USUAL_FPS = 5.0  # where a spec has no rate

Findings = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What was found of one spec; `error` is '' for the right one. `findings` are those that the right spec has
    not, and `hidden` says why none could be."""

    name: str
    error: str
    place: str
    hidden: str
    findings: tuple[Mapping[str, Any], ...]
    named: bool = False

    @property
    def flagged(self) -> bool:
        return bool(self.findings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        verdict = "named" if self.named else "flagged" if self.flagged else "missed"
        head = f"{self.name}: {self.error or 'right'} {self.place} {verdict} {self.hidden}"
        return "\n   ".join([head, *(f"[{f['check']}] {f['message']}" for f in self.findings)])


class Recordings:
    """A dataset's recordings in a store, and what is found of them by its spec with overrides."""

    def __init__(self, name: str, root: Path, *, degrees: bool = False) -> None:
        spec = load_spec(f"oxe/{name}")
        self.mapping = spec.to_json()["mapping"]
        overrides = in_degrees(self.mapping) if degrees else ()
        write_recordings(name, root / "source", spec.content.fps or USUAL_FPS, degrees=degrees)
        self.store, self.name = root / "store", name
        self.spec = f"oxe/{name}"
        right = load_spec(self.spec, overrides)
        report = run(right, root / "source", store=self.store, name="d")
        if report.version is None or report.refused:
            raise AssertionError(f"{name}: {report.refused}")
        self.version = str(report.version)
        self.right = self._findings(self.version)

    def found(self, overrides: Sequence[str]) -> Findings:
        """Findings of the spec with the overrides that its right one has not."""
        wrong = remapping.spec_of(self.version, self.spec, list(overrides), store=self.store)
        made = str(remapping.run(self.version, wrong, store=self.store).version)
        known = {(finding["check"], finding["where"]) for finding in self.right}
        return [f for f in self._findings(made) if (f["check"], f["where"]) not in known]

    def _findings(self, version: str) -> Findings:
        store = Store(self.store)
        findings: Findings = read_manifest(store, resolve(store, version)).provenance["checks"]["findings"]
        return findings


def outcomes(name: str, root: Path) -> list[Outcome]:
    """Of the right spec, and of each confusion."""
    recordings = Recordings(name, root / "radians")
    done = [Outcome(name, "", "", "", tuple(recordings.right))]
    given = confusions(recordings.mapping)
    for_degrees = [confusion for confusion in given if confusion.from_degrees]
    degrees = Recordings(name, root / "degrees", degrees=True) if for_degrees else None
    if degrees is not None:
        done.append(Outcome(name, "", "in degrees", "", tuple(degrees.right)))
    for confusion in given:
        source = degrees if confusion.from_degrees and degrees is not None else recordings
        done.append(_outcome(source, confusion))
    return done


def _outcome(recordings: Recordings, confusion: Confusion) -> Outcome:
    try:
        findings = recordings.found(confusion.overrides)
    except FoundryError as error:  # refused outright, which tells as well
        findings = [{"check": "refused", "where": "", "message": str(error)}]
    named = names_cause(confusion.error, findings)
    return Outcome(
        recordings.name, confusion.error, confusion.place, confusion.hidden, tuple(findings), named
    )
