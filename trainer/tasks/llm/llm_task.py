"""The task of training a language model: all that a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models.llm import LLM, LOSS
from robot_foundry.trainer.optim.optimizers import learning_of
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Stream
from robot_foundry.trainer.tasks import described, mixtures, run_identity
from robot_foundry.trainer.tasks.datasets import dataset_names
from robot_foundry.trainer.tasks.llm.config import LLMTaskConfig
from robot_foundry.trainer.tasks.llm.figures import text_figures
from robot_foundry.trainer.tasks.llm.inputs import text_inputs, until
from robot_foundry.trainer.tasks.llm.origin import Origin, check_origin, take_origin
from robot_foundry.trainer.tasks.llm.recipe import default_dir
from robot_foundry.trainer.tasks.llm.work import text_work
from robot_foundry.trainer.tasks.mixture_task import MixtureTask
from robot_foundry.trainer.tasks.work import Work


@dataclass(frozen=True)
class LLMTask(MixtureTask):
    """A language model that is to be trained, resolved against the store (see `tasks.task.Task`).

    It measures nothing of its data, so it is a `MeasuredTask` as well.
    """

    config: LLMTaskConfig
    tokenizer: Tokenizer
    origin: Origin | None = field(default=None, kw_only=True)

    @property
    def default_dir(self) -> str:
        return default_dir(self.config, self.mixture.id)

    def measure(self, *, quiet: bool) -> dict[str, Any]:
        return {}

    def measures_in(self, checkpoint: Path) -> dict[str, Any]:
        return {}

    def measured(self, measures: Mapping[str, Any]) -> LLMTask:
        return self

    def build_model(self) -> LLM:
        return LLM(self.config.model)

    def take_origin(self, model: nn.Module) -> tuple[str, ...]:
        if self.origin is None:
            return ()
        return take_origin(self.origin, model, self.tokenizer, self.config.init.only)

    def check_origin(self) -> None:
        """FoundryError where the weights that the run starts from do not fit its model; allocates nothing."""
        if self.origin is not None:
            with torch.device("meta"):
                model = self.build_model()
            check_origin(self.origin, model, self.tokenizer, self.config.init.only)

    @property
    def digest(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer.id}

    def warnings(self) -> list[str]:
        return []

    @property
    def datasets(self) -> dict[str, tuple[str, ...]]:
        names = dataset_names(self.opened)
        return {LOSS: names} if names else {}

    def _work(self) -> Work:
        """What its rows compute."""
        learning = learning_of(self.build_model, self.config.optim)
        return text_work(self.config.model, self.config.data.rows.length, learning)

    @property
    def held_out_samples(self) -> int:
        """Of one dataset no row twice, so that enough samples are exactly all that is held out."""
        rows = mixtures.counts_of(self.opened, self.config.data.rows, split="val")
        asked = self.config.run.eval_samples
        return min(asked, rows[0]) if len(rows) == 1 else asked

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        config = self.config
        taken = None if split == TRAIN else partial(until, k=self.held_out_samples)
        return mixtures.open_stream(
            self.opened, config.data.rows, config.data, text_inputs,
            split=split, seed=config.seed, accumulate=config.run.accumulate, ranks=ranks, taken=taken,
            amounts=self._work() if split == TRAIN else None, told_apart=True,
            repeat=config.data.overfit,
        )  # fmt: skip

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        return text_figures(sums)

    def files(self) -> dict[str, str]:
        return described.files(self.config, self.tokenizer)

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        began = self.origin.to_json() if self.origin else None
        init = before.get("init") if before else began
        made = {"tokenizer": self.tokenizer.id}
        data, seed = self.config.data, self.config.seed
        order = mixtures.order_digest(self.opened, data.rows, data.global_batch, seed, data.overfit)
        return run_identity.lineage(self.opened, seed, init, {LOSS: order}) | made
