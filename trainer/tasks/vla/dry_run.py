"""What a run of a policy would be, without starting it."""

from __future__ import annotations

import torch

from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.optim.optimizers import parameter_groups
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.tasks.mixtures import epochs_of, mixture_rows
from robot_foundry.trainer.tasks.plan import RunPlan
from robot_foundry.trainer.tasks.vla.scales import scales_report
from robot_foundry.trainer.tasks.vla.vla_task import MeasuredVLA, VLATask


def planned(task: VLATask) -> RunPlan:
    """The plan of a run; fits its normalisers, proves that its first weights and what moves them fit, writes
    nothing."""
    with torch.device("meta"):
        model = task.build_model()
    parameters = count_parameters(model)
    parameter_groups(model, task.config.optim)
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
        "features": {"cached": config.data.cache_features, "change_by": task.features_change_by()},
        "init": task.origin.to_json() if task.origin else None,
    }
    epochs = epochs_of(task.opened, config.data.window, config.num_steps * config.global_batch)
    return RunPlan(values, epochs, tuple(MeasuredVLA(task, scales).warnings()))


def count_parameters(model: VLA) -> dict[str, int]:
    """Parameters of each part."""
    parts = {
        **model.backbone.parts(),
        **({} if model.obs_embedding is None else {"obs": model.obs_embedding}),
        "taps": torch.nn.ModuleList([model.tap_norms, model.tap_projections]),
        "head": model.head,
        "total": model,
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
