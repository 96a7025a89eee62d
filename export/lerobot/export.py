"""From a version to a LeRobot dataset: a plan, then file by file, so that it can be interrupted anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.export.components import each_component
from robot_foundry.export.lerobot.dataset import meta
from robot_foundry.export.lerobot.dataset.data_file import DataFile, EpisodeRows
from robot_foundry.export.lerobot.dataset.features import SUBTASK
from robot_foundry.export.lerobot.dataset.layout import (
    EPISODES_LINES,
    INFO,
    STATS,
    STATS_LINES,
    SUBTASKS,
    SUBTASKS_LINES,
    TASKS,
    TASKS_LINES,
)
from robot_foundry.export.lerobot.dataset.meta import EpisodeEntry, VideoSpan
from robot_foundry.export.lerobot.dataset.pictures import Sampled
from robot_foundry.export.lerobot.dataset.statistics import ColumnTotals, ImageTotals, Stats, column_stats
from robot_foundry.export.lerobot.dataset.video import VideoFile
from robot_foundry.export.lerobot.plan import Plan, fitting, plan_of
from robot_foundry.export.lerobot.videos import VideoJob, write_video
from robot_foundry.export.outputs import Output, open_output
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest, Selected
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress

# Frames of each camera that a dry run encodes to tell how large videos will be.
_TRIED = 32


def export(request: ExportRequest, data: Selected) -> ExportReport:
    """A LeRobot dataset of a version, or one for each component of a mixture."""
    return each_component(request, data, lambda part, out: _export_one(part, out, request))


def _export_one(part: Part, out: Path, request: ExportRequest) -> ExportReport:
    plan = plan_of(part, request)
    if request.dry_run:
        return _report(plan, out, is_dry=True, num_bytes=_estimate(plan), reused=0)
    with open_output(out, plan.identity, plan.files) as output:
        _write(plan, output, request.workers)
        return _report(plan, out, is_dry=False, num_bytes=output.num_bytes, reused=output.reused)


def _write(plan: Plan, output: Output, workers: int) -> None:
    """Every file that is not there yet."""
    cameras = len(plan.features.videos) + len(plan.features.images)
    total = plan.num_frames * max(1, cameras)
    jobs = video_jobs(plan)
    with (
        Progress(total, "images" if cameras else "frames", "exporting") as progress,
        Workers(workers) as pool,
    ):
        for path in output.make_all(jobs, write_video, pool):
            progress.advance(sum(clip.num_frames for clip in jobs[path].clips))
        for number, clips in enumerate(plan.data):
            output.make(plan.layout.data(number), partial(_data, plan, clips))
            progress.advance(fitting(plan, clips) * (total // plan.num_frames - len(plan.videos)))
    _write_meta(plan, output)


def video_jobs(plan: Plan) -> dict[str, VideoJob]:
    """What there is to write of each video, by its path."""
    return {
        plan.layout.video(key, number): _job(plan, key, clips)
        for key, parts in plan.videos.items()
        for number, clips in enumerate(parts)
    }


def _job(plan: Plan, key: str, clips: range) -> VideoJob:
    part = plan.source.part
    return VideoJob(
        part.opened.store, part.component, key, plan.camera(key).name, plan.features[key].size, plan.codec,
        plan.fps, tuple(plan.clips[clips.start : clips.stop]), tuple(_where(plan, key, n) for n in clips),
    )  # fmt: skip


def _data(plan: Plan, clips: range, place: Path) -> Mapping[str, Any]:
    """The rows of these clips, and their images where those are no videos; its facts are as of a video."""
    keys = plan.features.images
    stats: dict[str, list[Stats]] = {key: [] for key in keys}
    totals = {key: ImageTotals() for key in keys}
    with DataFile(place, plan.features) as data:
        for number in clips:
            clip = plan.clips[number]
            sampled = {
                key: Sampled(
                    plan.source.images(clip, plan.camera(key).name),
                    clip.num_frames,
                    plan.features[key].size,
                    _where(plan, key, number),
                )
                for key in keys
            }
            data.add(_rows(plan, number), {key: passed.encoded() for key, passed in sampled.items()})
            for key, passed in sampled.items():
                stats[key].append(passed.totals.stats())
                totals[key].merge(passed.totals)
    return {"stats": stats, "totals": {key: total.to_json() for key, total in totals.items()}}


def _rows(plan: Plan, number: int) -> EpisodeRows:
    clip = plan.clips[number]
    columns: dict[str, Any] = {**plan.columns.of(plan.source, clip), **plan.language.texts_of(clip)}
    if SUBTASK in plan.features:
        columns[SUBTASK] = plan.language.subtasks_of(clip)
    return EpisodeRows.of(
        plan.features, columns, episode=number, start=int(plan.starts[number]), fps=plan.fps,
        task_N=plan.language.tasks_of(clip),
    )  # fmt: skip


def _where(plan: Plan, key: str, number: int) -> str:
    """An episode in messages, by its name in the version."""
    return f"'{key}' of the episode '{plan.columns.attributes(plan.clips[number])['source_id']}'"


def _write_meta(plan: Plan, output: Output) -> None:
    entries, stats = _entries(plan, output)
    tasks, subtasks = plan.language.tasks, plan.language.subtasks
    has_subtasks = SUBTASK in plan.features
    if plan.layout.is_v3:
        output.make(TASKS, lambda p: meta.write_texts(p, tasks, "task"))
        if has_subtasks:
            output.make(SUBTASKS, lambda p: meta.write_texts(p, subtasks, "subtask"))
        columns = meta.attributes_schema(entries)
        for number, part in enumerate(meta.episodes_files(len(entries))):
            output.make(
                plan.layout.episodes(number),
                partial(
                    meta.write_episodes, entries=entries[part.start : part.stop], number=number, fps=plan.fps,
                    attributes=columns,
                ),
            )  # fmt: skip
        output.make(STATS, lambda p: meta.write_json(p, stats))
    else:
        output.make(TASKS_LINES, lambda p: meta.write_lines(p, meta.texts_lines(tasks, "task")))
        if has_subtasks:
            output.make(SUBTASKS_LINES, lambda p: meta.write_lines(p, meta.texts_lines(subtasks, "subtask")))
        output.make(EPISODES_LINES, lambda p: meta.write_lines(p, meta.episode_lines(entries)))
        output.make(STATS_LINES, lambda p: meta.write_lines(p, meta.stats_lines(entries)))
    info = meta.info_json(
        plan.layout, plan.features, fps=plan.fps, robot_type=plan.source.schema.embodiment,
        episodes=len(entries), frames=plan.num_frames, tasks=len(tasks), splits=plan.splits,
        megabytes=plan.megabytes,
    )  # fmt: skip
    output.make(INFO, lambda p: meta.write_json(p, info))


def _entries(plan: Plan, output: Output) -> tuple[list[EpisodeEntry], dict[str, Stats]]:
    """What the table of episodes says, and statistics of all rows; read again from the version's tables."""
    of_images, totals = _of_images(plan, output)
    columns = {key: ColumnTotals() for key in plan.features.numbers}
    data = dict(_placed(plan.data))
    spans = {key: dict(_spans(plan, parts)) for key, parts in plan.videos.items()}
    entries = []
    for number, clip in enumerate(plan.clips):
        rows = _rows(plan, number)
        stats: dict[str, Stats] = {key: column_stats(rows.columns[key]) for key in columns}
        for key, total in columns.items():
            total.add(rows.columns[key])
        tasks = [plan.language.tasks[n] for n in dict.fromkeys(plan.language.tasks_of(clip).tolist())]
        entries.append(
            EpisodeEntry(
                number,
                int(plan.starts[number]),
                clip.num_frames,
                tasks,
                data[number],
                {key: of_key[number] for key, of_key in spans.items()},
                {**stats, **{key: of_key[number] for key, of_key in of_images.items()}},
                plan.columns.attributes(clip),
            )  # fmt: skip
        )
    of_all = {key: total.stats() for key, total in columns.items()}
    return entries, of_all | {key: total.stats() for key, total in totals.items()}


def _of_images(plan: Plan, output: Output) -> tuple[dict[str, list[Stats]], dict[str, ImageTotals]]:
    """By camera, the statistics of each clip and of all, as the files that hold their images have them."""
    paths = {
        key: [plan.layout.video(key, n) for n in range(len(parts))] for key, parts in plan.videos.items()
    }
    paths |= {key: [plan.layout.data(n) for n in range(len(plan.data))] for key in plan.features.images}
    stats: dict[str, list[Stats]] = {}
    totals: dict[str, ImageTotals] = {}
    for key, of_key in paths.items():
        facts = [entry.facts for path in of_key if (entry := output.finished(path)) is not None]
        stats[key] = [one for told in facts for one in told["stats"][key]]
        totals[key] = ImageTotals.sum(ImageTotals.from_json(told["totals"][key]) for told in facts)
    return stats, totals


def _placed(parts: list[range]) -> Iterator[tuple[int, int]]:
    """The file of each clip."""
    for file, clips in enumerate(parts):
        for number in clips:
            yield number, file


def _spans(plan: Plan, parts: list[range]) -> Iterator[tuple[int, VideoSpan]]:
    for file, clips in enumerate(parts):
        start = 0
        for number in clips:
            yield number, VideoSpan(file, start)
            start += plan.clips[number].num_frames


def _estimate(plan: Plan) -> int:
    """Bytes of the dataset; of videos by encoding the first frames of each."""
    total = plan.num_frames * plan.features.row_bytes()
    for key in plan.features.images:
        total += int(plan.survey.image_bytes[plan.camera(key).role].sum())
    for key in plan.features.videos:
        sink, size, clip = io.BytesIO(), plan.features[key].size, plan.clips[0]
        images = plan.source.images(clip, plan.camera(key).name)
        pixels = Sampled(images, clip.num_frames, size, _where(plan, key, 0)).pixels()
        with VideoFile(sink, plan.codec, plan.fps, size) as video:
            for _, rgb_hw3 in zip(range(min(_TRIED, clip.num_frames)), pixels, strict=False):
                video.add(rgb_hw3)
        total += len(sink.getvalue()) * plan.num_frames // video.num_frames
    return total


def _report(plan: Plan, out: Path, *, is_dry: bool, num_bytes: int, reused: int) -> ExportReport:
    cameras = ", ".join([*plan.features.videos, *plan.features.images]) or "none"
    kept = "videos" if plan.features.videos else "images as they are stored"
    spaces = ", ".join(f"{key} ({len(space)})" for key, space in plan.columns.spaces.items())
    splits = {name: stop - start for name, (start, stop) in plan.splits.items()}
    return ExportReport(
        out=out,
        dry_run=is_dry,
        counts={"episodes": len(plan.clips), "frames": plan.num_frames},
        files=len(plan.files),
        num_bytes=num_bytes,
        reused=reused,
        versions=plan.versions,
        details={
            "layout": plan.layout.version,
            "fps": plan.fps,
            "tasks": len(plan.language.tasks),
            "splits": splits,
            "features": plan.features.to_json(),
        },
        lines=(
            f"  {_share(plan)}",
            f"  LeRobot {plan.layout.version} at {plan.fps:g} Hz: {spaces}",
            f"  cameras: {cameras}" + (f", {kept}" if cameras != "none" else ""),
            "  splits: " + ", ".join(f"{name} {count:,}" for name, count in splits.items()),
        ),
        warnings=tuple(_warnings(plan)),
    )


def _share(plan: Plan) -> str:
    """How much of the version it is."""
    of_version = plan.source.part.opened.table("episodes")["num_frames"].to_numpy()
    episodes = len({clip.episode for clip in plan.clips})
    pieces = f" in {len(plan.clips):,} pieces" if len(plan.clips) > episodes else ""
    return (
        f"of {plan.source.part.opened.version}: {episodes:,} of {len(of_version):,} episodes{pieces}, "
        f"{plan.num_frames:,} of {int(of_version.sum()):,} frames"
    )


def _warnings(plan: Plan) -> Iterator[str]:
    """What a reader of the dataset would not expect, a sentence each."""
    looked = plan.survey
    if looked.is_off_grid:
        yield (
            f"times lie up to {looked.off_grid_s:.3g} s off {plan.fps:g} Hz: LeRobot's timestamp counts "
            "frames, and the recorded times are in recorded_timestamp"
        )
    for role, count in looked.missing.items():
        if count:
            yield (
                f"{count:,} frames have no image of '{role}': it is black there, and "
                f"camera_is_missing.{role} says so"
            )
    for flag, what in ((Flag.INVALID_ACTION, "action"), (Flag.INVALID_STATE, "state")):
        if looked.flagged[flag]:
            yield (
                f"{looked.flagged[flag]:,} frames have no valid {what}, which is 0 there, and "
                f"is_invalid_{what} says so: --skip invalid_{what} leaves them out"
            )
    relative = [
        f"{dim.name} of {key} ({dim.representation})"
        for key, space in plan.columns.spaces.items()
        for dim in space
        if dim.representation != "absolute"
    ]
    if relative:
        yield f"{', '.join(relative[:3])}: no column says what is relative, and readers take it for absolute"
    if plan.columns.left_behind:
        named = ", ".join(repr(name) for name in plan.columns.left_behind[:3])
        yield f"attributes of episodes whose names are LeRobot's own stay behind: {named}"
    if plan.language.frames_without:
        yield f"{plan.language.frames_without:,} frames have no instruction: their task is the empty text"
