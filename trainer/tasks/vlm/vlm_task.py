"""The task of training a vision-language model: all that a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.layers import contrastive
from robot_foundry.trainer.models.vision_language import ANSWER, VisionLanguage
from robot_foundry.trainer.optim.optimizers import learning_of
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Stream
from robot_foundry.trainer.tasks import described, run_identity
from robot_foundry.trainer.tasks.drawn import (
    Drawn,
    batches_for,
    datasets_of,
    nothing_held_out,
    open_streams,
    rows_held_out,
)
from robot_foundry.trainer.tasks.mixture_task import MixtureTask
from robot_foundry.trainer.tasks.vlm.beside import language_figures, text_stream
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.inputs import (
    PAIRS,
    TEXT,
    contrasted,
    contrasted_rows,
    joined,
    picture_rows,
    until,
)
from robot_foundry.trainer.tasks.vlm.origin import Origin
from robot_foundry.trainer.tasks.vlm.work import beside_work, pairs_work


@dataclass(frozen=True)
class VLMTask(MixtureTask):
    """A vision-language model that is to be trained, resolved against the store (see `tasks.task.Task`).

    It measures nothing of its data, so it is a `MeasuredTask` as well. `text` is what is learnt beside pairs,
    if anything is; `folder` is where the run goes if its configuration does not say.
    """

    config: VLMTaskConfig
    tokenizer: Tokenizer
    text: OpenMixture | None
    folder: str
    origin: Origin | None = field(default=None, kw_only=True)

    @property
    def default_dir(self) -> str:
        return self.folder

    @property
    def settings(self) -> PairSpec:
        """What a row of pairs is."""
        return PairSpec(self.config.data.rows, self.tokenizer, self.config.image_tokens)

    @cached_property
    def streams(self) -> dict[str, Drawn]:
        """Pairs, and text if any is learnt beside."""
        data = self.config.data
        streams = {PAIRS: self._pairs()}
        if self.text is not None:
            text, decoder = data.text, self.config.model.backbone.decoder
            work = beside_work(decoder, text.rows.length, self._learning)
            # Of pairs that are told apart nothing is known of the work, and so not of that of both.
            amounts = None if self.is_contrastive else work
            streams[TEXT] = replace(text_stream(self.text, text, data.threads), amounts=amounts)
        return streams

    @property
    def is_contrastive(self) -> bool:
        """Whether pairs are told apart; each loss is of a couple then, and so of no one dataset."""
        return self.config.model.objective == contrastive.LOSS

    @cached_property
    def _learning(self) -> list[str]:
        """The names of the parameters that learn."""
        return learning_of(self.build_model, self.config.optim)

    def _pairs(self) -> Drawn:
        data = self.config.data
        if not self.is_contrastive:
            model, rows = self.config.model, data.rows
            work = pairs_work(model.backbone, rows.image, rows.length, model.tied, self._learning)
            return Drawn(
                "data", self.opened, self.settings, data, picture_rows, until, amounts=work, loss=ANSWER
            )
        told_apart = partial(contrasted, image_tokens=self.settings.image_tokens)
        return Drawn("data", self.opened, self.settings, data, contrasted_rows, told_apart, told_apart)

    @property
    def loss_weights(self) -> dict[str, float]:
        return {} if self.text is None else {llm.LOSS: self.config.data.text.weight}

    @property
    def identity(self) -> dict[str, Any]:
        beside = {} if self.text is None else {"text": self.text.mixture.id}
        return {**super().identity, **beside}

    def measure(self, *, quiet: bool) -> dict[str, Any]:
        return {}

    def measures_in(self, checkpoint: Path) -> dict[str, Any]:
        return {}

    def measured(self, measures: Mapping[str, Any]) -> VLMTask:
        return self

    def build_model(self) -> VisionLanguage:
        return VisionLanguage(self.config.model, self.config.data.rows.image)

    def take_origin(self, model: nn.Module) -> tuple[str, ...]:
        return () if self.origin is None else self.origin.take(model)

    def check_origin(self) -> None:
        """FoundryError where the weights that the run starts from do not fit its model; allocates nothing."""
        if self.origin is not None:
            with torch.device("meta"):
                model = self.build_model()
            self.origin.check(model)

    @property
    def digest(self) -> dict[str, str]:
        return {"tokenizer": self.tokenizer.id}

    def warnings(self) -> list[str]:
        beside = {name: one for name, one in self.streams.items() if name != PAIRS}
        return nothing_held_out(beside, self.config.run.eval_samples)

    @property
    def datasets(self) -> dict[str, tuple[str, ...]]:
        return datasets_of(self.streams)

    @property
    def held_out_samples(self) -> int:
        """Enough that their batches bring what is held out of text, too."""
        return batches_for(self.streams, self._held_out_rows()) * self.config.data.global_batch

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        return open_streams(
            self.streams, split, seed=self.config.seed, accumulate=self.config.run.accumulate, ranks=ranks,
            held_out={} if split == TRAIN else self._held_out_rows(), join=joined,
            repeat=self.config.data.overfit,
        )  # fmt: skip

    def _held_out_rows(self) -> dict[str, int]:
        """How many rows of each stream a held-out loss is of; NothingSelected where no pair is held out."""
        asked = self.config.run.eval_samples
        return {PAIRS: self.streams[PAIRS].held_out_rows(asked), **rows_held_out(self.streams, asked)}

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        return language_figures(sums)

    def files(self) -> dict[str, str]:
        return described.files(self.config, self.tokenizer)

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        began = self.origin.to_json() if self.origin else None
        init = before.get("init") if before else began
        text = None if self.text is None else self.text.mixture.to_json()
        made = {"tokenizer": self.tokenizer.id, "text_mixture": text}
        seed = self.config.seed
        orders = {name: one.order(seed, self.config.data.overfit) for name, one in self.streams.items()}
        return run_identity.lineage(self.opened, seed, init, orders) | made
