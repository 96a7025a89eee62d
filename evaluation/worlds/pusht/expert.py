"""The expert: a function of where the disc and the block are, and of nothing else.

Shape suffixes: C contacts; 2 x and y in pixels.
"""

from __future__ import annotations

import numpy as np

from robot_foundry.evaluation.worlds.pusht.block import CENTRE_2, rotation
from robot_foundry.evaluation.worlds.pusht.contacts import Contacts, Ways
from robot_foundry.evaluation.worlds.pusht.planner import arc, plan

# Pixels that a target lies ahead of the disc at most, on its way and pushing.
AHEAD, PUSH_AHEAD = 40.0, 30.0
# The disc covers a quarter of the way to a target in a step: towards the end of a push aim beyond it.
HASTE = 1.8
PER_CONTACT = ("edge_C", "point_C2", "inward_C2", "shift_C2", "turn_C", "lever_C")


class Expert:
    """Where the disc is to go, planned anew whenever it is asked."""

    def __init__(self) -> None:
        self._ways = Ways()

    def target(self, disc_2: np.ndarray, block_2: np.ndarray, angle: float) -> np.ndarray:
        """Where the disc is to go next, in pixels of the table."""
        turn_22 = rotation(angle)
        own_2 = turn_22.T @ (disc_2 - block_2)
        fixed = self._ways.fixed
        way_C, via_C2 = self._ways.to_contacts(own_2)
        here, gap_H = self._ways.here(own_2)
        contacts = _joined(here, fixed)
        to_C = np.concatenate([gap_H, way_C])
        chosen = plan(block_2 + turn_22 @ CENTRE_2, angle, to_C, contacts, len(here.edge_C))
        if chosen is None:
            return disc_2
        c, advance = chosen
        if c >= len(here.edge_C):
            to_2 = via_C2[c - len(here.edge_C)] - own_2
            far = float(np.linalg.norm(to_2))
            return disc_2 + turn_22 @ to_2 * min(1.0, AHEAD / max(far, 1e-9))
        gap = float(gap_H[c])
        advance *= HASTE
        inward_2 = contacts.inward_C2[c]
        into = max(PUSH_AHEAD - gap, 0.0) if gap + advance >= PUSH_AHEAD else advance
        ahead = min(gap, PUSH_AHEAD)
        if into <= 0.0:
            return disc_2 + turn_22 @ inward_2 * ahead
        phi = np.array([contacts.turn_C[c] * into])
        shift_2 = arc(phi, contacts.shift_C2[c : c + 1] * into)[0]
        disc_after_2 = CENTRE_2 + shift_2 + rotation(float(phi[0])) @ (contacts.disc_C2[c] - CENTRE_2)
        return block_2 + turn_22 @ disc_after_2


def _joined(here: Contacts, fixed: Contacts) -> Contacts:
    """One list of contacts; those here are left as the nearest of the fixed ones on their edge are."""
    count, size = len(here.edge_C), len(here.edge_C) + len(fixed.edge_C)
    between_CC = np.full((size, size), np.inf)
    between_CC[count:, count:] = fixed.between_CC
    for k, (edge, point_2) in enumerate(zip(here.edge_C, here.point_C2, strict=True)):
        far_C = np.linalg.norm(fixed.point_C2 - point_2, axis=1)
        between_CC[k, count:] = fixed.between_CC[np.argmin(np.where(fixed.edge_C == edge, far_C, np.inf))]
    arrays = {name: np.concatenate([getattr(part, name) for part in (here, fixed)]) for name in PER_CONTACT}
    return Contacts(**arrays, between_CC=between_CC)
