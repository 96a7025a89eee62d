"""Text for the loader: documents to look into. Batches are of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import LoaderKind
from robot_foundry.loader.text.dataset import TextDataset
from robot_foundry.runtime.errors import UsageError


@dataclass(frozen=True)
class NoSettings:
    """Text has no samples of its own to set anything of."""

    skipped: tuple[str, ...] = ()


class TextKind:
    """See `loader.kind.LoaderKind`."""

    settings: type[NoSettings] = NoSettings

    def counts(self, opened: OpenMixture, window: NoSettings) -> list[int]:
        """UsageError: there are no samples of text."""
        raise _is_text(opened)

    def open_loader(self, opened: OpenMixture, window: NoSettings, **options: Any) -> Any:
        """UsageError: there are no batches of text."""
        raise _is_text(opened)

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> TextDataset:
        return TextDataset(versions, version, split)


def _is_text(opened: OpenMixture) -> UsageError:
    part = opened.parts[0]
    return UsageError(
        f"{part.opened.version} holds text, which is trained on as tokens",
        hint=f"foundry-data tokenize {part.manifest.dataset} --tokenizer NAME",
    )


KIND: LoaderKind = TextKind()
