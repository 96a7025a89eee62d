"""All that is told of a place: what lies there, a few episodes, which spec reads it, and a drafted one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.ingest.inspect.draft import draft, field_of
from robot_foundry.ingest.inspect.evidence.drafted import Drafted, drafted
from robot_foundry.ingest.inspect.evidence.guess import Guess
from robot_foundry.ingest.inspect.fitting import Fit, fits, record_fit
from robot_foundry.ingest.inspect.forms import sniff
from robot_foundry.ingest.inspect.forms.found import Contents, Found, contents_of
from robot_foundry.ingest.inspect.forms.records import Records, records
from robot_foundry.ingest.inspect.survey import Survey, beside_frames, survey
from robot_foundry.ingest.inspect.told import instructions_of, rate_of, robot_of, roles_of, successes_of
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.runtime.errors import UsageError

# Things at a place that are opened; of more, each is named and can be asked for alone.
MOST_OPENED = 4


@dataclass(frozen=True)
class Seen:
    """One thing that was found and opened: of episodes `survey`, `drafted`, `spec`; of records `records`.

    `refused` says why no spec of the package reads the records, None if one does.
    """

    found: Found
    survey: Survey | None = None
    drafted: Drafted | None = None
    fits: tuple[Fit, ...] = ()
    spec: str | None = None
    records: Records | None = None
    refused: str | None = None

    @property
    def is_read(self) -> bool:
        """Whether anything of it could be read."""
        return bool(self.fits) if self.survey is None else bool(self.survey.read)

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "form": self.found.form,
            "layout": self.found.layout,
            "place": self.found.place,
        }
        values |= {"files": self.found.num_files, "bytes": self.found.num_bytes}
        values["fits"] = [
            {
                "spec": f.spec,
                "needs": f.needs.strip(),
                "makes": list(f.makes),
                "doubts": list(f.doubts),
                "is_alike": f.is_alike,
            }
            for f in self.fits
        ]
        if self.records is not None:
            names = ("name", "type", "example")
            values["fields"] = [dict(zip(names, field, strict=True)) for field in self.records.fields]
            values["rows"] = self.records.number
            values["refused"] = (
                [] if self.refused is None else [{"unit": self.found.place, "reason": self.refused}]
            )
        if self.survey is not None and self.drafted is not None:
            values |= _survey_json(self.survey)
            values["state"] = {name: _guess_json(name, guess) for name, guess in self.drafted.state.items()}
            values["actions"] = {
                stream: {name: _guess_json(name, guess) for name, guess in of.items()}
                for stream, of in self.drafted.actions.items()
            }
            values["unread"] = dict(self.drafted.unread)
            values["pairs"] = list(self.drafted.pairs)
            values["spec"] = self.spec
        return values


@dataclass(frozen=True)
class Inspection:
    """What lies at `source`; of `contents.found` those in `seen` were opened."""

    source: str
    contents: Contents
    seen: tuple[Seen, ...]

    def to_json(self) -> dict[str, Any]:
        contents = self.contents
        return {
            "source": self.source,
            "files": contents.num_files,
            "bytes": contents.num_bytes,
            "unseen": contents.unseen,
            "problems": [{"path": path, "problem": problem} for path, problem in contents.problems],
            "others": contents.others,
            "found": [seen.to_json() for seen in self.seen],
            "unopened": [found.place for found in contents.found[len(self.seen) :]],
        }

    def drafted_spec(self) -> str:
        """The drafted spec of the one thing found. UsageError if it is none of episodes, or several."""
        drafts = [seen for seen in self.seen if seen.spec is not None]
        if len(drafts) == 1 and len(self.contents.found) == len(self.seen):
            return str(drafts[0].spec)
        if not drafts:
            fit = next((fit for seen in self.seen if seen.survey is None for fit in seen.fits), None)
            raise UsageError(
                f"{self.source} holds no episodes that could be read, so there is no spec to draft",
                hint=None if fit is None else f"the spec '{fit.spec}' of the package reads what it holds",
            )
        places = ", ".join(found.place for found in self.contents.found[:MOST_OPENED])
        raise UsageError(
            f"{self.source} holds {len(self.contents.found)} sources, and a spec is of one",
            hint=f"give one of them: {places}",
        )


def inspect(source: str | Path, *, with_pictures: bool = False) -> Inspection:
    """Look at a file, a folder or a pattern: by content, a few episodes of it, in bounded memory."""
    contents = contents_of(source)
    seen = tuple(_opened(found, with_pictures) for found in contents.found[:MOST_OPENED])
    return Inspection(str(source), contents, seen)


def _opened(found: Found, with_pictures: bool) -> Seen:
    if found.layout is None or LAYOUTS[found.layout].kind != ROBOT:
        path = Path(found.sample)
        held = records(path, sniff.sniff(path).form)
        fit, reason = record_fit(found, held)
        return Seen(found, fits=() if fit is None else (fit,), records=held, refused=reason)
    surveyed = survey(found, with_pictures=with_pictures)
    reading = drafted(surveyed)
    made = draft(surveyed, reading) if surveyed.read else None
    return Seen(found, surveyed, reading, tuple(fits(surveyed)), made)


def _guess_json(name: str, guess: Guess) -> dict[str, Any]:
    run = guess.run
    return {"field": field_of(name, guess), "confidence": run.confidence, "evidence": list(run.evidence)}


def _survey_json(of: Survey) -> dict[str, Any]:
    rate, robot = rate_of(of), robot_of(of)
    return {
        "episodes": len(of.units),
        "files_listed": of.files_listed,
        "source_files": of.num_files,
        "frames": of.num_frames,
        "read": [{"id": read.id, "frames": read.num_frames} for read in of.read],
        "refused": [{"unit": name, "reason": reason} for name, reason in of.refused],
        "fps": {"value": rate.value, "why": rate.why},
        "embodiment": {"value": robot.value, "confidence": robot.confidence, "why": robot.why},
        "cameras": [
            {
                "name": camera.name,
                "array": camera.array,
                "height": camera.height,
                "width": camera.width,
                "pixels": camera.pixels,
                "role": role.value,
            }
            for camera, role in zip(of.cameras, roles_of(of).values(), strict=True)
        ],
        "arrays": {
            name: {"shape": list(series.shape), "dtype": series.dtype, "columns": list(series.columns)}
            for name, series in of.series.items()
        },
        "unlike": list(of.partial),
        "instruction": [{"rule": rule, "why": said.why} for rule, said in instructions_of(of)],
        "success": [{"rule": rule, "why": said.why} for rule, said in successes_of(of)],
        "told": [*of.told, *(f"{name} {why}" for name, why in beside_frames(of).items())],
    }
