"""One variant: a sound source is damaged and ingested by the command, and all that came of it is judged."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

from foundry_testing.corruption.declared import Form, Outcome, Variant
from foundry_testing.corruption.kept import DATASET, Kept, kept
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run

# What Python says of itself, and no sentence does.
OF_PYTHON = re.compile(
    r"Traceback|NoneType|object has no|unsupported operand|not subscriptable|<class|unexpected \w+Error"
)
# What follows from a unit that is refused, and says nothing of others.
NEEDLESS = re.compile(r"passed over # files? that (no unit that is taken names|the layout \w+ does not read)")
LONGEST_REASON, LONGEST_ERROR = 1000, 3000
# Far more than any of these small sources takes.
MOST_CPU_SECONDS, MOST_BYTES_MORE = 60, 4 << 30


class Endless(BaseException):
    """The command took more CPU time than it may; no handler of errors catches it."""


@dataclass(frozen=True)
class Ran:
    """A command that was run."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("Error: ")]


@dataclass(frozen=True)
class Made:
    """What an ingest made: its report, its units, what was told, and what `validate --deep` doubts."""

    report: Mapping[str, Any]
    units: Mapping[str, Kept]
    told: frozenset[str]
    doubts: frozenset[str]


@dataclass(frozen=True)
class Sound:
    """A source that is whole, the folder that it is in, and what an ingest makes of it."""

    form: Form
    folder: Path
    made: Made

    @classmethod
    def of(cls, form: Form, folder: Path) -> Sound:
        (folder / "source").mkdir(parents=True)
        form.make(folder / "source")
        ran = _ingest(form, folder, folder / "store")
        assert ran.code == 0, f"{form.name}: {ran.err}"
        faults: list[str] = []
        made = _made(ran, folder / "store", faults)
        assert not faults and not made.report["quarantined"], (form.name, faults, ran.err)
        return cls(form, folder, made)


@dataclass(frozen=True)
class Trial:
    """What became of a variant, what must not be, and what was said."""

    outcome: Outcome
    faults: tuple[str, ...]
    said: tuple[str, ...]


def tried(variant: Variant, sound: Sound, folder: Path, *, inspected: bool = True) -> Trial:
    """Damage a copy of the source in the folder, ingest it, look at it, and remove it."""
    shutil.copytree(sound.folder, folder, ignore=shutil.ignore_patterns("store"))
    try:
        spoilt = variant.case.spoil(folder / "source", variant.rng())
        return _tried(variant, sound, folder, (spoilt,) if isinstance(spoilt, str) else spoilt, inspected)
    finally:
        shutil.rmtree(folder)


def _tried(variant: Variant, sound: Sound, folder: Path, spoilt: tuple[str, ...], inspected: bool) -> Trial:
    faults: list[str] = []
    store = folder / "store"
    try:
        with bounded():
            ran = _ingest(sound.form, folder, store)
            if ran.code:
                outcome, said = Outcome.REFUSED, ran.errors
                _check_refused(ran, store, sound, spoilt, faults)
            else:
                outcome, said = _taken(_made(ran, store, faults), sound, spoilt, faults)
            if inspected:
                _inspect(folder / "source", faults)
    except Endless as error:
        return Trial(Outcome(0), (f"it did not end: {error}",), ())
    case = variant.case
    if outcome & ~case.outcomes or (not case.is_random and outcome != case.outcomes):
        faults.append(f"it was {outcome}, and {case.outcomes} is declared")
    return Trial(outcome, tuple(faults), tuple(said))


def _check_refused(ran: Ran, store: Path, sound: Sound, spoilt: tuple[str, ...], faults: list[str]) -> None:
    if ran.code not in (1, 3):
        faults.append(f"exit code {ran.code}")
    if len(ran.errors) != 1 or not 0 < len(ran.errors[0]) < LONGEST_ERROR:
        faults.append(f"it is not refused in one sentence: {ran.err[-3000:]}")
    if OF_PYTHON.search(ran.err):
        faults.append(f"Python speaks: {ran.err[-3000:]}")
    partial = [path for top in ("datasets", "refs", "builds") for path in (store / top).rglob("*")]
    if any(path.is_file() for path in partial) or list(store.rglob(".tmp-*")):
        faults.append(f"something is left of it: {partial}")
    lost = [name for name in sound.made.units if not _matches(name, spoilt)]
    if lost:
        faults.append(f"valid data are lost: {lost}; {ran.errors}")


def _taken(made: Made, sound: Sound, spoilt: tuple[str, ...], faults: list[str]) -> tuple[Outcome, list[str]]:
    refused = made.report["quarantined"]
    said = [f"{entry['unit']}: {entry['reason']}" for entry in refused]
    for entry in refused:
        if not 0 < len(entry["reason"]) < LONGEST_REASON or OF_PYTHON.search(entry["reason"]):
            faults.append(f"no sentence: {entry['reason']!r}")
    changed = [name for name, unit in made.units.items() if sound.made.units.get(name) != unit]
    lacking = [name for name in sound.made.units if name not in made.units]
    faults += [f"{name} was not damaged, and changed" for name in changed if not _matches(name, spoilt)]
    faults += [f"{name} was not damaged, and is lost" for name in lacking if not _matches(name, spoilt)]
    left_out = _left_out(made.report)
    unnamed = [name for name in lacking if not _is_named(name, [entry["unit"] for entry in refused])]
    told = sorted(line for line in made.told - sound.made.told if not refused or not NEEDLESS.match(line))
    doubts = sorted(made.doubts - sound.made.doubts)
    outcome = Outcome.QUARANTINED if refused else Outcome(0)
    if told or left_out > _left_out(sound.made.report):
        outcome |= Outcome.TOLD
    outcome |= Outcome.FOUND if doubts else Outcome(0)
    before = {name: unit.flagged for name, unit in sound.made.units.items()}
    if any(made.units[name].flagged > before.get(name, made.units[name].flagged) for name in changed):
        outcome |= Outcome.FLAGGED
    seen = Outcome.TOLD | Outcome.FOUND | Outcome.FLAGGED
    if (changed or len(unnamed) > left_out) and not outcome & seen:
        outcome |= Outcome.UNSEEN
    return outcome or Outcome.EQUAL, [*said, *told, *doubts]


def _is_named(name: str, refused: Sequence[str]) -> bool:
    """Whether a unit is refused, by its name in whatever file told of it, or with its file."""
    file, _, unit = name.partition("#")
    return any(each.partition("#")[0] == file or each.partition("#")[2] == unit for each in refused)


def _left_out(report: Mapping[str, Any]) -> int:
    """What is counted and neither written nor quarantined."""
    return sum(report.get(name, 0) for name in ("duplicates", "filtered"))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _made(ran: Ran, store: Path, faults: list[str]) -> Made:
    """What the command says that it made, held against what is there."""
    if OF_PYTHON.search(ran.err):
        faults.append(f"Python speaks: {ran.err[-3000:]}")
    report = json.loads(ran.out)
    (place,) = store.glob("datasets/*/*/manifest.json")
    manifest = json.loads(place.read_text())
    counts, units = manifest["counts"], kept(store, manifest, place.parent)
    quarantined = sum(entry.get("count", 1) for entry in report["quarantined"])
    left_out = _left_out(report)
    totals = {
        "discovered": report["written"] + quarantined + left_out,
        "written": len(units),
    }
    for name, number in totals.items():
        if not report[name] == counts[name] == number:
            faults.append(f"{name}: {report[name]} reported, {counts[name]} in the manifest, {number} there")
    if list(store.rglob(".tmp-*")):
        faults.append("a part is left in the store")
    [found] = validate(DATASET, store=store, deep=True)
    # Files of pictures pass through as they are, and are decoded by `validate --deep` alone.
    pictures = [finding for finding in found.damage if finding.check == "images"]
    broken = [finding for finding in found.damage if finding.check != "images"]
    faults += [f"the version is not whole: {finding.message}" for finding in broken]
    told = [*report["warnings"], *_absent(report["absence"] or {})]
    doubts = [f"{finding.check} {finding.message}" for finding in (*found.doubts, *pictures)]
    return Made(report, units, frozenset(map(_numberless, told)), frozenset(map(_numberless, doubts)))


def _absent(absence: Mapping[str, Any]) -> Iterator[str]:
    """What `foundry-data show` says of what is not there, or not taken."""
    yield from (entry.get("sentence", "") for entry in absence.get("not_found", ()))
    for kind, entries in absence.get("not_taken", {}).items():
        yield from (f"{kind} {entry.get('name')} {entry.get('reason', '')}" for entry in entries)
    yield from (f"without {what}" for what, of in absence.get("without", {}).items() if of["episodes"])


def _numberless(sentence: str) -> str:
    """What is said without how many times."""
    return re.sub(r"\d[\d.,e+-]*", "#", sentence)


def _ingest(form: Form, folder: Path, store: Path) -> Ran:
    spec = str(folder / form.spec) if form.spec.endswith(".yaml") else form.spec
    sets = [word for setting in form.settings for word in ("--set", setting)]
    arguments = ["ingest", spec, str(folder / "source"), "--as", DATASET, "--store", str(store)]
    return _command(*arguments, *sets, "--json")


def _inspect(source: Path, faults: list[str]) -> None:
    ran = _command("inspect", str(source))
    if ran.code not in (0, 3):
        faults.append(f"inspect: exit code {ran.code}: {ran.err[-1000:]}")
    if OF_PYTHON.search(ran.err) or OF_PYTHON.search(ran.out):
        faults.append(f"inspect: Python speaks: {ran.err[-1500:]} {ran.out[-1500:]}")


def _command(*arguments: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(group, "foundry-data", arguments)
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """In so much CPU time and memory; what is more raises, whatever hangs in Python."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Endless(f"{MOST_CPU_SECONDS} s of CPU time")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES_MORE
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
