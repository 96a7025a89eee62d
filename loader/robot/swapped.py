"""Samples that show the pictures of another one with other words: there the words alone say what to do.

Where each scene is only ever seen with the same words, nothing in the data asks which of both to follow.

Legend: B rows of a draft, n those that are to be swapped.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.robot.drafts import Draft, Drafts
from robot_foundry.loader.robot.instructions import INSTRUCTION
from robot_foundry.loader.share import Share
from robot_foundry.runtime.keyed import key, uniform

# Positions ahead in which the other sample stands: near enough that its span is being read anyway, far enough
# that all components of a mixture come by.
_AHEAD = 1024


def swap_pictures(draft: Draft, drafts: Drafts, share: Share, *, seed: int) -> None:
    """Let some rows of a draft need the pictures of others: who, and whose, depends on (seed, k) alone.

    A row keeps its own where the other has the same words, or lies in a shard that is corrupt.
    """
    k_B = draft.batch.k_B
    row_n = np.flatnonzero(uniform(key("swapped pictures", seed), k_B) < drafts.spec.swapped_pictures)
    if not row_n.size:
        return
    k_n = k_B[row_n]
    ahead_n = (uniform(key("swapped with", seed), k_n) * _AHEAD).astype(np.int64)
    others = drafts.draft(share.at(k_n + 1 + ahead_n))
    for other, row in enumerate(row_n.tolist()):
        is_unlike = others.instruction[other] != draft.instruction[row]
        if is_unlike and row in draft.images and other in others.images:
            draft.images[row] = others.images[other]


def have_one_text(opened: OpenMixture) -> bool:
    """Whether no episode of any component is told anything else than the others."""
    texts: set[str] = set()
    for part in opened.parts:
        notes = part.opened.table("annotations")
        notes = notes.filter(pc.equal(notes["kind"], INSTRUCTION))
        texts.update(notes["text"].unique().to_pylist())
        if len(notes["key"].unique()) < part.opened.table("episodes").num_rows:
            texts.add("")  # which the others are told
    return len(texts) <= 1
