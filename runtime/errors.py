"""The errors a user may see: one sentence that says what and where, and a hint that says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_FINDINGS, EXIT_PREEMPTED, EXIT_INTERRUPTED = 0, 1, 2, 3, 75, 130


class FoundryError(Exception):
    """Something failed; `message` says what and where, `hint` names the next command if there is one."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call __init__ with `args` alone, and a worker's error would lose its hint.
        return type(self), (self.message,), {"hint": self.hint}


class UsageError(FoundryError):
    """The request itself is wrong: an unknown name, a malformed option, a misspelt key."""

    exit_code = EXIT_USAGE


class FindingsError(FoundryError):
    """The command worked and found something that it was asked to fail on."""

    exit_code = EXIT_FINDINGS


class Preempted(FoundryError):
    """The machine asked us to stop; state is saved, and running the same command again resumes."""

    exit_code = EXIT_PREEMPTED


class MissingFileError(FoundryError, FileNotFoundError):
    """A file that was asked for is not in the storage. Also a `FileNotFoundError`."""


class NothingSelected(FoundryError):
    """What was asked for selects no sample, of data that is whole."""


class FoundryWarning(UserWarning):
    """A sentence for the user: something worked, but not as one would think. The programs print it."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`", did you mean 'x'?"` for the choice closest to `word`, or `""` if none is close."""
    choice = closest(word, choices)
    return "" if choice is None else f", did you mean {choice!r}?"


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice closest to `word`; None if none is close."""
    lowered = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None
