"""What a command prints: results on stdout, everything else on stderr, and an exit code for every end."""

from __future__ import annotations

import errno
import json
import math
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import click

from robot_foundry.runtime.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PREEMPTED,
    EXIT_USAGE,
    FoundryError,
    FoundryWarning,
)

DEBUG_OPTION = "--debug"
# What to do when the system refuses, by errno; after each, the same command goes on where it was.
REMEDIES = {
    errno.ENOSPC: "free some space, or use another disk",
    errno.EDQUOT: "free some space, or use another disk",
    errno.EROFS: "use a place that can be written to",
    errno.EACCES: "let this user read the source and write to the store, or use other places",
    errno.EPERM: "let this user read the source and write to the store, or use other places",
    errno.ENOTDIR: "give a folder, not a file",
    errno.EISDIR: "move that folder away, where a file belongs",
    errno.EEXIST: "give a folder, not a file, or another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "look at the disk or the mount",
}


def size(num_bytes: int) -> str:
    """1500 → '1.5 kB'."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"


def counted(number: int, noun: str) -> str:
    """(1, 'frame') → '1 frame', (1200, 'frame') → '1,200 frames'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def emit(result: dict[str, Any], *, as_json: bool, text: str | Callable[[], str]) -> None:
    """Print a command's result on stdout: one JSON object, or `text` for a reader.

    In JSON, NaN and infinities become null, NumPy values plain ones and paths text.
    """
    if as_json:
        click.echo(json.dumps(_plain(result), ensure_ascii=False, indent=2))
    else:
        click.echo(text if isinstance(text, str) else text())


def note(message: str) -> None:
    """Tell the user something that is not the result: a hint or a warning, on stderr."""
    click.echo(message, err=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain text in aligned columns; columns that hold only numbers are aligned to the right."""
    body = [list(row) for row in rows]
    numeric = [all(isinstance(row[c], int | float) for row in body) for c in range(len(headers))]
    cells = [list(headers), *([_cell(value) for value in row] for row in body)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(headers))]
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def run(group: click.Group, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; errors become one sentence and a hint on stderr.

    `--debug` may stand anywhere before a `--` and adds the traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    args, debug = _take_debug(given)
    try:
        with _signals_stop(), _warnings_as_notes():
            code = group.main(args, prog_name=program, standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except (KeyboardInterrupt, click.Abort) as error:
        is_preempted = isinstance(error.__cause__ or error, _Preempted)
        resume = shlex.join([program, *given])
        what = "Preempted" if is_preempted else "Interrupted"
        note(f"\n{what}. Nothing half-done is visible; to go on, run:\n  {resume}")
        return EXIT_PREEMPTED if is_preempted else EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        _print_debug(debug)
        _print_error(error.format_message(), _usage_hint(error))
        return error.exit_code
    except FoundryError as error:
        _print_debug(debug)
        _print_error(error.message, error.hint)
        return error.exit_code
    except Exception as error:
        _print_debug(debug)
        _print_error(*_unexpected(error, debug))
        return EXIT_FAILED


class _Preempted(KeyboardInterrupt):
    """SIGTERM came, as it does before a machine is taken away."""


@contextmanager
def _signals_stop() -> Iterator[None]:
    """SIGTERM and Ctrl-C unwind the command, wherever they come.

    What is raised in a weakref's callback or a `__del__` goes no further, so it is raised again at the next
    call or return, and at the end if even that is lost. Only the main thread may say so; elsewhere nothing is
    changed.
    """
    if current_thread() is not main_thread():
        yield
        return
    asked: list[type[KeyboardInterrupt]] = []
    report = sys.unraisablehook

    def stop(number: int, _: FrameType | None) -> None:
        asked.append(_Preempted if number == signal.SIGTERM else KeyboardInterrupt)
        raise asked[-1]

    def raise_again(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code is not lost.__code__:  # which is still on its way out
            sys.setprofile(None)
            raise asked[-1]

    def lost(what: Any) -> None:
        if asked and issubclass(what.exc_type, KeyboardInterrupt):
            sys.setprofile(raise_again)
        else:
            report(what)

    handled = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as behind `nohup`
        handled.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in handled}
    sys.unraisablehook = lost
    try:
        yield
        if asked:
            raise asked[-1]
    finally:
        sys.setprofile(None)
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """A FoundryWarning is one line, each time that it is given; other warnings are as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", FoundryWarning)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FoundryWarning):
                note(f"Warning: {message}")
            else:
                show(message, category, *where, **more)

        warnings.showwarning = shown
        yield


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != DEBUG_OPTION]
    return kept + arguments[end:], len(kept) < end


def _print_debug(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _print_error(message: str, hint: str | None) -> None:
    note(f"Error: {message}")
    if hint:
        note(f"Hint: {hint}")


def _unexpected(error: Exception, debug: bool) -> tuple[str, str | None]:
    """What to say of an error that is none of ours, and what to do."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{where}", f"{REMEDIES[error.errno]}; then run the same command again"
    hint = None if debug else f"run it again with {DEBUG_OPTION} to see where"
    return f"unexpected {type(error).__name__}: {error}", hint


def _usage_hint(error: click.ClickException) -> str | None:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else None


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value
