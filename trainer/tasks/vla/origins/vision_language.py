"""Starting a policy from a vision-language model: its backbone, and the tokenizer whose ids that knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.cotrained import OUTPUT
from robot_foundry.trainer.models.layers.lora import is_adapter
from robot_foundry.trainer.tasks.origin import check_fits, chosen, misfits, unknown
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles

BACKBONE = "backbone."


@dataclass(frozen=True)
class VLMOrigin:
    """A finished checkpoint of a vision-language model whose backbone a policy starts from."""

    files: TrainedFiles

    @classmethod
    def find(cls, where: str) -> VLMOrigin:
        """FoundryError where it is none, or not whole."""
        if not Path(where).exists():
            raise FoundryError(
                f"init.vlm: there is no {where}",
                hint="give a run of foundry-train vlm, or a folder of transformers",
            )
        return cls(TrainedFiles.find(Path(where)))

    @property
    def id(self) -> str:
        return self.files.origin.id

    @property
    def backbone(self) -> BackboneConfig:
        return self.files.config.model.backbone

    @property
    def tokenizer(self) -> Tokenizer:
        return self.files.tokenizer

    def to_json(self) -> dict[str, Any]:
        return {"vlm": self.files.origin.to_json()}

    def check(self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()) -> None:
        """FoundryError that lists all that keeps `load_weights` from filling `model`, which may be meta."""
        taken, stored = _taken(model, only), self.files.origin.stored()
        shapes = {
            name: shape
            for name, shape in stored.items()
            if _takes(name, only) and (name != OUTPUT or name in taken)
        }
        problems = [*unknown(model, only), *misfits(taken, shapes)]
        check_fits(problems, str(self.files.origin.folder), "set data.window.image as there")

    def load_weights(
        self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Fill the backbone of `model`, or what of it `only` names, with the averaged weights.

        So is an output matrix of its own that the model has.
        """
        self.check(model, spaces, only)
        self.files.origin.fill(_taken(model, only))
        return ()


def _takes(name: str, only: Sequence[str]) -> bool:
    return (name.startswith(BACKBONE) or name == OUTPUT) and chosen(name, only)


def _taken(model: nn.Module, only: Sequence[str]) -> dict[str, Tensor]:
    """The parameters that are filled; those of adapters, which no such model has, begin anew."""
    named = model.named_parameters()
    return {name: value.detach() for name, value in named if _takes(name, only) and not is_adapter(name)}
