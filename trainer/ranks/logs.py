"""What each rank writes to its outputs: a file a rank, the main rank's on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import IO

TAIL = 20  # lines
_TAIL_BYTES = 1 << 16


def log_path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.log"


def open_log(folder: Path, rank: int, size: int, host: str) -> IO[bytes]:
    """For this rank to write to, after what earlier starts of the run wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    log = log_path(folder, rank).open("ab", buffering=0)
    log.write(f"== rank {rank} of {size} on {host}\n".encode())
    return log


def tail(path: Path) -> str:
    """The last lines of what a rank wrote since it was last started."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    written = text.rpartition("== rank ")[2].splitlines()[1:]
    return "\n".join(written[-TAIL:])
