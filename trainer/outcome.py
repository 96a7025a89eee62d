"""Where a finished run stands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.ranks.shares import whole


@dataclass(frozen=True)
class Outcome:
    """Where a finished run stands. Losses are means over what counts; None where nothing was measured."""

    run_dir: Path
    checkpoint: Path
    step: int
    resumed_from: int
    weights: str  # SHA-256 of all parameters, not averaged
    loss: float | None
    held_out_loss: float | None
    figures: Mapping[str, float | None]  # what the task says of held-out samples beside their losses
    rates: Mapping[str, float]  # samples a second, and what else a sample stands for: `samples_per_s`, …
    skipped: int  # steps of the whole run that were not finite, or spikes
    substituted: Mapping[str, int]  # damaged samples of the whole run that were replaced, by split
    notes: tuple[str, ...]  # what was told before the first step, each as a FoundryWarning

    @classmethod
    def read(
        cls,
        run_dir: Path,
        step: int,
        *,
        resumed_from: int,
        weights: str,
        skipped: int,
        substituted: Mapping[str, int],
        notes: tuple[str, ...],
    ) -> Outcome:
        """The outcome of a run that reached `step`: its last measurements are those of its records."""
        records = read_metrics(run_dir)

        def last(name: str) -> dict[str, Any]:
            return next((record for record in reversed(records) if name in record), {})

        held_out, trained = last("held_out"), last("loss")

        return cls(
            run_dir=run_dir,
            checkpoint=checkpoint.complete(run_dir)[step],
            step=step,
            resumed_from=resumed_from,
            weights=weights,
            loss=trained.get("loss"),
            held_out_loss=held_out.get("held_out"),
            figures={name: held_out[name] for name in held_out if not name.startswith(("held_out", "step"))},
            rates={name: trained[name] for name in trained if name.endswith("_per_s")},
            skipped=skipped,
            substituted=substituted,
            notes=notes,
        )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of every parameter's name and bits: equal for equal weights. Every rank calls this."""
    hasher = hashlib.sha256()
    for name, parameter in model.named_parameters():
        hasher.update(name.encode())
        hasher.update(whole(parameter.detach()).cpu().numpy().tobytes())
    return hasher.hexdigest()
