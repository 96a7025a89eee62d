"""Windows as WebDataset tars: `foundry-data export REF --to windows`.

    [<component>/]shard_000000.tar …    windows in the order of training, see `plain` and `vla_foundry`
    [<component>/]manifest.jsonl        {"shard": "shard_000000", "num_sequences": n} a line
    [<component>/]stats.json, preprocessing_config.yaml, processing_metadata.json    of VLA Foundry
    data_params.yaml                    of VLA Foundry: its `data` section, but for places and weights
    windows.json                        what all of it is; written last

Of a mixture each component has a folder, as loaders mix such tars by weights of their own; with `samples` all
windows are drawn by the weights here, into one folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.export.outputs import Output, open_output
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest, Selected
from robot_foundry.export.windows import plain, vla_foundry
from robot_foundry.export.windows.asked import Asked, asked_of
from robot_foundry.export.windows.estimate import estimated, source_bytes
from robot_foundry.export.windows.options import VLA_FOUNDRY
from robot_foundry.export.windows.plan import Group, groups_of
from robot_foundry.export.windows.rows import WindowRow, WindowRows
from robot_foundry.export.windows.vla_statistics import statistics_json
from robot_foundry.loader.order import ORDER_VERSION
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.images import codec_versions
from robot_foundry.shards.tar import TarWriter
from robot_foundry.windows.mixtures import warnings_for

MARKER, MANIFEST, STATS = "windows.json", "manifest.jsonl", "stats.json"
CONFIG, METADATA, PARAMS = "preprocessing_config.yaml", "processing_metadata.json", "data_params.yaml"
FORMAT = 1
COUNTED = ("windows", "images", "new_images", "missing_images", "without_image")


def export(request: ExportRequest, data: Selected) -> ExportReport:
    """Write the windows, go on with those that an earlier run began, or estimate them."""
    opened = data.mixture
    asked = asked_of(request.options, opened)
    is_vla = asked.layout == VLA_FOUNDRY
    rows = WindowRows(opened, asked, jpeg_only=is_vla, with_around=is_vla)
    try:
        work = _Work(opened, asked, rows, groups_of(opened, rows.drafts.sources, asked))
        return work.estimate(request.out) if request.dry_run else work.write(request.out)
    finally:
        rows.close()


@dataclass(frozen=True, eq=False)
class _Work:
    """One export: what is selected, what is asked for, and the groups of tars that it becomes."""

    opened: OpenMixture
    asked: Asked
    rows: WindowRows
    groups: Sequence[Group]

    @property
    def is_vla(self) -> bool:
        return self.asked.layout == VLA_FOUNDRY

    def members(self, row: WindowRow) -> dict[str, bytes]:
        """What a window becomes in the tar, by its names there."""
        return vla_foundry.members(row, self.fields) if self.is_vla else plain.members(row)

    @cached_property
    def fields(self) -> list[vla_foundry.Field]:
        return vla_foundry.fields_of(*self.rows.drafts.spaces)

    def files(self) -> Iterator[tuple[str, Callable[[Output, Path], Mapping[str, Any] | None]]]:
        """All files in the order in which they are made, each with what makes it."""
        for group in self.groups:
            for shard in range(group.num_shards):
                yield group.path(f"{group.shard_name(shard)}.tar"), partial(self._shard, group, shard)
            yield group.path(MANIFEST), partial(self._manifest, group)
            if self.is_vla:
                yield group.path(STATS), partial(self._statistics, group)
                yield group.path(CONFIG), partial(_put, self._config)
                yield group.path(METADATA), partial(_put, partial(self._about, group))
        if self.is_vla:
            yield PARAMS, self._params
        yield MARKER, self._marker

    def write(self, out: Path) -> ExportReport:
        """Make the files that are not whole yet."""
        files = list(self.files())
        identity = {
            "format": ["windows", FORMAT, ORDER_VERSION],
            "data": self.opened.mixture.to_json(),
            "encoders": self.encoders(),
            **self.asked.to_json(),
        }
        windows = sum(group.count for group in self.groups)
        with open_output(out, identity, [path for path, _ in files]) as output:
            finished = [output.finished(path) for path, _ in files]
            done = sum(entry.facts.get("windows", 0) for entry in finished if entry is not None)
            with Progress(windows, "windows", "export", done=done) as progress:
                for path, write in files:
                    fresh = output.finished(path) is None
                    entry = output.make(path, partial(write, output))
                    if fresh and (made := entry.facts.get("windows")):
                        progress.advance(made, bytes=entry.num_bytes)
            totals = self._totals(output)
            return self._report(out, totals, output.num_bytes, len(files), output.reused, dry_run=False)

    def estimate(self, out: Path) -> ExportReport:
        """What `write` would do."""
        guess = estimated(self.opened, self.rows, self.groups, self.members)
        files = sum(1 for _ in self.files())
        totals = {"windows": sum(group.count for group in self.groups)}
        return self._report(out, totals, guess.num_bytes, files, 0, dry_run=True)

    def encoders(self) -> dict[str, str]:
        """Versions of what encodes images anew; none where all go out as they are stored."""
        sizes, jpeg_only = self.rows.image_sizes, self.is_vla
        cameras = [
            camera
            for part in self.opened.parts
            for camera in schema_of(part.manifest).cameras
            if camera.role in sizes
        ]
        if all(
            (camera.height, camera.width) == sizes[camera.role]
            and (camera.encoding != "png" or not jpeg_only)
            for camera in cameras
        ):
            return {}
        return _versions()

    def _shard(self, group: Group, shard: int, output: Output, path: Path) -> dict[str, int]:
        """Write a tar, and tell what is in it."""
        counts = dict.fromkeys(COUNTED, 0)
        numbers = group.windows_of(shard)
        with path.open("wb") as file:
            tar = TarWriter(file)
            for number, row in zip(numbers, self.rows.read(group.samples(numbers)), strict=True):
                members = self.members(row)
                for name in sorted(members):
                    tar.add(f"{number:09d}.{name}", members[name])
                pictures = [picture for of_role in row.pictures.values() for picture in of_role]
                there = [picture for picture in pictures if picture is not None]
                counts["windows"] += 1
                counts["images"] += len(there)
                counts["new_images"] += sum(picture.is_new for picture in there)
                counts["missing_images"] += len(pictures) - len(there)
                counts["without_image"] += not there
            tar.close()
        return counts

    def _manifest(self, group: Group, output: Output, path: Path) -> None:
        lines = [
            {"shard": group.shard_name(shard), "num_sequences": len(group.windows_of(shard))}
            for shard in range(group.num_shards)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    def _statistics(self, group: Group, output: Output, path: Path) -> None:
        windows = self.rows.read(group.samples(range(group.count)), with_pictures=False)
        told = statistics_json(windows, *self.rows.drafts.spaces, self.fields)
        path.write_bytes(canonical_json(told))

    def _config(self) -> dict[str, Any]:
        drafts = self.rows.drafts
        spec = self.asked.to_json()["window"]
        return vla_foundry.preprocessing_config(spec, drafts.history, drafts.horizon, self.asked.quality)

    def _params(self, output: Output, path: Path) -> None:
        drafts = self.rows.drafts
        missing = self._totals(output)["missing_images"] > 0
        spec, fields = self.asked.to_json()["window"], self.fields
        params = vla_foundry.data_params(spec, drafts.history, drafts.horizon, fields, is_any_missing=missing)
        _put(lambda: params, output, path)

    def _about(self, group: Group | None = None) -> dict[str, Any]:
        """What the windows of a group, or of all, are made of and by."""
        drafts = self.rows.drafts
        state, action = drafts.spaces
        components = [
            asdict(component) | {"embodiment": source.schema.embodiment, "fps": source.schema.fps}
            for component, source in zip(self.opened.mixture.components, drafts.sources, strict=True)
            if group is None or group.component in (None, source.number)
        ]
        return {
            "format": FORMAT,
            "asked": self.asked.to_json(),
            "horizon": drafts.horizon,
            "history": drafts.history,
            "state": state.to_json(),
            "action": action.to_json(),
            "images": {role: list(size) for role, size in self.rows.image_sizes.items()},
            "components": components,
            "mixture_id": self.opened.mixture.id,
            "order_version": ORDER_VERSION,
            "encoders": self.encoders(),
        }

    def _marker(self, output: Output, path: Path) -> None:
        folders = [
            {"folder": group.folder, "component": self._name(group), "windows": group.count}
            for group in self.groups
        ]
        totals = self._totals(output)
        told = {"folders": folders, "counts": totals, "encoders": self._encoded_by(totals)}
        path.write_bytes(canonical_json(self._about() | told))

    def _encoded_by(self, totals: Mapping[str, int]) -> dict[str, str]:
        """As `encoders`, also where an image was not of its camera's size and was encoded for that."""
        return _versions() if totals.get("new_images") else self.encoders()

    def _name(self, group: Group) -> str | None:
        return None if group.component is None else self.opened.mixture.components[group.component].name

    def _totals(self, output: Output) -> dict[str, int]:
        totals = dict.fromkeys(COUNTED, 0)
        for group in self.groups:
            for shard in range(group.num_shards):
                entry = output.finished(group.path(f"{group.shard_name(shard)}.tar"))
                assert entry is not None
                for name in COUNTED:
                    totals[name] += entry.facts[name]
        return totals

    def _report(
        self, out: Path, totals: Mapping[str, int], num_bytes: int, files: int, reused: int, *, dry_run: bool
    ) -> ExportReport:
        source = source_bytes(self.opened)
        times = num_bytes / max(1, source)
        lines = [f"{times:.1f} times what the shards hold of these frames"]
        if totals.get("new_images"):
            of = f"{totals['new_images']:,} of {totals['images']:,} images"
            lines.append(f"{of} are encoded anew, JPEG quality {self.asked.quality}")
        return ExportReport(
            out,
            dry_run,
            {"windows": totals["windows"]},
            files,
            num_bytes,
            reused,
            self._encoded_by(totals),
            {"images": dict(totals), "source_bytes": source, "times_source": times},
            tuple(lines),
            tuple(self._warnings(totals)),
        )

    def _warnings(self, totals: Mapping[str, int]) -> Iterator[str]:
        yield from warnings_for(self.opened, timing=self.asked.spec.timing)
        if totals.get("missing_images"):
            remedy = "pad_missing_images stands in data_params.yaml" if self.is_vla else "see image_mask"
            yield f"{totals['missing_images']:,} images that windows ask for are not there: {remedy}"
        if self.is_vla and totals.get("without_image"):
            yield f"VLA Foundry leaves the {totals['without_image']:,} windows without any image out"
        lacking = [
            source.component.name
            for source, (state_at, action_at) in zip(
                self.rows.drafts.sources, self.rows.drafts.dims_at, strict=True
            )
            if len(state_at) < len(self.rows.drafts.spaces[0])
            or len(action_at) < len(self.rows.drafts.spaces[1])
        ]
        if self.is_vla and lacking:
            yield (
                f"VLA Foundry knows no mask of dims: those that {', '.join(lacking)} "
                f"{'lacks' if len(lacking) == 1 else 'lack'} are learned as 0"
            )


def _versions() -> dict[str, str]:
    return {**codec_versions(), "pillow": package_version("pillow")}


def _put(make: Callable[[], Mapping[str, Any]], output: Output, path: Path) -> None:
    """JSON, which is YAML as well."""
    path.write_text(json.dumps(make(), indent=2, ensure_ascii=False) + "\n", "utf-8")
