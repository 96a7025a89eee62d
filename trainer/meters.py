"""What a run reports while it runs: metrics.jsonl always, TensorBoard where it is installed.

Sums stay on the device until a record is written: that is the only time the host waits for the device.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.ranks.ranks import Ranks

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class RecordSettings:
    """When a record is written."""

    log_every: int = 10  # optimiser steps


@dataclass(frozen=True)
class SkipSettings:
    """How many steps in a row may leave the weights as they are."""

    max_skipped: int = 20  # steps in a row, not finite or spikes, that end the run


class Sink:
    """Records of the main rank: one JSON object a line, and TensorBoard scalars. What is not finite is null.

    Records after step `resumed` are dropped first: they are of a run that was cut off, and come again.
    """

    def __init__(self, run_dir: Path, resumed: int, ranks: Ranks) -> None:
        self._file = self._board = None
        if ranks.is_main:
            run_dir.mkdir(parents=True, exist_ok=True)
            _truncate(run_dir / METRICS, resumed)
            self._file = (run_dir / METRICS).open("a", encoding="utf-8")
            self._board = _tensorboard(run_dir / "tensorboard", resumed)

    def write(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
        self._file.write(json.dumps(finite, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in finite.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line that was cut off is left out."""
    path = run_dir / METRICS
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _truncate(path: Path, step: int) -> None:
    kept = [json.dumps(record) + "\n" for record in read_metrics(path.parent) if record["step"] <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)


def _tensorboard(folder: Path, resumed: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resumed + 1)


class Meters:
    """Means since the last record, rates, and the checks that need the device's numbers."""

    def __init__(
        self,
        ranks: Ranks,
        *,
        skipped: int,
        streak: int,
        max_streak: int,
        loss_weights: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ranks, self._clock, self._max_streak = ranks, clock, max_streak
        self._weights = loss_weights or {}  # 1 for those that are not named
        self._skipped = torch.tensor(skipped, device=ranks.device)
        self._streak = torch.tensor(streak, device=ranks.device)
        self._longest = self._streak.clone()  # streak since the host last looked
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._device_counts: dict[str, Tensor] = {}
        self._host_counts: dict[str, int] = {}
        self._sizes: dict[str, float] = {}
        self._norm: Tensor | None = None
        self._samples, self._waited, self._start = 0, 0.0, self._clock()

    @property
    def pending(self) -> bool:
        """Whether a step was taken since the last record."""
        return self._samples > 0

    def waited(self, seconds: float) -> None:
        """Time spent waiting for data."""
        self._waited += seconds

    def losses(self, losses: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """The result of one microbatch of this rank."""
        for name, (loss_sum, count) in losses.items():
            self._sums[name] = self._sums.get(name, 0) + loss_sum.detach().double()
            self._device_counts[name] = self._device_counts.get(name, 0) + count.detach()

    def step(
        self,
        *,
        samples: int,
        counts: Mapping[str, int],
        sizes: Mapping[str, float],
        norm: Tensor,
        taken: Tensor,
    ) -> None:
        """An optimiser step over `samples` samples with this rank's `counts` and `sizes`.

        `taken` says whether it moved the weights.
        """
        for name, count in counts.items():
            self._host_counts[name] = self._host_counts.get(name, 0) + count
        for name, size in sizes.items():
            self._sizes[name] = self._sizes.get(name, 0.0) + size
        self._samples += samples
        self._norm = norm
        self._skipped += ~taken
        self._streak = (self._streak + 1) * ~taken
        self._longest = torch.maximum(self._longest, self._streak)

    def state(self) -> dict[str, int]:
        return {"skipped": int(self._skipped), "streak": int(self._streak)}

    def record(self, step: int, **extra: float) -> dict[str, Any]:
        """Everything since the last record; all ranks call this at the same steps.

        Raises FoundryError where too many steps in a row were not taken, or a model's counts are not those
        of the batches.
        """
        self._check_counts()
        names, sizes = sorted(self._sums), sorted(self._sizes)
        local = [float(self._sums[name]) for name in names]
        local += [float(self._host_counts.get(name, 0)) for name in names]
        local += [self._sizes[name] for name in sizes]
        total = self._ranks.sum(torch.tensor(local, dtype=torch.float64)).tolist()
        seconds = max(self._clock() - self._start, 1e-9)
        means = {name: total[i] / max(total[len(names) + i], 1) for i, name in enumerate(names)}
        loss = {f"loss/{name}": mean for name, mean in means.items()}
        rates = {f"{name}_per_s": n / seconds for name, n in zip(sizes, total[2 * len(names) :], strict=True)}
        record = {
            "step": step,
            "loss": weighted(means, self._weights),
            **loss,
            **extra,
            "grad_norm": float("nan") if self._norm is None else float(self._norm),
            "skipped": int(self._skipped),
            "samples_per_s": self._samples / seconds,
            **rates,
            "data_wait": self._waited / seconds,
        }
        longest, streak = int(self._longest), int(self._streak)
        if longest >= self._max_streak:
            which = f"the last {longest} steps" if longest == streak else f"{longest} steps in a row"
            raise FoundryError(
                f"{which} before step {step} had a gradient that is not finite, or a spike",
                hint="lower optim.lr, or look at the data of these steps",
            )
        self._longest = self._streak.clone()
        self._reset()
        return record

    def _check_counts(self) -> None:
        for name in dict.fromkeys([*self._host_counts, *self._device_counts]):
            of_model, of_batches = int(self._device_counts.get(name, 0)), self._host_counts.get(name, 0)
            if of_model != of_batches:
                raise FoundryError(
                    f"the model counted {of_model} of '{name}', the batches {of_batches}",
                    hint="every loss of a model is counted by the batches that it is of",
                )


def weighted(means: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The loss that is learnt, of the means of its parts by name; a part without a weight has 1."""
    return sum(weights.get(name, 1.0) * mean for name, mean in means.items())
