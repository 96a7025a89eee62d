"""A file or a folder that appears whole or not at all, and that one process at a time writes.

.<name>.partial/.lock       held while somebody writes; the system lets go of it when that process ends
                content     what becomes <name>
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_foundry.runtime.errors import FoundryError

LOCK, CONTENT = ".lock", "content"
MOST_TIMES = 100


@contextmanager
def appearing(out: Path, check: Callable[[], None], *, is_folder: bool) -> Iterator[Path]:
    """A place beside `out`, an empty folder or nothing yet; it becomes `out` if all goes well.

    If it does not, all of it goes away. `check` raises where `out` may not be written. FoundryError where
    another process writes it.
    """
    check()
    partial = out.with_name(f".{out.name}.partial")
    file = _held(out, partial)
    try:
        check()  # who held it until now may have written it
        content = partial / CONTENT
        _remove(content)  # of a process that was killed
        if is_folder:
            content.mkdir()
        yield content
        os.replace(content, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(file)


def _held(out: Path, partial: Path) -> int:
    """The lock of the folder, which is made. Who ends removes it with its lock, so that a lock may be of a
    folder that is gone: then it is asked for again."""
    if partial.is_file():
        partial.unlink()  # a recording that an earlier version wrote until it was killed
    for left in range(MOST_TIMES, -1, -1):
        try:
            partial.mkdir(parents=True, exist_ok=True)
            file = os.open(partial / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileExistsError, FileNotFoundError):
            if not left:
                raise
            continue  # it was removed meanwhile
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            raise FoundryError(
                f"another command writes {out} at this moment", hint="wait for it, or give another --out"
            ) from error
        try:
            if os.path.samestat(os.fstat(file), os.stat(partial / LOCK)):
                return file
        except FileNotFoundError:
            pass
        os.close(file)
    raise FoundryError(f"other commands write {out} again and again", hint="give another --out")


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
