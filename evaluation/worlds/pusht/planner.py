"""What a person sees at a glance: where to push the T so that it comes to lie on its outline.

A plan is one push or two: where the disc touches the block, and how far it advances there, after `block`'s
model of a push. Every pair of a few dozen contacts is tried, with the best advances of each by Gauss-Newton;
of the best few the place of the second contact is moved as well. The plan of the least cost is taken: the
way of the disc (to the block, round it and pushing) and what is left of the error of the pose, which weighs
more. A plan that is under way gets cheaper with every step of it and the others do not, so planning anew at
every step keeps to it; nothing is remembered.

Shape suffixes: B plans, C contacts; 2 x and y, 3 the error: x, y and `ARM` times the angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.worlds.pusht.block import (
    CENTRE_2,
    CORNERS_E2,
    GOAL_2,
    GOAL_ANGLE,
    INERTIA_PER_MASS,
    LEVERS_E2,
    rotation,
)
from robot_foundry.evaluation.worlds.pusht.contacts import Contacts

# Pixels that an error of the angle by 1 rad counts: about what the T reaches from its centre.
ARM = 50.0
# The cost in pixels of way: of a pixel of error; of one beyond the slack, up to 4, which is 0.4 and more the
# longer the pushes are that still can correct it; and of letting go and touching anew.
ERROR_WEIGHT, PRECISION, SLACK, SWITCH = 6.0, 250.0, 0.06, 20.0
ROUNDS, FINE_ROUNDS, BEST = 5, 8, 32
# Of an advance. A first push shorter than that is over, and so is the last one.
LONGEST, SHORTEST, LAST = 260.0, 2.0, 0.3
# Far below any real step: keeps the normal equations solvable where a push does not help.
RIDGE = 1e-3
# The block's corners and the disc's centre stay so far within the table while they are pushed.
LOW, HIGH = 8.0, 504.0
STARTS = ((30.0, 30.0), (120.0, 30.0), (30.0, 120.0), (100.0, 100.0))


@dataclass(frozen=True)
class _Moved:
    """Poses of the block's centre in the frame that it had: where (B, 2) and turned by how much (B,)."""

    place_B2: np.ndarray
    angle_B: np.ndarray


def plan(
    centre_2: np.ndarray, angle: float, to_contact_C: np.ndarray, contacts: Contacts, ahead: int
) -> tuple[int, float] | None:
    """The contact of the best plan's first push and its advance, or None if no push helps.

    `centre_2` is the block's centre of mass; `to_contact_C` is the way of the disc to each contact, of which
    the first `ahead` lie straight ahead of it.
    """
    turn_22 = rotation(angle)
    goal_centre_2 = GOAL_2 + rotation(GOAL_ANGLE) @ CENTRE_2
    goal_2 = turn_22.T @ (goal_centre_2 - centre_2)
    goal_angle = (GOAL_ANGLE - angle + np.pi) % (2 * np.pi) - np.pi
    count = len(contacts.point_C2)
    first_B, second_B = (part.ravel() for part in np.indices((count, count)))
    useful = np.isfinite(contacts.between_CC[first_B, second_B]) & (
        contacts.edge_C[first_B] != contacts.edge_C[second_B]
    )
    first_B, second_B = first_B[useful], second_B[useful]
    n = len(first_B)
    first_B, second_B = np.tile(first_B, len(STARTS)), np.tile(second_B, len(STARTS))
    advance_B2 = np.repeat(np.array(STARTS), n, axis=0)
    alone_C = np.arange(count)
    first_B, second_B = np.concatenate([first_B, alone_C]), np.concatenate([second_B, np.full(count, -1)])
    advance_B2 = np.concatenate([advance_B2, np.tile((60.0, 0.0), (count, 1))])
    where = (centre_2, turn_22, to_contact_C)
    second = _of(contacts, second_B)
    advance_B2 = _advances(contacts, first_B, second, advance_B2, goal_2, goal_angle, ROUNDS, False)
    cost_B = _cost(contacts, first_B, second_B, second, advance_B2, goal_2, goal_angle, where, False)
    # Those whose contact lies straight ahead come along: they are nearly the best that was under way.
    ahead_K = np.argsort(np.where(first_B < ahead, cost_B, np.inf), kind="stable")[:BEST]
    best_K = np.concatenate([np.argsort(cost_B, kind="stable")[:BEST], ahead_K])
    first_B, second_B, advance_B2 = first_B[best_K], second_B[best_K], advance_B2[best_K]
    second = _of(contacts, second_B)
    advance_B2 = _advances(contacts, first_B, second, advance_B2, goal_2, goal_angle, FINE_ROUNDS, True)
    cost_B = _cost(contacts, first_B, second_B, second, advance_B2, goal_2, goal_angle, where, True)
    k = int(np.argmin(cost_B))
    stay = float(_left(np.hypot(np.hypot(*goal_2), ARM * goal_angle), 0.0))
    if cost_B[k] >= stay:
        return None
    return int(first_B[k]), float(advance_B2[k, 0])


@dataclass
class _Second:
    """The second push of each plan, of which the place along the edge may be moved."""

    is_one: np.ndarray
    inward_B2: np.ndarray
    lever_B: np.ndarray
    low_B: np.ndarray
    high_B: np.ndarray

    @property
    def shift_B2(self) -> np.ndarray:
        return (
            np.where(self.is_one, 1 / (1 + self.lever_B**2 / INERTIA_PER_MASS), 0.0)[:, None] * self.inward_B2
        )

    @property
    def turn_B(self) -> np.ndarray:
        return np.where(self.is_one, self.lever_B / (INERTIA_PER_MASS + self.lever_B**2), 0.0)


def _of(contacts: Contacts, second_B: np.ndarray) -> _Second:
    edge_B = contacts.edge_C[second_B]
    return _Second(
        second_B >= 0, contacts.inward_C2[second_B], contacts.lever_C[second_B].copy(), *LEVERS_E2[edge_B].T
    )


def _pushed(contacts: Contacts, contact_B: np.ndarray, advance_B: np.ndarray) -> _Moved:
    """Where pushes bring the block, which keeps turning about one point."""
    angle_B = contacts.turn_C[contact_B] * advance_B
    along_B2 = contacts.shift_C2[contact_B] * advance_B[:, None]
    return _Moved(arc(angle_B, along_B2), angle_B)


def arc(angle_B: np.ndarray, along_B2: np.ndarray) -> np.ndarray:
    """The shift (B, 2) by a motion along `along_B2` that turns as it goes, by `angle_B` in all."""
    half_B = angle_B / 2
    length_B = np.sinc(half_B / np.pi)
    c_B, s_B = np.cos(half_B) * length_B, np.sin(half_B) * length_B
    x_B, y_B = along_B2[:, 0], along_B2[:, 1]
    return np.stack([c_B * x_B - s_B * y_B, s_B * x_B + c_B * y_B], axis=1)


def _turned(angle_B: np.ndarray, v_B2: np.ndarray) -> np.ndarray:
    c_B, s_B = np.cos(angle_B), np.sin(angle_B)
    return np.stack([c_B * v_B2[:, 0] - s_B * v_B2[:, 1], s_B * v_B2[:, 0] + c_B * v_B2[:, 1]], axis=1)


def _error(after: _Moved, goal_2: np.ndarray, goal_angle: float) -> np.ndarray:
    return np.concatenate([after.place_B2 - goal_2, (ARM * (after.angle_B - goal_angle))[:, None]], axis=1)


def _two(
    contacts: Contacts, first_B: np.ndarray, second: _Second, advance_B2: np.ndarray
) -> tuple[_Moved, _Moved]:
    one = _pushed(contacts, first_B, advance_B2[:, 0])
    turn_B = second.turn_B * advance_B2[:, 1]
    place_B2 = arc(turn_B, second.shift_B2 * advance_B2[:, 1:])
    return one, _Moved(one.place_B2 + _turned(one.angle_B, place_B2), one.angle_B + turn_B)


def _advances(
    contacts: Contacts,
    first_B: np.ndarray,
    second: _Second,
    advance_B2: np.ndarray,
    goal_2: np.ndarray,
    goal_angle: float,
    rounds: int,
    moves: bool,
) -> np.ndarray:
    """The advances (B, 2) from 0 to `LONGEST` that leave the least error, by Gauss-Newton."""
    for _ in range(rounds):
        one, end = _two(contacts, first_B, second, advance_B2)
        error_B3 = _error(end, goal_2, goal_angle)
        # Advancing more at first moves all that follows; at last, only the end.
        lever_B2 = end.place_B2 - one.place_B2
        turn_B = contacts.turn_C[first_B]
        by_first_B2 = _turned(one.angle_B, contacts.shift_C2[first_B]) + turn_B[:, None] * np.stack(
            [-lever_B2[:, 1], lever_B2[:, 0]], axis=1
        )
        by_second_B2 = _turned(end.angle_B, second.shift_B2)
        u_B3 = np.concatenate([by_first_B2, ARM * turn_B[:, None]], axis=1)
        v_B3 = np.concatenate([by_second_B2, ARM * second.turn_B[:, None]], axis=1)
        columns = [u_B3, v_B3]
        if moves:
            lever = second.lever_B
            second.lever_B = lever + 0.5
            _, there = _two(contacts, first_B, second, advance_B2)
            second.lever_B = lever
            columns.append((_error(there, goal_2, goal_angle) - error_B3) / 0.5)
        j_B3V = np.stack(columns, axis=2)
        jj_BVV = np.einsum("bev,bew->bvw", j_B3V, j_B3V) + RIDGE * np.eye(len(columns))
        je_BV = np.einsum("bev,be->bv", j_B3V, error_B3)
        step_BV = np.clip(np.linalg.solve(jj_BVV, je_BV[..., None])[..., 0], -80, 80)
        advance_B2 = np.clip(advance_B2 - step_BV[:, :2], 0.0, LONGEST)
        advance_B2[~second.is_one, 1] = 0.0
        if moves:
            second.lever_B = np.clip(second.lever_B - step_BV[:, 2], second.low_B, second.high_B)
    return advance_B2


def _cost(
    contacts: Contacts,
    first_B: np.ndarray,
    second_B: np.ndarray,
    second: _Second,
    advance_B2: np.ndarray,
    goal_2: np.ndarray,
    goal_angle: float,
    where: tuple[np.ndarray, np.ndarray, np.ndarray],
    strict: bool,
) -> np.ndarray:
    centre_2, turn_22, to_contact_C = where
    one, end = _two(contacts, first_B, second, advance_B2)
    error_B = np.linalg.norm(_error(end, goal_2, goal_angle), axis=1)
    way_B = to_contact_C[first_B] + advance_B2.sum(1)
    way_B = way_B + np.where(second.is_one, contacts.between_CC[first_B, second_B] + SWITCH, 0.0)
    cost_B = way_B + (_left(error_B, advance_B2.sum(1)) if strict else ERROR_WEIGHT * error_B)
    # The table ends: the block between the pushes, and the disc where the second one begins.
    inside = np.ones(len(first_B), dtype=bool)
    for corner_2 in CORNERS_E2 - CENTRE_2:
        inside &= _on_table(one, corner_2[None], centre_2, turn_22)
    inside &= _on_table(one, contacts.disc_C2[second_B] - CENTRE_2, centre_2, turn_22) | ~second.is_one
    # A push that is over makes way for the next.
    inside &= advance_B2[:, 0] > np.where(second.is_one, SHORTEST, LAST)
    return np.where(inside, cost_B, cost_B + 1000.0)


def _left(error_B: np.ndarray, advance_B: np.ndarray | float) -> np.ndarray:
    slack_B = 0.4 + SLACK * np.maximum(np.asarray(advance_B) - 10.0, 0.0)
    return ERROR_WEIGHT * error_B + PRECISION * np.clip(error_B - slack_B, 0.0, 4.0)


def _on_table(one: _Moved, point_B2: np.ndarray, centre_2: np.ndarray, turn_22: np.ndarray) -> np.ndarray:
    there_B2 = (one.place_B2 + _turned(one.angle_B, point_B2)) @ turn_22.T + centre_2
    return ((there_B2 > LOW) & (there_B2 < HIGH)).all(1)
