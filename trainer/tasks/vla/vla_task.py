"""The task of training a policy: all that a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.optim.optimizers import freeze
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import Stream
from robot_foundry.trainer.tasks import mixtures, run_identity
from robot_foundry.trainer.tasks.mixture_task import MixtureTask
from robot_foundry.trainer.tasks.vla.config import KEEP, VLATaskConfig
from robot_foundry.trainer.tasks.vla.described import policy_files, robots_of
from robot_foundry.trainer.tasks.vla.features import kept_features, obstacle
from robot_foundry.trainer.tasks.vla.inputs import InputMaker
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin
from robot_foundry.trainer.tasks.vla.origins.policy import Origin
from robot_foundry.trainer.tasks.vla.origins.vision_language import VLMOrigin
from robot_foundry.trainer.tasks.vla.outliers import outlier_notes
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces, geometry
from robot_foundry.trainer.tasks.vla.prompts import Words
from robot_foundry.trainer.tasks.vla.scales import Scales, fit_scales, scales_from_json, scales_to_json


@dataclass(frozen=True)
class VLATask(MixtureTask):
    """A policy that is to be trained, resolved against the store (see `tasks.task.Task`)."""

    config: VLATaskConfig
    spaces: PolicySpaces
    words: Words
    folder: str  # where the recipe names none
    origin: Origin | VLMOrigin | ForeignOrigin | None = field(default=None, kw_only=True)

    @property
    def default_dir(self) -> str:
        return self.folder

    def measure(self, *, quiet: bool = True) -> dict[str, Any]:
        return scales_to_json(self.first_scales(quiet=quiet))

    def measures_in(self, checkpoint_folder: Path) -> dict[str, Any]:
        return checkpoint.read_json(checkpoint_folder, "normalizer.json")

    def measured(self, measures: Mapping[str, Any]) -> MeasuredVLA:
        return MeasuredVLA(self, scales_from_json(measures))

    def build_model(self) -> VLA:
        return VLA(self.config.model, geometry(self.config, self.spaces))

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
        with torch.device("meta"):
            model = self.build_model()
        freeze(model, self.config.optim)
        return obstacle(model)

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
        task = self.task
        stream = task.config.data.window.stream
        return outlier_notes(task.opened, task.spaces, stream, self.scales)

    @property
    def held_out_samples(self) -> int:
        return self.task.config.run.eval_samples

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        return {}

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        task, config = self.task, self.task.config
        return mixtures.open_stream(
            task.opened, config.data.window, config.data,
            InputMaker.of(config, task.spaces, self.scales, task.words),
            split=split, seed=config.seed, accumulate=config.run.accumulate, ranks=ranks,
        )  # fmt: skip

    def files(self) -> dict[str, str]:
        task = self.task
        return policy_files(task.config, task.spaces, self.scales, robots_of(task.opened), task.words)

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        task = self.task
        began = task.origin.to_json() if task.origin else None
        init = before.get("init") if before else began
        data, seed = task.config.data, task.config.seed
        order = mixtures.order_digest(task.opened, data.window, data.global_batch, seed)
        return run_identity.lineage(task.opened, seed, init, [order])
