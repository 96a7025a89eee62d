"""What an ingest would make, from the headers of all units and the first frames of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.robot.kind import KIND
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.ingest.kind import Preview
from robot_foundry.ingest.robot.absence.absence import Absence, Outcome, absence
from robot_foundry.ingest.robot.absence.asked import Asked
from robot_foundry.ingest.robot.absence.notes import of_arrays, sentences
from robot_foundry.ingest.robot.content.members import episode_json, reader_of
from robot_foundry.ingest.robot.content.pictures import Pictures, advice
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.named import with_named
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.runtime.errors import FoundryError

# Of the first unit that can be read, and how far apart at most. The beginning is seldom like the rest, and an
# odd distance meets key frames, which in videos of LeRobot are every other one, as often as those between.
SAMPLED_FRAMES, APART = 16, 31
# Units that are tried, one after the other, until one can be read.
MOST_OPENED = 16
TAR_OVERHEAD = 512 + 256  # of a member: its header, and on average half a block at its end
# Above this multiple of the source's bytes the user is told before the disk is full.
WORTH_A_WARNING, FEW_BYTES = 2.0, 100_000_000


def preview(spec: Spec, units: Sequence[Unit], source_bytes: int) -> Preview:
    """Open the first unit that can be read, fit the mapping to it, and encode some of its frames."""
    refused: list[Quarantined] = []
    for unit in units[:MOST_OPENED]:
        try:
            sample = _sample(spec, unit)
        except Refused as error:
            refused.append(Quarantined(unit.name, error.message))
            continue
        return _of_sample(sample, unit, units, source_bytes, tuple(refused))
    rest, none = units[len(refused) :], "no unit could be read with this mapping"
    if rest:
        none = (
            f"none of the first {len(refused)} units could be read, and {len(rest):,} others were not tried"
        )
    lines = (f"{none}, so dims and cameras are not known",)
    planned = sum(unit.num_bytes for unit in rest)
    counts = KIND, len(rest), _num_frames(rest), source_bytes, planned
    return Preview(*counts, None, None, lines, tuple(_told(rest)), refused=tuple(refused))


def _of_sample(
    sample: _Sample, unit: Unit, units: Sequence[Unit], source_bytes: int, refused: tuple[Quarantined, ...]
) -> Preview:
    """What all units would make by what one of them tells; the refused ones came before it."""
    left = units[len(refused) :]
    num_frames = _num_frames(left)
    if num_frames and unit.num_samples:
        grows = num_frames / unit.num_samples
    else:
        grows = sum(unit.num_bytes for unit in left) / max(unit.num_bytes, 1)
    stored = round(sample.stored_bytes * grows)
    lost = sample.absence
    sentences = (*sample.problems, *(() if lost is None else lost.warnings))
    by_headers = {sentence for sentence in sentences if sentence in _told([unit])}
    warnings = *(f"{unit.name}: {text}" for text in sentences if text not in by_headers), *_told(left)
    record = None if lost is None else lost.record
    counts = KIND, len(left), num_frames, source_bytes, stored
    lines = _lines(sample.schema)
    made = Preview(*counts, sample.schema, unit.name, lines, warnings, record, refused)
    return _warned(made, sample.schema)


def _num_frames(units: Sequence[Unit]) -> int | None:
    lengths = [unit.num_samples for unit in units]
    return None if None in lengths else sum(length or 0 for length in lengths)


def _told(units: Sequence[Unit]) -> list[str]:
    """What headers tell of the units, as a version would tell it of its episodes."""
    return of_arrays([dict(unit.told) for unit in units])


def _lines(schema: Schema | None) -> tuple[str, ...]:
    """The dims of the state and of each stream, and the cameras."""
    if schema is None:
        return (
            "the mapping does not fit the first unit that could be read, so dims and cameras are not known",
        )
    columns = {"state": schema.state, **schema.streams}
    count = {name: "1 dim" if len(dims) == 1 else f"{len(dims):,} dims" for name, dims in columns.items()}
    return (
        *(f"{name}: {count[name]}: {_quantities([d.name for d in dims])}" for name, dims in columns.items()),
        *(f"camera {c.name}: {c.role}, {c.height} x {c.width}" for c in schema.cameras),
    )


def _quantities(names: Sequence[str]) -> str:
    """Quantities with the number of their components: right.ee_position 3, right.gripper_opening 1."""
    parts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{name} {count}" for name, count in parts.items())


def _warned(made: Preview, schema: Schema | None) -> Preview:
    warnings = [*made.warnings]
    if made.growth >= WORTH_A_WARNING and made.stored_bytes > FEW_BYTES:
        warnings.append(
            f"the dataset will take about {made.growth:.1f} times the {made.source_bytes / 1e9:.2f} GB of "
            "its source; content.resize or a lower quality makes it smaller"
        )
    cameras = schema.cameras if schema else ()
    hint = advice({camera.name: (camera.height, camera.width) for camera in cameras})
    return replace(made, warnings=(*warnings, *([] if hint is None else [hint])))


@dataclass(frozen=True)
class _Sample:
    """What one unit tells: the schema, the bytes that it takes, why the mapping misfits, and what is lost."""

    schema: Schema | None
    stored_bytes: int
    problems: tuple[str, ...] = ()
    absence: Absence | None = None


def _sample(spec: Spec, unit: Unit) -> _Sample:
    with reader_of(spec).open(unit, spec.content) as episode:
        pictures = Pictures(episode, spec.content)
        images, count = 0, 0
        apart = min(APART, max(1, episode.num_frames // SAMPLED_FRAMES - 1) | 1)
        sampled = islice(episode.frames, 0, apart * SAMPLED_FRAMES, apart)
        for frame, shown in enumerate(sampled):
            images += sum(len(data) + TAR_OVERHEAD for _, _, data in pictures.of_frame(frame, shown))
            count += 1
        arrays = dict(episode.arrays)
        low_dim = sum(array.nbytes for array in arrays.values())
        stored = round(images / max(count, 1) * episode.num_frames) + low_dim
        shapes = {name: array.shape for name, array in arrays.items()}
        surveyed = Surveyed(unit.key, episode_json(unit, episode, pictures, spec, ()), shapes)
    try:
        asked, named = with_named(Asked.of(spec), [surveyed])
        resolution = resolve(asked.mapping, [surveyed])
        if resolution.problems:
            return _Sample(None, stored, tuple(resolution.problems.values()))
        rows = canonical(resolution.mapping, resolution.schema, surveyed.episode, arrays)
    except FoundryError as error:
        return _Sample(None, stored, (error.message,))
    annotations = frozenset((kind, source) for _, _, kind, _, source in rows.annotations)
    outcomes = [Outcome(unit.name, rows.success, annotations)]
    noted = sentences([rows.notes], 1, len(rows.flags_N))
    resolution = replace(resolution, warnings=(*named, *resolution.warnings, *noted))
    lost = absence(asked, resolution, [surveyed], outcomes)
    return _Sample(resolution.schema, stored, (), lost)
