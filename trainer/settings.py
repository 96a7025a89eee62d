"""The settings of a run that no task changes. Each group stands beside what it sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from robot_foundry.trainer.checkpoints.replica import url_of
from robot_foundry.trainer.checkpoints.retention import RetentionSettings
from robot_foundry.trainer.evaluate import EvaluationSettings
from robot_foundry.trainer.metering.watch import StallSettings, stall_problems
from robot_foundry.trainer.metering.weights_biases import WandbSettings
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
    steps: int | None = None  # give this, `samples` or `tokens`
    samples: int | None = None
    tokens: int | None = None  # where samples are rows of tokens


# A dataclass has the fields of its last base first: read upwards, this is the order of a saved config.yaml.
@dataclass(frozen=True)
class RunConfig(
    WandbSettings,
    StallSettings,
    SubstituteSettings,
    SkipSettings,
    EvaluationSettings,
    RetentionSettings,
    RecordSettings,
    MachineSettings,
    LengthSettings,
):
    """How long, where, and what is written. Intervals are in optimiser steps."""

    def num_steps(self, global_batch: int, row_tokens: int | None = None) -> int:
        """Optimiser steps of the whole run; `row_tokens` are those that a sample has room for."""
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            assert row_tokens is not None
            return -(-self.tokens // (global_batch * row_tokens))
        assert self.samples is not None
        return -(-self.samples // global_batch)


def run_problems(run: RunConfig, global_batch: int, row_tokens: int | None = None) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another.

    `row_tokens` is None where samples are no rows of tokens.
    """
    lengths = ("steps", "samples") if row_tokens is None else ("steps", "samples", "tokens")
    if row_tokens is None and run.tokens is not None:
        yield "run.tokens: samples are no rows of tokens here; give run.steps or run.samples"
    elif sum(getattr(run, name) is not None for name in lengths) != 1:
        choices = " or ".join(f"run.{name}" for name in lengths)
        yield f"run: give the length as {'either' if row_tokens is None else 'one of'} {choices}"
    yield from at_least(
        1, "run", run, "steps", "samples", "tokens", "accumulate", "log_every", "save_every", "keep_last",
        "keep_every", "eval_every", "eval_samples", "max_skipped",
    )  # fmt: skip
    yield from at_least(0, "run", run, "shard")
    if run.checkpoints is not None and url_of(run.checkpoints) is None:
        yield f"run.checkpoints: must be the URL of an object store (s3://…), not {run.checkpoints}"
    if not 0 < run.patience < inf:
        yield f"run.patience: seconds, more than 0, not {run.patience}"
    if run.keep_best and run.eval_every is None:
        yield "run.keep_best: needs run.eval_every, in optimiser steps: of what is not measured none is best"
    yield from stall_problems(run)
    if not 0 <= run.max_substituted <= 1:
        yield f"run.max_substituted: must lie in [0, 1], not {run.max_substituted}"
    yield from multiple("data.global_batch", global_batch, run.accumulate, "run.accumulate")
    yield from choice("run.device", run.device, DEVICES)
    yield from choice("run.precision", run.precision, PRECISIONS)
    yield from choice("run.determinism", run.determinism, DETERMINISMS)
