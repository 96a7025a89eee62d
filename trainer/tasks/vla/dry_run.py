"""What a run of a policy would be, without starting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.tasks.mixtures import epochs_of, mixture_rows
from robot_foundry.trainer.tasks.vla.scales import scales_report
from robot_foundry.trainer.tasks.vla.vla_task import MeasuredVLA, VLATask


@dataclass(frozen=True)
class RunPlan:
    """What would be trained, and what in the data may be a reason not to."""

    values: dict[str, Any]  # as `--dry-run --json` says it
    epochs: tuple[float, ...]  # how often the run sees each dataset
    warnings: tuple[str, ...]


def planned(task: VLATask) -> RunPlan:
    """The plan of a run; fits its normalisers and proves that its first weights fit, writes nothing."""
    with torch.device("meta"):
        parameters = count_parameters(task.build_model())
    task.check_origin()
    scales = task.first_scales(quiet=False)
    config = task.config
    values = {
        "config": resolved(config),
        "run_dir": str(task.run_dir),
        "steps": config.num_steps,
        "parameters": parameters,
        "mixture_id": task.mixture.id,
        "mixture": mixture_rows(task.mixture),
        "normalizer": scales_report(scales, task.spaces),
        "init": task.origin.to_json() if task.origin else None,
    }
    epochs = epochs_of(task.opened, config.data.window, config.num_steps * config.global_batch)
    return RunPlan(values, epochs, tuple(MeasuredVLA(task, scales).warnings()))


def count_parameters(model: VLA) -> dict[str, int]:
    """Parameters of each part."""
    parts = {
        "vision": model.backbone.vision,
        "projector": model.backbone.projector,
        "decoder": model.backbone.decoder,
        "taps": torch.nn.ModuleList([model.tap_norms, model.tap_projections]),
        "head": model.head,
        "total": model,
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
