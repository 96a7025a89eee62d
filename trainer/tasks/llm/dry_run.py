"""What a run of a language model would be, without starting it."""

from __future__ import annotations

import torch

from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.optim.optimizers import parameter_groups
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.tasks.llm.llm_task import LLMTask
from robot_foundry.trainer.tasks.mixtures import counts_of, epochs_of, mixture_rows
from robot_foundry.trainer.tasks.plan import RunPlan


def planned(task: LLMTask) -> RunPlan:
    """The plan of a run; proves that its first weights and what moves them fit, writes nothing."""
    with torch.device("meta"):
        model = task.build_model()
    parameters = count_parameters(model)
    parameter_groups(model, task.config.optim)
    task.check_origin()
    config, rows = task.config, task.config.data.rows
    counts = counts_of(task.opened, rows)
    values = {
        "config": resolved(config),
        "run_dir": str(task.run_dir),
        "steps": config.num_steps,
        "tokens": config.num_steps * config.global_batch * rows.length,
        "parameters": parameters,
        "tokenizer": {"id": task.tokenizer.id, "size": task.tokenizer.size},
        "mixture_id": task.mixture.id,
        "mixture": [row | {"rows": n} for row, n in zip(mixture_rows(task.mixture), counts, strict=True)],
        "init": task.origin.to_json() if task.origin else None,
    }
    epochs = epochs_of(task.opened, rows, config.num_steps * config.global_batch)
    return RunPlan(values, epochs, tuple(task.warnings()))


def count_parameters(model: LLM) -> dict[str, int]:
    """Parameters of each part; a tied output has none of its own."""
    blocks = model.decoder.blocks
    parts = {"embedding": model.decoder.embedding, "blocks": blocks, "output": model.output, "total": model}
    return {
        name: 0 if part is None else sum(p.numel() for p in part.parameters()) for name, part in parts.items()
    }
