"""Records for whoever watches: a line each on stderr, or on a terminal beside its bar."""

from __future__ import annotations

from collections.abc import Iterator

from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer.metering.sinks import Record

_PLAIN = ("held_out", "loss", "grad_norm", "lr")
_SHARES = ("mfu", "data_wait")
_RATES = ("tokens_per_s", "samples_per_s")
_COUNTS = ("skipped", "substituted")


class Console:
    """Says records through the progress of the run, which knows its steps, their rate and what is left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, record: Record) -> None:
        self._progress.tell(", ".join(_words(record)))

    def close(self) -> None:
        """The progress belongs to the run."""


def _words(record: Record) -> Iterator[str]:
    """What of a record fits a line; what did not happen is not said."""
    for name in _PLAIN:
        if name in record:
            value = record[name]
            yield f"{name.replace('_', ' ')} {'not finite' if value is None else f'{value:.4g}'}"
    for name in _RATES:
        if record.get(name):
            yield f"{record[name]:.3g} {name.removesuffix('_per_s')}/s"
            break
    for name in _SHARES:
        if record.get(name) is not None:
            yield f"{name.replace('_', ' ')} {record[name]:.0%}"
    for name in _COUNTS:
        if record.get(name):
            yield f"{record[name]} {name}"
