"""The task of training a vision-language model: all that a run asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.kind import SampleSettings
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.runtime.errors import NothingSelected, UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.layers import contrastive
from robot_foundry.trainer.models.vision_language import ANSWER, PictureRows, VisionLanguage
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Joined, Rows, Stream
from robot_foundry.trainer.tasks import described, mixtures, run_identity
from robot_foundry.trainer.tasks.llm.figures import bits_per_byte, perplexity
from robot_foundry.trainer.tasks.llm.inputs import text_inputs
from robot_foundry.trainer.tasks.llm.inputs import until as text_until
from robot_foundry.trainer.tasks.mixture_task import MixtureTask
from robot_foundry.trainer.tasks.mixtures import BatchSettings
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
        if self.text is None:
            return []
        try:
            _once(self.text, self.config.data.text.rows, self.config.run.eval_samples)
        except NothingSelected as error:
            return [f"no held-out loss of text: {error}"]
        return []

    @property
    def held_out_samples(self) -> int:
        """Enough that their batches bring what is held out of text, too."""
        rows, batch = self._held_out_rows(), self.config.data.global_batch
        return max(rows[PAIRS], -(-rows.get(TEXT, 0) // self.config.data.text.global_batch) * batch)

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        data, text = self.config.data, self.config.data.text
        self._check_shares(ranks)
        rows = None if split == TRAIN else self._held_out_rows()
        open_split = partial(
            mixtures.open_stream,
            split=split, seed=self.config.seed, accumulate=self.config.run.accumulate, ranks=ranks,
        )  # fmt: skip
        inputs_of, taken = self._pair_inputs(None if rows is None else rows[PAIRS])
        pairs = open_split(self.opened, self.settings, data, inputs_of, taken=taken)
        if self.text is None or (rows is not None and TEXT not in rows):
            return pairs
        taken_text = None if rows is None else partial(text_until, k=rows[TEXT])
        batch = BatchSettings(text.global_batch, data.threads)
        beside = open_split(self.text, text.rows, batch, text_inputs, taken=taken_text)
        return Joined({PAIRS: pairs, TEXT: beside}, joined)

    def _pair_inputs(
        self, k: int | None
    ) -> tuple[Callable[[Any], PictureRows], Callable[[Any], Rows] | None]:
        """What makes inputs of a batch, and what says which of its rows, those before position k if given."""
        if self.config.model.objective == contrastive.LOSS:
            told_apart = partial(contrasted, image_tokens=self.settings.image_tokens, k=k)
            return contrasted_rows, told_apart
        return picture_rows, None if k is None else partial(until, k=k)

    def _held_out_rows(self) -> dict[str, int]:
        """How many rows of each stream a held-out loss is of; NothingSelected where no pair is held out."""
        asked = self.config.run.eval_samples
        rows = {PAIRS: _once(self.opened, self.settings, asked)}
        if self.text is not None:
            with suppress(NothingSelected):  # which `warnings` tells
                rows[TEXT] = _once(self.text, self.config.data.text.rows, asked)
        return rows

    def _check_shares(self, ranks: Ranks) -> None:
        """UsageError where the rows of a stream do not divide by ranks and microbatches."""
        data, accumulate = self.config.data, self.config.run.accumulate
        batches = {"data.global_batch": data.global_batch}
        if self.text is not None:
            batches["data.text.global_batch"] = data.text.global_batch
        parts = ranks.size * accumulate
        for key, rows in batches.items():
            if rows % parts:
                raise UsageError(
                    f"{key}: {rows} rows do not divide by {ranks.size} ranks × {accumulate} microbatches",
                    hint=f"{key}={-(-rows // parts) * parts}",
                )

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        """The perplexity of a token of an answer, and of text the bits that a byte takes."""
        figures = {}
        if sums.counts.get(ANSWER):
            figures["perplexity"] = perplexity(sums.losses[ANSWER] / sums.counts[ANSWER])
        if sums.counts.get(llm.LOSS):
            figures["bits_per_byte"] = bits_per_byte(sums)
        return figures

    def files(self) -> dict[str, str]:
        return described.files(self.config, self.tokenizer)

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        began = self.origin.to_json() if self.origin else None
        init = before.get("init") if before else began
        text = None if self.text is None else self.text.mixture.to_json()
        made = {"tokenizer": self.tokenizer.id, "text_mixture": text}
        data, seed = self.config.data, self.config.seed
        orders = [mixtures.order_digest(self.opened, self.settings, data.global_batch, seed)]
        if self.text is not None:
            text_order = mixtures.order_digest(self.text, data.text.rows, data.text.global_batch, seed)
            orders.append(text_order)
        return run_identity.lineage(self.opened, seed, init, orders) | made


def _once(opened: OpenMixture, settings: SampleSettings, asked: int) -> int:
    """How many held-out rows are taken where so many are asked: of one dataset none twice, so that enough are
    exactly all that is held out."""
    rows = mixtures.counts_of(opened, settings, split="val")
    return min(asked, rows[0]) if len(rows) == 1 else asked
