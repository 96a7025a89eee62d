"""Where the disc can touch the block, and the ways round the block from one contact to another.

Everything is in the block's frame and in pixels. Ways keep `CLEAR` from the block and turn at `NODES`, which
stand off its corners.
Shape suffixes: C contacts, N nodes, P points, S samples of a way; 2 x and y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot_foundry.evaluation.worlds.pusht.block import (
    AGENT_RADIUS,
    CENTRE_2,
    CORNERS_E2,
    INERTIA_PER_MASS,
    INWARD_E2,
    RANGES_E2,
    TANGENTS_E2,
    clearance,
)

SPACING = 18.0
# Of the outermost contacts within the range where the disc may touch, so that it is within when it arrives.
INSET = 3.0
# How far ahead of the disc a contact still lies straight ahead.
LANE = 40.0
# Going to another contact costs so much more than pushing where it is, or the disc would wait at its place.
LATERAL = 6.0
# From the block's outline to the disc's centre: while it goes round the block, where it waits before it
# touches, and where it turns.
CLEAR, BEFORE, TURN = AGENT_RADIUS + 2.0, AGENT_RADIUS + 10.0, AGENT_RADIUS + 7.0
_S = CLEAR + 2.0
NODES_N2 = np.array(
    [
        [-60 - _S, -_S],
        [60 + _S, -_S],
        [60 + _S, 30 + _S],
        [15 + TURN, 30 + TURN],
        [15 + _S, 120 + _S],
        [-15 - _S, 120 + _S],
        [-15 - TURN, 30 + TURN],
        [-60 - _S, 30 + _S],
    ]
)
SAMPLES = 24


@dataclass(frozen=True)
class Contacts:
    """Contacts by their number: the edge, the point on it, the direction of the push there, where the disc's
    centre is then and before; the shift of the block's centre and its turn for an advance of 1 pixel; and the
    ways between the contacts."""

    edge_C: np.ndarray
    point_C2: np.ndarray
    inward_C2: np.ndarray
    shift_C2: np.ndarray
    turn_C: np.ndarray
    lever_C: np.ndarray
    between_CC: np.ndarray

    @property
    def disc_C2(self) -> np.ndarray:
        return self.point_C2 - self.inward_C2 * AGENT_RADIUS

    @property
    def before_C2(self) -> np.ndarray:
        return self.point_C2 - self.inward_C2 * BEFORE


def contacts_at(edge_C: np.ndarray, along_C: np.ndarray) -> Contacts:
    """Contacts at places along edges, without the ways between them."""
    point_C2 = CORNERS_E2[edge_C] + TANGENTS_E2[edge_C] * along_C[:, None]
    inward_C2 = INWARD_E2[edge_C]
    r_C2 = point_C2 - CENTRE_2
    lever_C = r_C2[:, 0] * inward_C2[:, 1] - r_C2[:, 1] * inward_C2[:, 0]
    shift_C2 = inward_C2 / (1 + lever_C**2 / INERTIA_PER_MASS)[:, None]
    turn_C = lever_C / (INERTIA_PER_MASS + lever_C**2)
    return Contacts(
        edge_C, point_C2, inward_C2, shift_C2, turn_C, lever_C, np.zeros((len(edge_C), len(edge_C)))
    )


def visible(from_P2: np.ndarray, to_P2: np.ndarray) -> np.ndarray:
    """Whether the disc gets straight from each point to each other point (P,) without touching the block."""
    part_S = np.linspace(0.0, 1.0, SAMPLES)[:, None, None]
    way_SP2 = from_P2 + (to_P2 - from_P2) * part_S
    return np.asarray((clearance(way_SP2) >= CLEAR).all(0))


def _all_contacts() -> Contacts:
    edges, along = [], []
    for edge, (low, high) in enumerate(RANGES_E2):
        places = np.linspace(low + INSET, high - INSET, max(2, int(round((high - low) / SPACING)) + 1))
        edges += [edge] * len(places)
        along += places.tolist()
    return contacts_at(np.array(edges), np.array(along))


def _distances(contacts: Contacts) -> np.ndarray:
    """Shortest ways (N + C, N + C) among nodes and the places before contacts."""
    stop_M2 = np.concatenate([NODES_N2, contacts.before_C2])
    size = len(stop_M2)
    a, b = (part.ravel() for part in np.indices((size, size)))
    seen = visible(stop_M2[a], stop_M2[b])
    way_MM = np.where(seen, np.linalg.norm(stop_M2[a] - stop_M2[b], axis=1), np.inf).reshape(size, size)
    for k in range(len(NODES_N2)):
        way_MM = np.minimum(way_MM, way_MM[:, k : k + 1] + way_MM[k : k + 1])
    return way_MM


class Ways:
    """All contacts, and the shortest ways of the disc to them from where it is."""

    def __init__(self) -> None:
        contacts = _all_contacts()
        way_MM = _distances(contacts)
        nodes = len(NODES_N2)
        self._way_MM = way_MM
        self._stop_M2 = np.concatenate([NODES_N2, contacts.before_C2])
        in_out = 2 * (BEFORE - AGENT_RADIUS)
        self.fixed = replace(contacts, between_CC=way_MM[nodes:, nodes:] + in_out)

    def to_contacts(self, disc_2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For a disc there, its way (C,) to each contact and where to go straight to first (C, 2)."""
        out_2 = pushed_out(disc_2)
        nodes = len(NODES_N2)
        seen_M = visible(np.broadcast_to(out_2, self._stop_M2.shape), self._stop_M2)
        first_M = np.where(seen_M, np.linalg.norm(self._stop_M2 - out_2, axis=1), np.inf)
        if not seen_M.any():
            first_M = np.linalg.norm(self._stop_M2 - out_2, axis=1)
        over_MC = first_M[:, None] + self._way_MM[:, nodes:]
        via_C = np.argmin(over_MC, axis=0)
        return over_MC.min(0) + (BEFORE - AGENT_RADIUS) + LATERAL, self._stop_M2[via_C]

    def here(self, disc_2: np.ndarray) -> tuple[Contacts, np.ndarray]:
        """The contacts that lie straight ahead of a disc there, and its way to each."""
        edges, along, ways = [], [], []
        for edge, (low, high) in enumerate(RANGES_E2):
            away_2 = disc_2 - CORNERS_E2[edge]
            s, gap = float(away_2 @ TANGENTS_E2[edge]), -float(away_2 @ INWARD_E2[edge]) - AGENT_RADIUS
            if low <= s <= high and -6.0 < gap < LANE:
                edges.append(edge)
                along.append(s)
                ways.append(max(gap, 0.0))
        return contacts_at(np.array(edges, dtype=int), np.array(along)), np.array(ways)


def pushed_out(disc_2: np.ndarray) -> np.ndarray:
    """The place itself, or where it stands clear of the block if it is nearer."""
    for _ in range(3):
        away = float(clearance(disc_2[None])[0])
        if away >= CLEAR:
            return disc_2
        moved_42 = disc_2 + 0.01 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        right, left, down, up = clearance(moved_42)
        gradient_2 = np.array([right - left, down - up])
        size = float(np.linalg.norm(gradient_2))
        out_2 = gradient_2 / size if size > 1e-9 else np.array([0.0, -1.0])
        disc_2 = disc_2 + out_2 * (CLEAR + 0.5 - away)
    return disc_2
