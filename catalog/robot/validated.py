"""Damage and doubts of a robot version: episodes in tars, rows of tables against each other, data checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.robot.image_findings import decoded
from robot_foundry.catalog.robot.leaves import shard_leaves
from robot_foundry.catalog.robot.plausibility import doubts, shard_evidence
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.tables import LEAVES_SCHEMA
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.validation.tasks import Conclusion, ShardCheck, Tables
from robot_foundry.catalog.version import Version
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.following import Following, following
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.shard import RobotShard


@dataclass(frozen=True)
class Members:
    """The images of a tar that were decoded, and its episodes if it has any and they can be read."""

    num_images: int
    shard: RobotShard | None


@dataclass(frozen=True)
class ShardOutcome:
    """The images of a shard that were decoded, and evidence for the data checks."""

    num_images: int
    evidence: Evidence | None


def count(tables: Tables) -> tuple[int, int] | None:
    """Episodes and frames by the table of episodes."""
    episodes = tables["episodes"]
    if episodes is None:
        return None
    return episodes.num_rows, pc.sum(episodes["num_frames"]).as_py() or 0


def check_tables(manifest: Manifest, tables: Tables, fault: Fault) -> None:
    """Keys are there once, episodes are of shards that are, annotations lie in their episodes."""
    if tables["episodes"] is None:
        return
    rows = tables["episodes"].to_pylist()
    for key, times in Counter(row["key"] for row in rows).items():
        if times > 1:
            fault.manifest("episodes", f"episode {key} is there {times} times")
    strays = [row["key"] for row in rows if not 0 <= row["shard"] < len(manifest.shards)]
    if strays:
        fault.manifest("episodes", f"episode {strays[0]} is of a shard that the manifest lacks")
    lengths = {row["key"]: row["num_frames"] for row in rows}
    for row in _wrong_annotations(tables["annotations"], lengths)[:1]:
        span = f"{row['start']} … {row['end']}"
        fault.manifest(
            "annotations", f"an annotation of episode {row['key']} spans the frames {span}, which it lacks"
        )


def _wrong_annotations(table: pa.Table | None, lengths: Mapping[str, int]) -> list[dict[str, Any]]:
    rows: Iterable[dict[str, Any]] = () if table is None else table.to_pylist()
    return [row for row in rows if not 0 <= row["start"] < row["end"] <= lengths.get(row["key"], -1)]


def check_members(task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Members:
    """Images against the sizes of their cameras, episodes against the manifest and the episodes table."""
    num_images = 0
    if task.deep and is_intact:
        num_images = decoded(task.store, task.version, task.entry.key, reader, task.schema, fault)
    if not task.entry.num_groups:  # further images of an episode whose head is another shard
        return Members(num_images, None)
    shard = RobotShard(reader, lambda key: open_tar(task.store, task.version.dataset, key))
    with fault.caught("tar", task.tar):
        _episodes(task, shard, fault)
        return Members(num_images, shard)
    return Members(num_images, None)


def _episodes(task: ShardCheck, shard: RobotShard, fault: Fault) -> None:
    """The tar's episodes against the manifest and the episodes table."""
    entry = task.entry
    frames = int(shard.row_starts[-1])
    if (len(shard.episodes), frames) != (entry.num_groups, entry.num_samples):
        fault.manifest(
            "counts",
            f"shard {entry.key} holds {len(shard.episodes):,} episodes and {frames:,} frames, the manifest "
            f"says {entry.num_groups:,} and {entry.num_samples:,}",
        )
    for row in task.rows["episodes"] or ():
        at = row["episode"]
        is_there = 0 <= at < len(shard.episodes) and shard.episodes[at] == row["key"]
        if not is_there or shard.row_starts[at] != row["row_start"]:
            fault.manifest("episodes", f"episode {row['key']} is not where the table of episodes says")


def check_rows(task: ShardCheck, tables: Tables, members: Members | None, fault: Fault) -> ShardOutcome:
    """The frames table against episodes and leaves; evidence of what can be trusted."""
    members = members or Members(0, None)
    frames, evidence = tables.get("frames"), None
    if frames is not None:
        with fault.caught("tables", task.table("frames")):
            evidence = _evidence(task, frames, members.shard, fault)
    return ShardOutcome(members.num_images, evidence)


def _evidence(task: ShardCheck, frames: pa.Table, shard: RobotShard | None, fault: Fault) -> Evidence | None:
    if frames.num_rows != task.entry.num_samples:
        fault.table(
            f"frames/{task.entry.key}",
            f"has {frames.num_rows:,} rows, the manifest says {task.entry.num_samples:,}",
        )
        return None
    episodes, leaves = task.rows["episodes"], task.rows["leaves"]
    if episodes is None:
        return None
    inside = [row for row in episodes if _in_place(row, frames, fault)]
    if leaves is not None and len(inside) == len(episodes):
        _same_leaves(task, frames, episodes, leaves, fault)
    with fault.caught("images", task.tar):
        return shard_evidence(task.schema, frames, inside, shard)
    return None


def _in_place(row: Mapping[str, Any], frames: pa.Table, fault: Fault) -> bool:
    """Whether the rows of the episode, and so all windows in it, are its own, whole and in order."""
    start, count = row["row_start"], row["num_frames"]
    episode_rows = frames.slice(start, count) if start >= 0 and count > 0 else frames.slice(0, 0)
    numbers: NDArray[Any] = episode_rows["frame"].to_numpy()
    is_of_episode_N = episode_rows["episode"].to_numpy() == row["episode"]
    if episode_rows.num_rows == count > 0 and is_of_episode_N.all() and (numbers == np.arange(count)).all():
        return True
    fault.manifest(
        "windows", f"episode {row['key']} has {count:,} frames from row {start:,}, which are not its own rows"
    )
    return False


def _same_leaves(
    task: ShardCheck,
    frames: pa.Table,
    episodes: Sequence[Mapping[str, Any]],
    leaves: Sequence[Mapping[str, Any]],
    fault: Fault,
) -> None:
    made = shard_leaves(task.schema, frames, {row["episode"] for row in episodes})
    # A shard whose episodes are all quarantined has leaves of no value; what segments lie in has none.
    expected = (
        {(leaf["column"], leaf["dim"]): leaf["digest"] for leaf in made} if task.entry.num_groups else {}
    )
    stored = {(leaf["column"], leaf["dim"]): leaf["digest"] for leaf in leaves}
    wrong = sorted(key for key in expected.keys() | stored.keys() if expected.get(key) != stored.get(key))
    if wrong:
        column, dim = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        fault.table(
            "leaves", f"does not hold the statistics of {column} {dim}{more} of shard {task.entry.key}"
        )


def conclude(
    version: Version, manifest: Manifest, tables: Tables, shards: Sequence[ShardOutcome]
) -> Conclusion:
    """The data checks over all shards, and how the state follows the actions."""
    evidence = Evidence.merge_all(shard.evidence for shard in shards if shard.evidence is not None)
    measured = {" ".join(where): how for where, how in following(evidence).items()}
    return Conclusion(
        checked={"images_decoded": sum(shard.num_images for shard in shards)},
        doubts=_doubts(version, manifest, evidence, tables["leaves"]),
        following=measured,
        lines=tuple(_lines(measured)),
    )


def _doubts(
    version: Version, manifest: Manifest, evidence: Evidence, leaves: pa.Table | None
) -> tuple[Finding, ...]:
    """The data checks, with the name of the version before each."""
    spec = manifest.provenance.get("spec")
    mapping, content = (
        (spec.get("mapping"), spec.get("content")) if isinstance(spec, Mapping) else (None, None)
    )
    leaf_table = LEAVES_SCHEMA.empty_table() if leaves is None else leaves
    judged = doubts(schema_of(manifest), evidence, leaf_table, mapping, content)
    return tuple(replace(finding, message=f"{version}: {finding.message}") for finding in judged)


def _lines(measured: Mapping[str, Following]) -> Iterator[str]:
    for where, how in measured.items():
        if not where.startswith("action.next_state"):
            yield (
                f"{where}: the state moves by {how.gain:.2g} of what is asked "
                f"(frames later than the next: {how.lag}, correlation: {how.correlation:.2f})"
            )
