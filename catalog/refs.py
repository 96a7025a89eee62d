"""References: how people name versions.

    droid            the newest version        droid@v3         the third version
    droid@2f9c41     the id begins so          droid:paper      the version tagged `paper`

refs/<dataset>/v3 never changes; refs/<dataset>/<tag> moves when it is set again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from robot_foundry.catalog.kind import MIXTURE, Kind
from robot_foundry.catalog.manifest import (
    numbers,
    numbers_among,
    read_manifest,
    read_ref,
    reference_names,
)
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.sealed import seal

_NUMBERED = re.compile(r"v([1-9][0-9]*)")
_REF = re.compile(r"(?P<dataset>[^@:]+)(?:@(?P<at>[^@:]+)|:(?P<tag>[^@:]+))?")
_PREFIX = re.compile(r"[0-9a-f]{4,32}")


def datasets(store: Store) -> list[str]:
    """Names that have at least one version, sorted."""
    paths = (path.split("/") for path in store.storage.list("refs"))
    return sorted({parts[1] for parts in paths if len(parts) == 3 and _NUMBERED.fullmatch(parts[2])})


def versions(store: Store, dataset: str) -> list[Version]:
    """All versions of `dataset`, oldest first."""
    return [_read(store, dataset, f"v{seq}", seq) for seq in numbers(store, dataset)]


def tags(store: Store, dataset: str) -> dict[str, Version]:
    """All tags of `dataset`, sorted by name."""
    return {name: _read(store, dataset, name) for name in _tags(reference_names(store, dataset))}


def _tags(names: Sequence[str]) -> list[str]:
    return [name for name in names if not _NUMBERED.fullmatch(name)]


def resolve(store: Store, ref: str | Version) -> Version:
    """The version that `ref` names; an unknown one raises FoundryError with the nearest and what there is."""
    if isinstance(ref, Version):
        return ref
    match = _REF.fullmatch(ref)
    if match is None:
        raise UsageError(
            f"'{ref}' is not a reference", hint="write NAME, NAME@v3, NAME@<id prefix> or NAME:tag"
        )
    dataset = match["dataset"]
    names = reference_names(store, dataset) if re.fullmatch(r"[a-z0-9_-]{1,64}", dataset) else []
    seqs = numbers_among(names)
    if not seqs:
        raise _unknown_dataset(store, dataset)
    if match["tag"]:
        return _tagged(store, dataset, match["tag"], _tags(names))
    if match["at"]:
        return _at(store, dataset, match["at"], seqs)
    return _read(store, dataset, f"v{seqs[-1]}", seqs[-1])


def newest_version(store: Store, dataset: str) -> Version | None:
    """The version with the highest number, None where the dataset has none."""
    seqs = numbers(store, dataset)
    return _read(store, dataset, f"v{seqs[-1]}", seqs[-1]) if seqs else None


def check_same_kind(store: Store, dataset: str, kind: Kind) -> None:
    """FoundryError where `dataset` names a mixture, or data of another kind: a name keeps its kind."""
    newest = newest_version(store, dataset)
    # One whose manifest was damaged and deleted says nothing: the command that made it makes it again.
    if newest is None or not store.storage.exists(store.manifest(dataset, newest.version_id)):
        return
    there = read_manifest(store, newest)
    if there.kind == kind.name:
        return
    what = "is a mixture" if there.kind == MIXTURE else f"holds {there.holds.samples}"
    raise FoundryError(f"'{dataset}' {what}; give these {kind.samples} another name", hint="--as NAME")


def tag(store: Store, version: Version, name: str) -> None:
    """Let `<dataset>:<name>` mean `version`, whatever it meant before."""
    check_name(name, "tag")
    if re.fullmatch(r"v[0-9]+", name):
        raise UsageError(f"tag '{name}' looks like a version number")
    content = {"version_id": version.version_id, "build_id": version.build_id, "seq": version.seq}
    store.storage.write(store.ref(version.dataset, name), seal(content))


def _read(store: Store, dataset: str, name: str, seq: int | None = None) -> Version:
    path = store.ref(dataset, name)
    if seq is not None:
        content = read_ref(store, path)
        return Version(dataset, seq, content["version_id"], content["build_id"])
    content = read_ref(store, path, hint="delete it, and set the tag again")
    return Version(dataset, content["seq"], content["version_id"], content["build_id"])


def _unknown_dataset(store: Store, dataset: str) -> FoundryError:
    names = datasets(store)
    if not names:
        return FoundryError(
            f"there is no dataset '{dataset}': store {store.url} is empty", hint="foundry-data ingest --help"
        )
    listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return FoundryError(
        f"there is no dataset '{dataset}' in store {store.url}{nearest(dataset, names)} "
        f"({len(names)} there: {listed})",
        hint="foundry-data ls",
    )


def _tagged(store: Store, dataset: str, name: str, names: Sequence[str]) -> Version:
    if name not in names:
        raise FoundryError(
            f"'{dataset}' has no tag '{name}'{nearest(name, names)} (tags: {', '.join(names) or 'none'})",
            hint=f"foundry-data show {dataset}",
        )
    return _read(store, dataset, name)


def _spans(numbers: Sequence[int]) -> str:
    """'v1, v3 to v5'"""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(f"v{end}" for end in span) for span in spans)


def _at(store: Store, dataset: str, at: str, seqs: list[int]) -> Version:
    match = _NUMBERED.fullmatch(at)
    if match:
        seq = int(match[1])
        if seq not in seqs:
            raise FoundryError(
                f"'{dataset}' has no version v{seq} (there are {_spans(seqs)})",
                hint=f"foundry-data show {dataset}",
            )
        return _read(store, dataset, at, seq)
    if not _PREFIX.fullmatch(at):
        raise UsageError(
            f"'{dataset}@{at}' is not a reference: after '@' comes v<number> or 4 to 32 hex digits of an id",
            hint=f"'{dataset}:{at}' names a tag",
        )
    matching = []
    for seq in reversed(seqs):  # whoever gives an id in full usually means one of the newest
        version = _read(store, dataset, f"v{seq}", seq)
        if version.version_id == at:
            return version
        if version.version_id.startswith(at):
            matching.append(version)
    if len(matching) != 1:
        what = "no version" if not matching else f"{len(matching)} versions"
        raise FoundryError(
            f"'{dataset}' has {what} whose id begins with {at}", hint=f"foundry-data show {dataset}"
        )
    return matching[0]
