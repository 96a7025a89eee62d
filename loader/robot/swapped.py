"""Samples that show the pictures of another one with other words: there the words alone say what to do.

Where each scene is only ever seen with the same words, nothing in the data asks which of both to follow.

Legend: B rows of a draft, n those that are to be swapped.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.robot.drafts import Draft, Drafts
from robot_foundry.loader.robot.instructions import INSTRUCTION
from robot_foundry.loader.share import Samples, Share
from robot_foundry.runtime.keyed import key, uniform

# Positions ahead in which the other sample stands: near enough that its span is being read anyway, far enough
# that all components of a mixture come by.
_AHEAD = 1024


def swap_pictures(
    draft: Draft, drafts: Drafts, sample_B: NDArray[np.int64], share: Share, *, seed: int
) -> None:
    """Let some rows of a draft need the pictures of others: who, and whose, depends on (seed, k) alone.

    `sample_B` are the samples of the rows. A row keeps its own pictures where it or the other has no words,
    one of its texts is also one of the other's, the other has not pictures of the same cameras, or they lie
    in a shard that is corrupt.
    """
    k_B = draft.batch.k_B
    row_n = np.flatnonzero(uniform(key("swapped pictures", seed), k_B) < drafts.spec.swapped_pictures)
    if not row_n.size:
        return
    k_n = k_B[row_n]
    ahead_n = (uniform(key("swapped with", seed), k_n) * _AHEAD).astype(np.int64)
    theirs = share.at(k_n + 1 + ahead_n)
    others = drafts.draft(theirs)
    own_texts = drafts.texts(Samples(k_n, draft.batch.dataset_B[row_n], sample_B[row_n]))
    their_texts = drafts.texts(theirs)
    for other, row in enumerate(row_n.tolist()):
        if row not in draft.images or other not in others.images:
            continue
        is_unlike = own_texts[other] and their_texts[other] and not own_texts[other] & their_texts[other]
        if is_unlike and draft.images[row].shown == others.images[other].shown:
            draft.own_images[row] = draft.images[row]
            draft.images[row] = others.images[other]


def have_one_text(opened: OpenMixture) -> bool:
    """Whether all that the versions of the components say in words is one text, or nothing."""
    texts: set[str] = set()
    for part in opened.parts:
        notes = part.opened.table("annotations")
        texts.update(notes["text"].filter(pc.equal(notes["kind"], INSTRUCTION)).unique().to_pylist())
    return len(texts) <= 1
