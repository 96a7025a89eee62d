"""What the backbone of a policy knows of language, as its checkpoints say it in `lineage.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from robot_foundry.catalog.components import Mixture
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.cotrained import OUTPUT
from robot_foundry.trainer.models.vision_language import ANSWER
from robot_foundry.trainer.tasks.origin import chosen
from robot_foundry.trainer.tasks.vla.config import DataConfig
from robot_foundry.trainer.tasks.vla.cotraining.config import RowSettings
from robot_foundry.trainer.tasks.vla.cotraining.streams import Beside
from robot_foundry.trainer.tasks.vlm.inputs import PAIRS
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles

LANGUAGE = "language"  # its key there
EMBEDDING = "backbone.decoder.embedding.weight"
PARTS = ("backbone.vision", "backbone.projector", "backbone.decoder")  # what makes a state of a token


@dataclass(frozen=True)
class Language:
    """The words of a backbone.

    output        the parameter that makes logits of its states; None where it was not kept
    rows          what its rows of pairs were
    val_fraction  what of the pairs was held out; None is the default
    versions      of datasets of pairs that it learnt from
    """

    output: str | None = EMBEDDING
    rows: RowSettings = field(default_factory=RowSettings)
    val_fraction: str | None = None
    versions: tuple[str, ...] = ()

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return self.output == EMBEDDING

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Language:
        rows = RowSettings(**value["rows"])
        return cls(value["output"], rows, value["val_fraction"], tuple(value["versions"]))

    def taken(self, only: Sequence[str]) -> Language | None:
        """The same where the parameters that `only` names are all that it lives in."""
        parts = PARTS if self.output is None or self.tied else (*PARTS, self.output)
        return self if all(chosen(name, only) for name in parts) else None


def language_of(files: TrainedFiles) -> Language | None:
    """That of a vision-language model; None of one that did not learn to answer."""
    model, data = files.config.model, files.config.data
    if model.objective != ANSWER:
        return None
    rows = RowSettings(data.rows.length, data.rows.packed, data.rows.fit)
    return Language(EMBEDDING if model.tied else OUTPUT, rows, data.val_fraction, tuple(sorted(files.learnt)))


def language_in(folder: Path) -> Language | None:
    """That of the checkpoint of a policy; None where it has none, or is older than the key."""
    value = checkpoint.read_json(folder, "lineage.json").get(LANGUAGE)
    try:
        return None if value is None else Language.from_json(value)
    except (KeyError, TypeError) as error:
        raise FoundryError(f"what {folder} says of its {LANGUAGE} cannot be read ({error})") from None


def after_training(known: Language | None, beside: Beside, data: DataConfig) -> Language | None:
    """What a run knows that begins with `known`, and learns what is beside its robots.

    Robots alone teach no output, so that one that is not the embedding is not kept. FoundryError where it is
    needed, and was not.
    """
    if not beside:
        return known if known is None or known.tied else replace(known, output=None)
    if known is None:
        known = Language()
    if known.output is None:
        raise FoundryError(
            "the policy of init.weights did not keep the output matrix of its vision-language model",
            hint="init.vlm=RUN starts from that model, which has it",
        )
    if PAIRS not in beside:
        return known
    versions = {*known.versions, *versions_of(beside[PAIRS].mixture)}
    return replace(
        known, rows=data.pairs.rows, val_fraction=data.pairs.val_fraction, versions=tuple(sorted(versions))
    )


def versions_of(mixture: Mixture) -> set[str]:
    """The versions that a mixture is of."""
    return {component.version_id for component in mixture.components}
