"""What a run of a policy would be, without starting it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.trainer.models.cotrained import CoTrained
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.optim.optimizers import parameter_groups
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.tasks.mixtures import epochs_of, mixture_rows
from robot_foundry.trainer.tasks.plan import RunPlan
from robot_foundry.trainer.tasks.vla.scales import scales_report
from robot_foundry.trainer.tasks.vla.vla_task import MeasuredVLA, VLATask
from robot_foundry.trainer.tasks.vlm.dry_run import cut_pairs, mixture_table


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
    for name, one in task.streams_beside.items():
        values[f"{name}_mixture"] = mixture_table(one.opened, one.samples)
        epochs += epochs_of(one.opened, one.samples, config.num_steps * one.batch.global_batch)
    return RunPlan(values, epochs, (*MeasuredVLA(task, scales).warnings(), *_cut(task)))


def _cut(task: VLATask) -> Iterator[str]:
    for one in task.streams_beside.values():
        if isinstance(one.samples, PairSpec):
            yield from cut_pairs(one.opened, one.samples, one.section)


def count_parameters(model: VLA) -> dict[str, int]:
    """Parameters of each part; an output matrix of its own is one of a policy that learns text as well."""
    parts: dict[str, nn.Module] = {
        **model.backbone.parts(),
        **({} if model.obs_embedding is None else {"obs": model.obs_embedding}),
        "taps": nn.ModuleList([model.tap_norms, model.tap_projections]),
        "head": model.head,
        "total": model,
    }
    if isinstance(model, CoTrained) and model.output is not None:
        parts["output"] = model.output
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
