"""Where records go: metrics.jsonl always, TensorBoard where it is installed, and what a run asks for beside.

Only the main rank has any. One that fails is told once and left alone: no run ends for want of its records.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.meters import METRICS, truncate_metrics

Record = Mapping[str, Any]  # by name numbers, None where one is not finite; `step` is always there


class Sink(Protocol):
    """Takes the records of a run, in their order."""

    def write(self, record: Record) -> None: ...
    def close(self) -> None: ...


class Sinks:
    """Several as one. Each is made by a call that may fail as well; what is None is not there.

    Records after the step that a run goes on from are to be dropped by each: they are of a run that was cut
    off, and come again.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Sink | None]]) -> None:
        self._sinks: dict[str, Sink] = {}
        for name, make in makers.items():
            try:
                sink = make()
            except Exception as error:
                _tell(name, error)
                continue
            if sink is not None:
                self._sinks[name] = sink

    def write(self, record: Record) -> None:
        """What is not finite becomes None."""
        finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
        self._each(list(self._sinks), lambda sink: sink.write(finite))

    def close(self) -> None:
        self._each(list(self._sinks), lambda sink: sink.close())
        self._sinks.clear()

    def _each(self, names: Iterable[str], do: Callable[[Sink], None]) -> None:
        for name in names:
            try:
                do(self._sinks[name])
            except Exception as error:  # whatever a library of others raises
                del self._sinks[name]
                _tell(name, error)


def _tell(name: str, error: Exception) -> None:
    warnings.warn(
        f"{name} takes no more records, the run goes on without: {error or type(error).__name__}",
        FoundryWarning,
        stacklevel=2,
    )


class JsonLines:
    """RUN/metrics.jsonl: one JSON object a line, readable by then."""

    def __init__(self, run_dir: Path, resumed: int) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        truncate_metrics(run_dir, resumed)
        self._file = (run_dir / METRICS).open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars under RUN/tensorboard."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def opened(cls, run_dir: Path, resumed: int) -> TensorBoard | None:
        """None where it is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return cls(SummaryWriter(str(run_dir / "tensorboard"), purge_step=resumed + 1))

    def write(self, record: Record) -> None:
        for name, value in record.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        self._writer.close()
