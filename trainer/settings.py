"""The settings of a run that no task changes. Each group stands beside what it sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robot_foundry.trainer.checkpoints.retention import RetentionSettings
from robot_foundry.trainer.evaluate import EvaluationSettings
from robot_foundry.trainer.meters import RecordSettings, SkipSettings
from robot_foundry.trainer.ranks.machine import MachineSettings
from robot_foundry.trainer.ranks.numerics import DETERMINISMS, PRECISIONS
from robot_foundry.trainer.ranks.ranks import DEVICES
from robot_foundry.trainer.recipes.ranges import at_least, choice, multiple
from robot_foundry.trainer.substitutes import SubstituteSettings


@dataclass(frozen=True)
class LengthSettings:
    """Where a run is written and how long it is."""

    dir: str | None = None  # default: runs/<name>-<hash of what decides the weights>
    steps: int | None = None  # give this or `samples`
    samples: int | None = None


# A dataclass has the fields of its last base first: read upwards, this is the order of a saved config.yaml.
@dataclass(frozen=True)
class RunConfig(
    SubstituteSettings,
    SkipSettings,
    EvaluationSettings,
    RetentionSettings,
    RecordSettings,
    MachineSettings,
    LengthSettings,
):
    """How long, where, and what is written. Intervals are in optimiser steps."""

    def num_steps(self, global_batch: int) -> int:
        """Optimiser steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.samples is not None
        return -(-self.samples // global_batch)


def run_problems(run: RunConfig, global_batch: int) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    if (run.steps is None) == (run.samples is None):
        yield "run: give the length as either run.steps or run.samples"
    yield from at_least(
        1, "run", run, "steps", "samples", "accumulate", "log_every", "save_every", "keep_last", "keep_every",
        "eval_every", "eval_samples", "max_skipped",
    )  # fmt: skip
    if not 0 <= run.max_substituted <= 1:
        yield f"run.max_substituted: must lie in [0, 1], not {run.max_substituted}"
    yield from multiple("data.global_batch", global_batch, run.accumulate, "run.accumulate")
    yield from choice("run.device", run.device, DEVICES)
    yield from choice("run.precision", run.precision, PRECISIONS)
    yield from choice("run.determinism", run.determinism, DETERMINISMS)
