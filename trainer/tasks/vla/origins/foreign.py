"""Starting a policy from a backbone of others: a folder of `transformers`, whose tokenizer comes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.foreign.checks import vocabulary_of
from robot_foundry.trainer.models.foreign.config import ForeignConfig, ForeignLLMConfig, ForeignVLMConfig
from robot_foundry.trainer.models.foreign.templates import TEMPLATES, ids_of
from robot_foundry.trainer.models.layers.lora import is_adapter
from robot_foundry.trainer.pretrained.families import CONFIG
from robot_foundry.trainer.pretrained.foreign import PretrainedBackbone, read_backbone
from robot_foundry.trainer.tasks.origin import check_fits, chosen, misfits, unknown
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces

BACKBONE = "backbone."
OF_OUR_TOWER = ("vision.", "projector.")


def is_foreign(where: str) -> bool:
    """Whether a folder is one of `transformers`, and no run."""
    return (Path(where) / CONFIG).is_file()


@dataclass(frozen=True)
class ForeignOrigin:
    """Weights of others that a policy's backbone starts from."""

    files: PretrainedBackbone

    @classmethod
    def find(cls, where: str) -> ForeignOrigin:
        """FoundryError where the folder holds no such model, or a damaged one."""
        files = read_backbone(Path(where))
        return cls(files)

    @property
    def id(self) -> str:
        return self.files.id

    @property
    def tokenizer(self) -> Tokenizer:
        return self.files.tokenizer

    def backbone(self, asked: BackboneConfig | ForeignConfig) -> ForeignConfig:
        """The backbone; one that only reads sees with the vision tower that is asked for.

        FoundryError where its tokenizer is not its own.
        """
        files, config = self.files, self._config(asked)
        if (known := vocabulary_of(config)) < files.tokenizer.size:
            raise FoundryError(
                f"{files.path}: the tokenizer has {files.tokenizer.size:,} ids, the model knows {known:,}",
                hint="tokenizer.json must be that of the model",
            )
        return config

    def _config(self, asked: BackboneConfig | ForeignConfig) -> ForeignConfig:
        files = self.files
        if files.sees:
            template = TEMPLATES[files.model_type]
            return ForeignVLMConfig(
                files.values,
                picture_begin=ids_of(template.picture_begin, files.tokenizer),
                picture_end=ids_of(template.picture_end, files.tokenizer),
                pixel_mean=files.pixel_mean,
                pixel_std=files.pixel_std,
            )
        if isinstance(asked, ForeignVLMConfig):
            raise UsageError(
                f"{files.path} only reads, and model.backbone has no vision tower for it",
                hint="say model.backbone.vision and model.backbone.shuffle",
            )
        return ForeignLLMConfig(files.values, vision=asked.vision, shuffle=asked.shuffle)

    def to_json(self) -> dict[str, Any]:
        files = self.files
        return {"vlm": {"pretrained": files.path.as_posix(), "id": self.id, "map": files.told()}}

    def check(self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()) -> None:
        """FoundryError that lists all that keeps `load_weights` from filling `model`, which may be meta."""
        shapes = {f"{BACKBONE}{name}": shape for name, shape in self.files.shapes.items()}
        stored = {name: shape for name, shape in shapes.items() if chosen(name, only)}
        problems = [*unknown(model, only), *misfits(self._taken(model, only), stored)]
        check_fits(problems, str(self.files.path), "its config.json and its tensors must be of one model")

    def load_weights(
        self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Fill the backbone of `model`, or what of it `only` names; a note on what of it begins at random."""
        self.check(model, spaces, only)
        taken = self._taken(model, only)
        self.files.fill({name.removeprefix(BACKBONE): tensor for name, tensor in taken.items()})
        fresh = dict.fromkeys(
            ".".join(name.split(".")[:2])
            for name, _ in model.named_parameters()
            if name.startswith(BACKBONE) and name not in taken and not is_adapter(name)
        )
        return (f"no weights are given for {', '.join(fresh)}, which begin at random",) if fresh else ()

    def _taken(self, model: nn.Module, only: Sequence[str]) -> dict[str, Tensor]:
        ours = () if self.files.sees else tuple(f"{BACKBONE}{part}" for part in OF_OUR_TOWER)
        return {
            name: value.detach()
            for name, value in model.named_parameters()
            if name.startswith(BACKBONE)
            and not name.startswith(ours)
            and chosen(name, only)
            and not is_adapter(name)
        }
