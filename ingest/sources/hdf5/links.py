"""What the links of an HDF5 file lead to: only what lies in the file itself is read, for that was hashed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import h5py

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.runtime.errors import FoundryError

# What h5py raises on damaged files.
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
DEEPEST = 16
SAME_FILE = "."
NOT_UTF8 = "its name is not UTF-8"


def unreadable(what: str, error: Exception) -> FoundryError:
    """Refused for damaged content; an error that stops the run for an I/O error, which may pass."""
    text = " ".join(str(error).split())
    system = re.search(r"errno = ([1-9]\d*), error message = '([^']*)'", text)
    if system:
        return FoundryError(
            f"{what} could not be read: {system[2]}", hint="run the same command again when the disk is back"
        )
    if "truncated file" in text:
        eof, stored = re.search(r"eof = (\d+)", text), re.search(r"stored_eof = (\d+)", text)
        sizes = f" at {eof[1]} of {stored[1]} bytes" if eof and stored else ""
        return Refused(f"{what} is truncated{sizes}")
    if "filter" in text or "plugin" in text:
        return Refused(f"{what} is damaged or uses a filter that is not installed ({text})")
    return Refused(f"{what} is damaged ({text})")


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What lies under the name; None if nothing does. Refused if it lies in another file, or is damaged.

    Nobody hashed that file, and a hostile one could point anywhere on this machine.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        raise Refused(f"'{name}' lies in another file: ingest that file itself")
    try:
        item = group[name]
    except (KeyError, RuntimeError) as error:
        if isinstance(link, h5py.SoftLink) and not _leads_somewhere(group, name):
            return None
        raise unreadable(f"'{name}'", error) from error
    if _place(item)[0] != _place(group)[0]:  # a soft link may pass an external one
        raise Refused(f"'{name}' lies in another file: ingest that file itself")
    if isinstance(item, h5py.Dataset):
        _check_numbers(item, name, 0)
    return item


def _leads_somewhere(group: h5py.Group, name: str) -> bool:
    try:
        return bool(h5py.h5o.exists_by_name(group.id, name.encode("utf-8", "surrogateescape")))
    except ERRORS:
        return False


def _place(item: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """(the open file, the address in it) of the object itself, whatever led to it."""
    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)


def _check_numbers(dataset: h5py.Dataset, name: str, depth: int) -> None:
    """Refused if numbers of the dataset lie in another file; a virtual one may be of others of this file."""
    if dataset.external:
        raise Refused(f"the numbers of '{name}' lie in another file, which is not read")
    if not dataset.is_virtual:
        return
    if depth > DEEPEST:
        raise Refused(f"'{name}' is made of others more than {DEEPEST} deep, or of itself")
    for part in dataset.virtual_sources():
        if part.file_name != SAME_FILE:
            raise Refused(f"the numbers of '{name}' lie in another file, which is not read")
        source = at(dataset.file, f"/{part.dset_name.strip('/')}")
        if not isinstance(source, h5py.Dataset):
            raise Refused(f"'{name}' is made of '{part.dset_name}', which is not there")
        _check_numbers(source, part.dset_name, depth + 1)


def at(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """What lies at the path, in the group or, from '/' on, in the file; see `child`."""
    item: h5py.Group | h5py.Dataset | None = group.file["/"] if path.startswith("/") else group
    for part in path.strip("/").split("/"):
        if not isinstance(item, h5py.Group):
            return None
        item = child(item, part)
    return item


def nowhere(group: h5py.Group, name: str) -> str | None:
    """Why nothing lies under a name that the group has: it is a soft link without an end. None otherwise."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.SoftLink) or _leads_somewhere(group, name):
        return None
    try:
        group[name]
    except ERRORS as error:
        if "too many" in str(error):
            return f"it is a soft link in a circle: it leads to '{link.path}'"
    return f"it is a soft link that leads nowhere: there is no '{link.path}'"


def datasets(
    group: h5py.Group,
    skip_groups: tuple[str, ...] = (),
    lost: dict[str, str] | None = None,
) -> dict[str, h5py.Dataset]:
    """All datasets beneath the group by path, sorted; top-level groups in `skip_groups` are passed over.

    `lost` gets the paths that lead nowhere, and the groups that hold nothing, with the reason.
    """
    by_path: dict[str, h5py.Dataset] = {}
    for path, item in _beneath(group, skip_groups, "", 0):
        if isinstance(item, h5py.Dataset):
            by_path[path] = item
        elif lost is not None:
            lost[path] = item
    return by_path


def _beneath(
    group: h5py.Group, skip: tuple[str, ...], above: str, depth: int
) -> Iterator[tuple[str, h5py.Dataset | str]]:
    if depth > DEEPEST:
        raise Refused(f"its groups are nested more than {DEEPEST} deep, or form a circle")
    if above and not len(group):
        yield above.rstrip("/"), "it is a group that holds nothing"
    for name in sorted(group, key=str):
        if name in skip:
            continue
        if isinstance(name, bytes):
            yield f"{above}{name!r}", NOT_UTF8
            continue
        item = child(group, name)
        if isinstance(item, h5py.Dataset):
            yield f"{above}{name}", item
        elif isinstance(item, h5py.Group):
            yield from _beneath(item, (), f"{above}{name}/", depth + 1)
        elif item is None and (reason := nowhere(group, name)):
            yield f"{above}{name}", reason


def again(file: h5py.File, paths: Iterable[str]) -> dict[str, str]:
    """Of paths of one group, all but the first, with the first; those without a soft link come first."""
    by_place: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        try:
            item = at(file, path)
        except (Refused, *ERRORS):
            continue  # reading it tells why
        if item is not None:
            by_place.setdefault(_place(item), []).append(path)
    twice = [paths for paths in by_place.values() if len(paths) > 1]
    first_of = {}
    for same in twice:
        first = min(same, key=lambda path: isinstance(file.get(path, getlink=True), h5py.SoftLink))
        first_of.update({path: first for path in same if path != first})
    return first_of
