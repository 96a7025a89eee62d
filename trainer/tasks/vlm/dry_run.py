"""What a run of a vision-language model would be, without starting it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.kind import SampleSettings
from robot_foundry.loader.pairs.lengths import tokens_of
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.trainer.models.vision_language import VisionLanguage
from robot_foundry.trainer.optim.optimizers import parameter_groups
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.tasks.mixtures import counts_of, epochs_of, mixture_rows
from robot_foundry.trainer.tasks.plan import RunPlan
from robot_foundry.trainer.tasks.vlm.vlm_task import VLMTask


def planned(task: VLMTask) -> RunPlan:
    """The plan of a run; proves that its first weights and what moves them fit.

    Writes nothing but what a cache holds.

    Its epochs are those of the datasets of pairs, then of those of text.
    """
    with torch.device("meta"):
        model = task.build_model()
    parameters = count_parameters(model)
    parameter_groups(model, task.config.optim)
    task.check_origin()
    config, settings, text = task.config, task.settings, task.config.data.text
    values = {
        "config": resolved(config),
        "run_dir": str(task.run_dir),
        "steps": config.num_steps,
        "tokens": config.num_steps * config.global_batch * config.data.rows.length,
        "image_tokens": settings.image_tokens,
        "parameters": parameters,
        "tokenizer": {"id": task.tokenizer.id, "size": task.tokenizer.size},
        "mixture_id": task.mixture.id,
        "mixture": mixture_table(task.opened, settings),
        "text_mixture": None if task.text is None else mixture_table(task.text, text.rows),
        "init": task.origin.to_json() if task.origin else None,
    }
    epochs = epochs_of(task.opened, settings, config.num_steps * config.global_batch)
    if task.text is not None:
        epochs += epochs_of(task.text, text.rows, config.num_steps * text.global_batch)
    return RunPlan(values, epochs, (*task.warnings(), *cut_pairs(task.opened, settings, "data")))


def count_parameters(model: VisionLanguage) -> dict[str, int]:
    """Parameters of each part; a tied output has none of its own."""
    parts = {
        "vision": model.backbone.vision,
        "projector": model.backbone.projector,
        "decoder": model.backbone.decoder,
        "output": model.output,
        "total": model,
    }
    return {
        name: 0 if part is None else sum(p.numel() for p in part.parameters()) for name, part in parts.items()
    }


def mixture_table(opened: OpenMixture, settings: SampleSettings) -> list[dict[str, Any]]:
    """The mixture as a table, with the rows that each of its datasets has."""
    counts = counts_of(opened, settings)
    return [row | {"rows": n} for row, n in zip(mixture_rows(opened.mixture), counts, strict=True)]


def cut_pairs(opened: OpenMixture, settings: PairSpec, section: str) -> Iterator[str]:
    """A warning for each dataset that has pairs which are longer than a row, whose length `section` says."""
    length = settings.rows.length
    for part in opened.parts:
        tokens_n = tokens_of(part, settings)
        if cut := int((tokens_n > length).sum()):
            yield (
                f"of the {len(tokens_n):,} pairs of {part.name}, {cut:,} are longer than a row of {length:,} "
                f"tokens ({section}.rows.length) and lose their end; the longest has {tokens_n.max():,}"
            )
