"""`open`: a version as a sequence of its samples, to look into.

What a sample is, and what else there is to see, is the affair of the version's kind (`loader.kind`).
"""

from __future__ import annotations

import os
from typing import Any

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import kind_of
from robot_foundry.runtime.errors import FoundryError


def open(
    ref: str | Version, store: Store | str | os.PathLike[str] | None = None, *, split: str = "all"
) -> Any:
    """The dataset version that `ref` names, of robots a `loader.robot.dataset.Dataset`, of tokens a
    `loader.tokens.dataset.TokenDataset`, of pairs a `loader.pairs.dataset.PairDataset`.

    `split` 'train' or 'val' leaves the other samples out.
    """
    versions = OpenVersions(as_store(store))
    opened = versions.open(ref)
    if opened.manifest.mixture is not None:
        raise FoundryError(
            f"{opened.version} is a mixture, which has no {opened.kind.samples} of its own",
            hint="open one of its components, or read batches with robot_foundry.load",
        )
    return kind_of(opened).open_dataset(versions, opened.version, split)
