"""The task of training a policy: all that a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robot_foundry.loader.robot.swapped import have_one_text
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models.cotrained import CoTrained
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.optim.optimizers import freeze, learning_of
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN, Stream
from robot_foundry.trainer.tasks import run_identity
from robot_foundry.trainer.tasks.drawn import (
    Drawn,
    batches_for,
    datasets_of,
    nothing_held_out,
    open_streams,
    rows_held_out,
)
from robot_foundry.trainer.tasks.mixture_task import MixtureTask
from robot_foundry.trainer.tasks.vla.config import KEEP, VLATaskConfig
from robot_foundry.trainer.tasks.vla.cotraining.language import LANGUAGE, Language
from robot_foundry.trainer.tasks.vla.cotraining.streams import (
    ROBOT,
    Beside,
    beside_streams,
    joined,
    loss_weights,
)
from robot_foundry.trainer.tasks.vla.described import policy_files, robots_of
from robot_foundry.trainer.tasks.vla.features import kept_features, obstacle
from robot_foundry.trainer.tasks.vla.inputs import InputMaker, until
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin
from robot_foundry.trainer.tasks.vla.origins.policy import Origin
from robot_foundry.trainer.tasks.vla.origins.vision_language import VLMOrigin
from robot_foundry.trainer.tasks.vla.outliers import outlier_notes
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces, geometry
from robot_foundry.trainer.tasks.vla.prompts import Words
from robot_foundry.trainer.tasks.vla.scales import Scales, fit_scales, scales_from_json, scales_to_json
from robot_foundry.trainer.tasks.vla.work import robot_amounts
from robot_foundry.trainer.tasks.vlm.beside import language_figures


@dataclass(frozen=True)
class VLATask(MixtureTask):
    """A policy that is to be trained, resolved against the store (see `tasks.task.Task`).

    `beside` is what is learnt beside robots, and `language` what the backbone knows then, if anything;
    `folder` is where the run goes if its configuration does not say.
    """

    config: VLATaskConfig
    spaces: PolicySpaces
    words: Words
    folder: str  # where the recipe names none
    beside: Beside = field(default_factory=dict, kw_only=True)
    language: Language | None = field(default=None, kw_only=True)
    origin: Origin | VLMOrigin | ForeignOrigin | None = field(default=None, kw_only=True)

    @property
    def default_dir(self) -> str:
        return self.folder

    @property
    def loss_weights(self) -> dict[str, float]:
        return loss_weights(self.beside, self.config.data)

    @property
    def identity(self) -> dict[str, Any]:
        beside = {name: opened.mixture.id for name, opened in self.beside.items()}
        return {**super().identity, **beside}

    @cached_property
    def streams_beside(self) -> dict[str, Drawn]:
        """What is drawn beside robots, by name."""
        learning = self.learning() if self.beside else ()
        return beside_streams(self.beside, self.config, self.words.tokenizer, learning)

    @property
    def defaults(self) -> VLATaskConfig:
        default = VLATaskConfig()
        backbone = type(self.config.model.backbone)()  # each kind has keys of its own
        return replace(default, model=replace(default.model, backbone=backbone))

    def measure(self, *, quiet: bool = True) -> dict[str, Any]:
        return scales_to_json(self.first_scales(quiet=quiet))

    def measures_in(self, checkpoint_folder: Path) -> dict[str, Any]:
        return checkpoint.read_json(checkpoint_folder, "normalizer.json")

    def measured(self, measures: Mapping[str, Any]) -> MeasuredVLA:
        return MeasuredVLA(self, scales_from_json(measures))

    def build_model(self) -> VLA:
        sizes = geometry(self.config, self.spaces)
        if not self.beside:
            return VLA(self.config.model, sizes)
        return CoTrained(self.config.model, sizes, tied=self.language is None or self.language.tied)

    def take_origin(self, model: nn.Module) -> tuple[str, ...]:
        if self.origin is None:
            return ()
        return self.origin.load_weights(model, self.spaces, self.config.init.only)

    def equip(self, model: nn.Module, ranks: Ranks) -> AbstractContextManager[tuple[str, ...]]:
        if not self.config.data.cache_features:
            return super().equip(model, ranks)
        assert isinstance(model, VLA)
        return kept_features(model, self.opened.store, self.config.run, ranks)

    def features_change_by(self) -> str | None:
        """What in the configuration changes the backbone's features while it learns; None where nothing does.

        UsageError where it names parts that the model has not.
        """
        return obstacle(self._without_memory())

    def learning(self) -> list[str]:
        """The names of the parameters that learn. UsageError as `features_change_by`."""
        return learning_of(self.build_model, self.config.optim)

    def _without_memory(self) -> VLA:
        """The model, of which nothing but what learns has gradients."""
        with torch.device("meta"):
            model = self.build_model()
        freeze(model, self.config.optim)
        return model

    def check_origin(self) -> None:
        """FoundryError where the weights that the run starts from do not fit its model; allocates nothing."""
        if self.origin is not None:
            with torch.device("meta"):
                model = self.build_model()
            self.origin.check(model, self.spaces, self.config.init.only)

    def first_scales(self, *, quiet: bool = True) -> Scales:
        """The normalisers of a run that starts: fitted to its training split, or kept from its origin."""
        config, spaces = self.config, self.spaces
        if not isinstance(self.origin, Origin) or config.init.normalizer != KEEP:
            return fit_scales(self.opened, config, spaces, quiet=quiet)
        kept = self.origin.keep_scales(spaces, config.data)
        horizon = geometry(config, spaces).horizon
        unlike = {len(normalizer.offsets) for normalizer in kept.action} - {0, horizon}
        if unlike:
            raise FoundryError(
                f"the normaliser of {self.origin.folder} has scales for {min(unlike)} steps, "
                f"chunks have {horizon}",
                hint="give the horizon that it has, or init.normalizer=refit",
            )
        return kept


@dataclass(frozen=True)
class MeasuredVLA:
    """The same with its normalisers (see `tasks.task.MeasuredTask`)."""

    task: VLATask
    scales: Scales

    @property
    def digest(self) -> dict[str, str]:
        return {"normalizer": digest_of(scales_to_json(self.scales))}

    def warnings(self) -> list[str]:
        task, config = self.task, self.task.config
        window = config.data.window
        told = outlier_notes(task.opened, task.spaces, window.stream, self.scales)
        told += nothing_held_out(task.streams_beside, config.run.eval_samples)
        if window.swapped_pictures and have_one_text(task.opened):
            told.append("data.window.swapped_pictures: no picture is swapped, as all have the same words")
        return told

    @cached_property
    def streams(self) -> dict[str, Drawn]:
        """That of the robots, and what is drawn beside."""
        task, data = self.task, self.task.config.data
        inputs_of = InputMaker.of(task.config, task.spaces, self.scales, task.words)
        sizes = geometry(task.config, task.spaces)
        amounts = robot_amounts(task.config.model, sizes, task.learning(), data.cache_features)
        robot = Drawn(
            "data", task.opened, data.window, data, inputs_of, until, amounts=amounts, loss="action"
        )
        return {ROBOT: robot, **task.streams_beside}

    @property
    def datasets(self) -> dict[str, tuple[str, ...]]:
        return datasets_of(self.streams)

    @property
    def held_out_samples(self) -> int:
        """Enough that their batches bring what is held out of each stream."""
        return batches_for(self.streams, self._held_out_rows()) * self.task.config.data.global_batch

    def _held_out_rows(self) -> dict[str, int]:
        """How many rows of each stream a held-out loss is of: of robots always whole batches."""
        asked, batch = self.task.config.run.eval_samples, self.task.config.data.global_batch
        return {ROBOT: -(-asked // batch) * batch, **rows_held_out(self.task.streams_beside, asked)}

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        return language_figures(sums)

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        config, streams = self.task.config, self.streams
        if split != TRAIN:  # what is held out is shown as it is
            streams = {**streams, ROBOT: replace(streams[ROBOT], samples=config.data.window.as_seen)}
        return open_streams(
            streams, split, seed=config.seed, accumulate=config.run.accumulate, ranks=ranks,
            held_out={} if split == TRAIN else self._held_out_rows(), join=joined,
            repeat=config.data.overfit,
        )  # fmt: skip

    def files(self) -> dict[str, str]:
        task = self.task
        return policy_files(task.config, task.spaces, self.scales, robots_of(task.opened), task.words)

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        task = self.task
        began = task.origin.to_json() if task.origin else None
        init = before.get("init") if before else began
        seed = task.config.seed
        orders = {name: one.order(seed, task.config.data.overfit) for name, one in self.streams.items()}
        made = {f"{name}_mixture": opened.mixture.to_json() for name, opened in task.beside.items()}
        if task.language is not None:
            made[LANGUAGE] = task.language.to_json()
        return run_identity.lineage(task.opened, seed, init, orders) | made
