"""Which specs that come with the package read a source, and what the data checks say of episodes then.

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.checks.evidence import Column, EpisodeRows, Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings
from robot_foundry.ingest.files.scan import choose, list_units, source_files
from robot_foundry.ingest.inspect.forms.found import Found
from robot_foundry.ingest.inspect.forms.records import TEXT_FIELDS, Records
from robot_foundry.ingest.inspect.survey import NOMINAL_FPS, Series, Survey, in_reach
from robot_foundry.ingest.kind import kind_of
from robot_foundry.ingest.robot.absence.asked import Asked
from robot_foundry.ingest.robot.content.members import episode_json, reader_of
from robot_foundry.ingest.robot.content.pictures import Pictures
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.mapping import Canonical, canonical
from robot_foundry.ingest.robot.named import with_named
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec, Spec, mapping_json
from robot_foundry.ingest.sources.base import UNKNOWN, Refused
from robot_foundry.ingest.sources.text.layouts import TEXT
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import Workers

# Episodes by which a spec is tried, files that are listed for it, and findings that are told.
MOST_EPISODES, MOST_FILES, MOST_FINDINGS = 4, 4, 8


@dataclass(frozen=True)
class Fit:
    """A packaged spec that reads the source: what it makes, and what the data checks doubt in a few episodes;
    of records, neither.

    `needs` are options that the user has to give with it. Of a public dataset's spec that fits by keys alone,
    as nothing there is called like it, `is_alike` says that numbers of like names may mean other things.
    """

    spec: str
    needs: str
    makes: tuple[str, ...]
    doubts: tuple[str, ...]
    num_episodes: int
    is_alike: bool = False


@dataclass(frozen=True)
class Rows:
    """The canonical rows of a few episodes under a spec, and the evidence of the data checks."""

    mapping: MappingSpec
    schema: Schema
    episodes: tuple[Canonical, ...]
    evidence: Evidence


def fits(survey: Survey) -> list[Fit]:
    """The packaged specs that fit, those with fewer doubts and more of their quantities first."""
    fitting = []
    for name in builtin_specs():
        spec, needs = load_spec(name), ""
        if spec.layout == "zarr" and isinstance(spec, Spec) and spec.content.fps is None:
            spec, needs = load_spec(name, (f"content.fps={NOMINAL_FPS}",)), " --set content.fps=HZ"
        if not isinstance(spec, Spec) or spec.layout != survey.found.layout or not _may_fit(spec, survey):
            continue
        try:
            rows = rows_of(spec, survey.found.place)
        except (FoundryError, OSError, ValueError, KeyError, TypeError):
            continue  # it reads another source
        doubts = findings(rows.evidence, None, mapping_json(rows.mapping), {})
        told = tuple(map(str, doubts[:MOST_FINDINGS]))
        is_alike = spec.about is not None and not _is_called(name, spec, survey.found.place)
        fitting.append(Fit(name, needs, _makes(rows.schema), told, len(rows.episodes), is_alike))
    return sorted(fitting, key=lambda fit: (fit.is_alike, len(fit.doubts), -len(fit.makes), fit.spec))


def record_fit(found: Found, of: Records) -> tuple[Fit | None, str | None]:
    """The spec of the layout as it reads the first records in a dry run; else why it reads none of them."""
    assert found.layout is not None
    held = {name for name, _, _ in of.fields}
    keys = [name for name in TEXT_FIELDS if name in held] if found.layout == TEXT.name else []
    reason = ""
    for needed in ((), *((f"content.key={key}",) for key in keys)):
        try:
            spec = load_spec(found.layout, needed)
            chosen, source = choose(found.place, spec)
            files = source_files(source, lambda _: UNKNOWN)[:MOST_FILES]
            listing = list_units(files, chosen, Workers())
            made = kind_of(chosen).preview(chosen, listing.units, 0)
        except (FoundryError, OSError) as error:
            reason = reason or (error.message if isinstance(error, FoundryError) else str(error))
            continue
        if made.schema is not None:
            needs = "".join(f" --set {setting}" for setting in needed)
            return Fit(found.layout, needs, (), (), 0), None
        told = (*(entry.reason for entry in listing.refused), *made.warnings, *made.lines)
        reason = reason or next(iter(told), "")
    return None, reason


def _is_called(name: str, spec: Spec, place: str) -> bool:
    """Whether a folder there has a name of the dataset that a spec is of, perhaps with more behind it."""
    usual = (
        part for of in spec.locations for part in PurePath(of).parts[-2:] if part[:1] not in "$0123456789"
    )
    called = {name.rpartition("/")[2], *usual} - {"robotics"}
    return any(part.startswith(each) for part in PurePath(place).parts for each in called)


def _may_fit(spec: Spec, survey: Survey) -> bool:
    """Whether the arrays that it needs are there, as far as the survey tells."""
    if survey.found.layout == "ros" or not survey.read:
        return True  # their arrays are called as the spec says
    fields = [*spec.mapping.state.values(), *(f for of in spec.mapping.actions.values() for f in of.values())]
    return all(field.optional or _holds(field, survey.series) for field in fields)


def _holds(field: Field, series: Mapping[str, Series]) -> bool:
    if field.key is None:
        return True
    of = series.get(field.key)
    return of is not None and (field.columns is None or (field.columns[1] or 0) <= of.width)


def rows_of(spec: Spec, place: str, most: int = MOST_EPISODES) -> Rows:
    """The canonical rows of the first episodes at the place. Refused if none can be read as the spec says."""
    chosen, source = choose(place, spec)
    assert isinstance(chosen, Spec)
    listing = list_units(source_files(source, lambda _: UNKNOWN)[:MOST_FILES], chosen, Workers())
    surveyed: list[Surveyed] = []
    arrays: list[Mapping[str, NDArray[Any]]] = []
    reader = reader_of(chosen)
    for unit in in_reach(listing.units[:most], chosen.layout):
        try:
            with reader.open(unit, chosen.content) as episode:
                pictures = Pictures(episode, chosen.content)
                held = dict(episode.arrays)
                about = episode_json(unit, episode, pictures, chosen, ())
        except Refused:
            continue
        surveyed.append(Surveyed(unit.key, about, {name: values.shape for name, values in held.items()}))
        arrays.append(held)
    if not surveyed:
        raise Refused("no episode could be read")
    asked, _ = with_named(Asked.of(chosen), surveyed)
    resolution = resolve(asked.mapping, surveyed)
    if resolution.problems:
        raise Refused(next(iter(resolution.problems.values())))
    made = tuple(
        canonical(resolution.mapping, resolution.schema, one.episode, of)
        for one, of in zip(surveyed, arrays, strict=True)
    )
    evidence = Evidence.merge_all(
        measure(_rows(one, rows, resolution.schema)) for one, rows in zip(surveyed, made, strict=True)
    )
    return Rows(resolution.mapping, resolution.schema, made, evidence)


def _rows(one: Surveyed, rows: Canonical, schema: Schema) -> EpisodeRows:
    """An episode as the data checks take it, without its images."""

    def column(values: NDArray[np.float32], invalid: Flag, name: str) -> Column:
        return Column(values, (rows.flags_N & invalid) == 0, schema.space(name))

    columns = {"state": column(rows.state_ND, Flag.INVALID_STATE, "state")}
    columns |= {f"action.{name}": column(of, Flag.INVALID_ACTION, name) for name, of in rows.streams.items()}
    return EpisodeRows(one.key, float(one.episode["fps"]), rows.timestamp_N, columns)


def _makes(schema: Schema) -> tuple[str, ...]:
    """The quantities of the state and of each stream."""
    columns: Sequence[tuple[str, Iterable[Any]]] = [("state", schema.state), *schema.streams.items()]
    return tuple(
        f"{name}: {', '.join(dict.fromkeys('.'.join(dim.name.split('.')[:2]) for dim in dims))}"
        for name, dims in columns
    )
