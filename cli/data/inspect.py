"""foundry-data inspect: what a file or folder is, what its arrays look like, and a spec drafted by it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import counted, emit, note, size, table
from robot_foundry.runtime.errors import FindingsError, UsageError

if TYPE_CHECKING:
    from robot_foundry.ingest.inspect.evidence.guess import Guess
    from robot_foundry.ingest.inspect.fitting import Fit
    from robot_foundry.ingest.inspect.forms.records import Records
    from robot_foundry.ingest.inspect.inspect import Inspection, Seen
    from robot_foundry.ingest.inspect.survey import Survey

MOST_LISTED, MOST_ALIKE, LONGEST = 12, 4, 400


@click.command("inspect")
@click.argument("source")
@click.option(
    "--spec",
    "spec_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.yaml",
    help="Write a spec that is drafted from what was found.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.html",
    help="Write one page with pictures and plots.",
)
@json_option
def command(source: str, spec_file: Path | None, page: Path | None, as_json: bool) -> None:
    """Say what SOURCE is, by its content: formats, episodes, cameras, rates, and what its arrays look like.

    SOURCE is a file, a folder or a quoted glob here. A few episodes are read, nothing is changed. Every
    reading comes with its evidence, and with how sure it is. The spec that --spec drafts is for
    `foundry-data ingest` once you have filled in what no data tell (docs/inspect.md). Exit code 3: nothing
    that was found can be read.

    \b
    foundry-data inspect recording.hdf5
    foundry-data inspect logs --spec draft.yaml
    foundry-data ingest draft.yaml logs --dry-run
    """
    from robot_foundry.ingest.inspect.inspect import inspect
    from robot_foundry.ingest.sources.unusable import shown

    for out in (spec_file, page):
        if out is not None and out.exists():
            raise UsageError(f"{out} is there already", hint="give another name, or remove it")
        if out is not None and not out.parent.is_dir():
            raise UsageError(
                f"there is no folder {out.parent}", hint=f"mkdir -p {shlex.quote(str(out.parent))}"
            )
    made = inspect(source, with_pictures=page is not None)
    emit(
        made.to_json(), as_json=as_json, text=lambda: "\n".join(shown(line, LONGEST) for line in _text(made))
    )
    if page is not None:
        from robot_foundry.ingest.inspect.page import page_of

        page.write_text(page_of(made), encoding="utf-8")
        note(f"Wrote {page}")
    if not made.contents.found:
        raise FindingsError(f"{shown(source, LONGEST)} holds nothing that a spec reads")
    if not any(seen.is_read for seen in made.seen):
        raise FindingsError("nothing that was found could be read")
    if spec_file is not None:
        written = made.drafted_spec()
        spec_file.write_text(written, encoding="utf-8")
        for line in _goes_on(written, spec_file, source):
            note(line)


def _goes_on(written: str, spec_file: Path, place: str) -> Iterator[str]:
    """What is left to the user in a draft, all of it, and the command to go on with."""
    from robot_foundry.ingest.spec.unfilled import left_open

    left = left_open(written)
    yield f"Wrote {spec_file}: check its guesses" + (", and fill in what is TODO:" if left else "")
    yield from (f"  line {line}: {path}" for line, path in left)
    yield f"Next: {shlex.join(['foundry-data', 'ingest', str(spec_file), place, '--dry-run'])}"


def _reads(fit: Fit, place: str) -> str:
    return f"  `{shlex.join(['foundry-data', 'ingest', fit.spec, place])}{fit.needs}` reads this"


def _text(made: Inspection) -> Iterator[str]:
    contents = made.contents
    yield f"{made.source}: {counted(contents.num_files, 'file')}, {size(contents.num_bytes)}"
    for path, problem in contents.problems[:MOST_LISTED]:
        yield f"  {path} {problem}"
    if len(contents.problems) > MOST_LISTED:
        yield f"  and {len(contents.problems) - MOST_LISTED} more like these (--json lists all)"
    if contents.others:
        yield "  beside: " + ", ".join(f"{count} {form}" for form, count in contents.others.items())
    if contents.unseen:
        yield f"  {counted(contents.unseen, 'file')} more were not looked at"
    for seen in made.seen:
        yield ""
        yield from _of_thing(seen)
    rest = contents.found[len(made.seen) :]
    if rest:
        yield ""
        yield "Also found, and not opened: give one alone"
        yield from (f"  {found.form}: {found.place}" for found in rest)


def _of_thing(seen: Seen) -> Iterator[str]:
    found = seen.found
    yield f"{found.form}: {found.place} ({counted(found.num_files, 'file')}, {size(found.num_bytes)})"
    if seen.survey is None:
        yield from (_reads(fit, found.place) for fit in seen.fits)
        if seen.refused is not None:
            yield f"  no spec of the package reads this: {seen.refused}"
        if seen.records is not None:
            yield from _records(seen.records)
        return
    for fit in seen.fits:
        if fit.is_alike:
            continue
        yield _reads(fit, found.place)
        yield from (f"    {line}" for line in fit.makes)
        yield from (f"    the checks doubt it: {doubt}" for doubt in fit.doubts)
        if not fit.doubts:
            yield f"    the checks find no doubt in {counted(fit.num_episodes, 'episode')}"
    if alike := [fit.spec for fit in seen.fits if fit.is_alike]:
        some = ", ".join(alike[:MOST_ALIKE]) + ", …" * (len(alike) > MOST_ALIKE)
        those = counted(len(alike), "public dataset")
        yield f"  it has all the keys of {those}, which may mean other things by them: {some}"
    if all(fit.is_alike for fit in seen.fits):
        yield "  no spec of the package reads this" + (": --spec drafts one" if seen.spec else "")
    if found.layout == "ros":
        yield f"  `{shlex.join(['foundry-data', 'topics', found.place])}` lists its topics"
    yield from _survey(seen.survey)
    if seen.drafted is not None:
        guesses = [("state", seen.drafted.state), *seen.drafted.actions.items()]
        for column, of in guesses:
            if of:
                yield f"  {column}"
                yield from _guesses(of)
        yield from (f"  {pair}" for pair in seen.drafted.pairs)


def _records(of: Records) -> Iterator[str]:
    if of.number is not None:
        yield f"  {counted(of.number, 'row')}"
    if of.fields:
        yield from _indented(table(("field", "type", "example"), of.fields), 2)


def _survey(of: Survey) -> Iterator[str]:
    from robot_foundry.ingest.inspect.survey import beside_frames
    from robot_foundry.ingest.inspect.told import (
        flags_of,
        instructions_of,
        rate_of,
        roles_of,
        successes_of,
    )
    from robot_foundry.ingest.sources.unusable import shown

    frames = "" if of.num_frames is None else f", {counted(of.num_frames, 'frame')}"
    where = (
        ""
        if of.files_listed == of.num_files
        else f" in the {of.files_listed} of {of.num_files} files looked at"
    )
    yield f"  {counted(len(of.units), 'episode')}{frames}{where}; {len(of.read)} were read"
    for name, reason in of.refused[:MOST_LISTED]:
        yield f"  {name}: {reason}"
    if len(of.refused) > MOST_LISTED:
        yield f"  and {len(of.refused) - MOST_LISTED} more that cannot be read (--json lists all)"
    rate = rate_of(of)
    yield f"  rate: {rate.why}"
    for name, role in roles_of(of).items():
        camera = next(camera for camera in of.cameras if camera.name == name)
        held = f", {camera.pixels}" if camera.pixels else ""
        looks = f"{camera.height} x {camera.width}{held} at {camera.array}"
        yield f"  camera {name}: {looks}; {role.value} ({role.confidence})"
    for rule, said in instructions_of(of):
        yield f"  instruction {rule}: {said.why}"
    for rule, said in successes_of(of):
        yield f"  success {rule}: {said.why}"
    for flag, rules in flags_of(of).items():
        yield from (f"  {flag} {rule}: {said.why}" for rule, said in rules)
    for sentence in (*of.told, *(f"{name} {why}" for name, why in beside_frames(of).items())):
        yield f"  {sentence}"
    rows = [(shown(name, LONGEST), _shape(series.shape), series.dtype) for name, series in of.series.items()]
    if rows:
        yield from _indented(table(("array", "row", "type"), rows), 2)
    if of.partial:
        yield f"  not one row a frame, or not in all episodes: {', '.join(of.partial[:MOST_LISTED])}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _guesses(of: Mapping[str, Guess]) -> Iterator[str]:
    from robot_foundry.ingest.inspect.draft import field_of, flow

    for name, guess in of.items():
        yield f"    {name}: {flow(field_of(name, guess))} ({guess.run.confidence})"
        yield from (f"      {sentence}" for sentence in guess.run.evidence)


def _indented(text: str, by: int) -> list[str]:
    return [" " * by + line for line in text.splitlines()]
