"""Right and confused specs, ingested from recordings, and what the checks find of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foundry_testing.oxe.confusions import GRIPPER, Confusion, confusions, in_degrees, names_cause
from foundry_testing.oxe.recorded import write_recordings
from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.ingest import remapping
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError

USUAL_FPS = 5.0  # where a spec has no rate
# What was really recorded, by the spec of the package that reads it.
SAMPLES = {
    "bridge": ("bridge", "rlds/bridge_dataset"),
    "droid_raw": ("droid_raw", "droid_raw/LAB"),
    "aloha": ("aloha", "hdf5_aloha"),
    "robomimic": ("robomimic", "hdf5/lift_human_replay_robomimic_image84.hdf5"),
    "robosuite 1.4": ("robosuite", "hdf5/robosuite141_lift_demo.hdf5"),
    "robosuite 1.0": ("robosuite", "hdf5/robosuite101_stack_demo.hdf5"),
}
# Whose gripper stays open.
STILL_GRIPPERS = ("droid_raw",)

Findings = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What was found of one spec; `error` is '' for the right one. `findings` are those that the right spec
    has not, and `hidden` says why none could be."""

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
    """Recordings in a store, and what is found of them by their spec with overrides. `name` is that of
    outcomes."""

    def __init__(self, name: str, spec: str, source: Path, store: Path, right: Sequence[str] = ()) -> None:
        self.name, self.spec, self.store = name, spec, store
        loaded = load_spec(spec, right)
        self.mapping = loaded.to_json()["mapping"]
        report = run(loaded, source, store=store, name="d")
        assert report.version is not None, report.refused
        self.version = str(report.version)
        self.right = self._findings(self.version)

    @classmethod
    def of_dataset(cls, name: str, root: Path, *, degrees: bool = False) -> Recordings:
        """Motion that is written as a dataset of Open X-Embodiment writes it."""
        spec = load_spec(f"oxe/{name}")
        write_recordings(name, root / "source", spec.content.fps or USUAL_FPS, degrees=degrees)
        right = in_degrees(spec.to_json()["mapping"]) if degrees else ()
        return cls(name, f"oxe/{name}", root / "source", root / "store", right)

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
    """Of a dataset's right spec, and of each confusion."""
    recordings = Recordings.of_dataset(name, root / "radians")
    done = [Outcome(name, "", "", "", tuple(recordings.right))]
    given = confusions(recordings.mapping)
    degrees = None
    if any(confusion.from_degrees for confusion in given):
        degrees = Recordings.of_dataset(name, root / "degrees", degrees=True)
        done.append(Outcome(name, "", "in degrees", "", tuple(degrees.right)))
    for confusion in given:
        source = degrees if confusion.from_degrees and degrees is not None else recordings
        done.append(_outcome(source, confusion))
    return done


def sample_outcomes(samples: Path, name: str, root: Path) -> list[Outcome]:
    """As `outcomes`, of what was really recorded: of angles only as they are."""
    spec, path = SAMPLES[name]
    recordings = Recordings(name, spec, samples / path, root / "store")
    given = [confusion for confusion in confusions(recordings.mapping) if not confusion.from_degrees]
    if name in STILL_GRIPPERS:
        given = [replace(c, hidden="it never moves") if c.error == GRIPPER else c for c in given]
    right = Outcome(name, "", "", "", tuple(recordings.right))
    return [right, *(_outcome(recordings, confusion) for confusion in given)]


def _outcome(recordings: Recordings, confusion: Confusion) -> Outcome:
    try:
        findings = recordings.found(confusion.overrides)
    except FoundryError as error:  # refused outright, which tells as well
        findings = [{"check": "refused", "where": "", "message": str(error)}]
    named = names_cause(confusion.error, findings)
    return Outcome(
        recordings.name, confusion.error, confusion.place, confusion.hidden, tuple(findings), named
    )
