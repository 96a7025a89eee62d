"""Progress of long work on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_INTERVAL_S = 10.0


class Progress:
    """Count `unit`s up to `total` (None if unknown) under a `label`; a context manager.

    `done` of them were done before: they count, but not in the rate. `bytes` and `errors` given to `advance`
    are shown as a rate and a count. `clock` gives seconds.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        label: str,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._unit, self._label = total, unit, label
        self._stream = stream or sys.stderr
        self._quiet, self._clock = quiet, clock
        self._done = self._before = done
        self._bytes = self._errors = 0
        self._told = ""
        self._printed = self._counted
        self._start = self._last_line = clock()
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        if not self._quiet and self._stream.isatty():
            self._bar = _rich_bar(self._stream)
            self._bar.add_task(self._label, total=self._total, completed=self._done, counts="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last_line > self._start and self._printed != self._counted:
            self._print_line()

    def advance(self, n: int = 1, bytes: int = 0, errors: int = 0) -> None:
        """Count `n` more units done, `bytes` more bytes and `errors` more errors."""
        self._done += n
        self._bytes += bytes
        self._errors += errors
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=n, counts=self._counts())
        elif not self._quiet and self._clock() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = self._clock()
            self._print_line()

    def tell(self, what: str) -> None:
        """Show `what` beside the counts: on a terminal until something else is told, elsewhere a line now."""
        if self._bar is not None:
            self._told = f"{what}, "
            self._bar.update(self._bar.task_ids[0], counts=self._counts())
        elif not self._quiet:
            self._told = f"{what}, "
            self._last_line = self._clock()
            self._print_line()
            self._told = ""

    @property
    def _counted(self) -> tuple[int, int, int]:
        return self._done, self._bytes, self._errors

    def _counts(self) -> str:
        elapsed_s = max(self._clock() - self._start, 1e-9)
        rate = (self._done - self._before) / elapsed_s
        parts = [f"{rate:.3g} {self._unit}/s"]
        if self._bytes:
            parts.append(f"{self._bytes / elapsed_s / 1e6:.3g} MB/s")
        if self._errors:
            parts.append(f"{self._errors} failed")
        if self._total is not None and self._before < self._done < self._total:
            parts.append(f"{_duration((self._total - self._done) / rate)} left")
        return self._told + ", ".join(parts)

    def _print_line(self) -> None:
        self._printed = self._counted
        of_total = "" if self._total is None else f"/{self._total}"
        print(f"{self._label}: {self._done}{of_total} {self._unit}, {self._counts()}", file=self._stream)
        self._stream.flush()


def _rich_bar(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return RichProgress(
        *columns, TextColumn("{task.fields[counts]}"), console=Console(file=stream), transient=True
    )


def _duration(seconds: float) -> str:
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole_seconds:02d} s" if minutes else f"{whole_seconds} s"
