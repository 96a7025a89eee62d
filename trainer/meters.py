"""What a run reports while it runs; where that goes is said in `trainer.metering`.

Sums stay on the device until a record is written: that is the only time the host waits for the device.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.metering.memory import peak_memory
from robot_foundry.trainer.models.layers.by_dataset import Losses
from robot_foundry.trainer.ranks.ranks import Ranks

METRICS = "metrics.jsonl"
FLOPS = "flops"  # the amount of that name (see `streams.Rows`) is arithmetic


@dataclass(frozen=True)
class RecordSettings:
    """When a record is written."""

    log_every: int = 10  # optimiser steps


@dataclass(frozen=True)
class SkipSettings:
    """How many steps in a row may leave the weights as they are."""

    max_skipped: int = 20  # steps in a row, not finite or spikes, that end the run


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


def of_machine(name: str) -> bool:
    """Whether a number of a record depends on how fast the machine is, or what memory or room it has."""
    timed = ("data_wait", "save_wait", "failed_saves", "mfu")
    return name in timed or name.endswith("_per_s") or name.startswith("memory_")


def truncate_metrics(run_dir: Path, step: int) -> None:
    """Drop the records after a step. The file is whole at any instant."""
    path = run_dir / METRICS
    kept = [json.dumps(record) + "\n" for record in read_metrics(run_dir) if record["step"] <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)


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
        datasets: Mapping[str, Sequence[str]] | None = None,
        peak: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ranks, self._clock, self._max_streak = ranks, clock, max_streak
        self._weights = loss_weights or {}  # 1 for those that are not named
        self._datasets = datasets or {}  # of each loss that is told by dataset, in their order
        self._peak = peak  # FLOPs a second that a rank's device can do, None where that is not known
        self._skipped = torch.tensor(skipped, device=ranks.device)
        self._streak = torch.tensor(streak, device=ranks.device)
        self._longest = self._streak.clone()  # streak since the host last looked
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._by_dataset: dict[str, Tensor] = {}  # sums and counts [2, D]
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

    def losses(self, losses: Mapping[str, tuple[Tensor, Tensor]], parts: Losses | None = None) -> None:
        """The result of one microbatch of this rank, and `parts` of it by dataset (see `by_dataset`)."""
        for name, pair in (parts or {}).items():
            self._by_dataset[name] = self._by_dataset.get(name, 0) + torch.stack(pair)
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
        totals = self._totals()
        seconds = max(self._clock() - self._start, 1e-9)
        means = {name: total / max(count, 1) for name, (total, count) in totals.losses.items()}
        loss = {f"loss/{name}": mean for name, mean in means.items()}
        rates = {f"{name}_per_s": amount / seconds for name, amount in totals.sizes.items()}
        if self._peak is not None and FLOPS in totals.sizes:
            rates["mfu"] = totals.sizes[FLOPS] / seconds / (self._peak * self._ranks.size)
        record = {
            "step": step,
            "loss": weighted(means, self._weights),
            **loss,
            **totals.parts,
            **extra,
            "grad_norm": float("nan") if self._norm is None else float(self._norm),
            "skipped": int(self._skipped),
            "samples_per_s": self._samples / seconds,
            **rates,
            "data_wait": self._waited / seconds,
            **totals.memory,
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

    def _totals(self) -> _Totals:
        """Of all ranks; the host waits for the device here."""
        names, parts, sizes = sorted(self._sums), sorted(self._by_dataset), sorted(self._sizes)
        local = [float(self._sums[name]) for name in names]
        local += [float(self._host_counts.get(name, 0)) for name in names]
        local += [value for name in parts for value in self._by_dataset[name].flatten().tolist()]
        local += [self._sizes[name] for name in sizes]
        memory = peak_memory(self._ranks.device)
        # Of memory the most of any rank is told, so each has a place of its own in what is summed.
        local += [
            value if rank == self._ranks.rank else 0.0
            for rank in range(self._ranks.size)
            for value in memory.values()
        ]
        total = iter(self._ranks.sum(torch.tensor(local, dtype=torch.float64)).tolist())
        sums, counts = ([next(total) for _ in names] for _ in range(2))
        return _Totals(
            losses=dict(zip(names, zip(sums, counts, strict=True), strict=True)),
            parts={key: mean for name in parts for key, mean in self._part_means(name, total)},
            sizes={name: next(total) for name in sizes},
            memory=_largest(list(memory), list(total)),
        )

    def _part_means(self, name: str, total: Iterator[float]) -> Iterator[tuple[str, float]]:
        """The mean loss of each dataset that had something to count, by its name in a record."""
        datasets = self._datasets[name]
        sums, counts = ([next(total) for _ in datasets] for _ in range(2))
        for dataset, dataset_sum, count in zip(datasets, sums, counts, strict=True):
            if count:
                yield f"loss/{name}/{dataset}", dataset_sum / count

    def _check_counts(self) -> None:
        for name in dict.fromkeys([*self._host_counts, *self._device_counts]):
            of_model, of_batches = int(self._device_counts.get(name, 0)), self._host_counts.get(name, 0)
            if of_model != of_batches:
                raise FoundryError(
                    f"the model counted {of_model} of '{name}', the batches {of_batches}",
                    hint="every loss of a model is counted by the batches that it is of",
                )


@dataclass(frozen=True)
class _Totals:
    """Over all ranks since the last record: sums and counts of losses, means by dataset, amounts, memory."""

    losses: Mapping[str, tuple[float, float]]
    parts: Mapping[str, float]
    sizes: Mapping[str, float]
    memory: Mapping[str, float]


def _largest(names: Sequence[str], of_ranks: Sequence[float]) -> dict[str, float]:
    """The most of any rank by name, of those of each rank one behind the other."""
    return {name: max(of_ranks[place :: len(names)]) for place, name in enumerate(names)}


def weighted(means: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The loss that is learnt, of the means of its parts by name; a part without a weight has 1."""
    return sum(weights.get(name, 1.0) * mean for name, mean in means.items())
