"""What a person sees at a glance: where to push the T so that it comes to lie on its outline.

A plan is one push or two: where the disc touches the block, and how far it advances there, after `block`'s
model of a push. Every pair of a few dozen contacts is tried, with the best advances of each by Gauss-Newton;
of the best few the place of the second contact is moved as well. The plan of the least cost is taken: the
way of the disc (to the block, round it and pushing) and what is left of the error of the pose, which weighs
more. A plan that is under way gets cheaper with every step of it and the others do not, so planning anew at
every step keeps to it; nothing is remembered.

Shape suffixes: B plans, C contacts, K chosen plans, V what a plan may vary: its advances and the lever of its
second contact; 2 x and y, 3 the error: x, y and `ARM` times the angle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class _Scene:
    """What is planned for: the block, its goal in the block's frame, and the disc's way to each contact."""

    contacts: Contacts
    to_contact_C: np.ndarray
    centre_2: np.ndarray
    turn_22: np.ndarray
    goal_2: np.ndarray
    goal_angle: float

    def error_of(self, after: _Moved) -> np.ndarray:
        """(B, 3)"""
        turn_B1 = (ARM * (after.angle_B - self.goal_angle))[:, None]
        return np.concatenate([after.place_B2 - self.goal_2, turn_B1], axis=1)


@dataclass(frozen=True)
class _Plans:
    """One push or two each: the contacts, the second -1 where there is none; its lever; the advances."""

    first_B: np.ndarray
    second_B: np.ndarray
    lever_B: np.ndarray
    advance_B2: np.ndarray

    @property
    def has_two_B(self) -> np.ndarray:
        return self.second_B >= 0

    def __getitem__(self, chosen_K: np.ndarray) -> _Plans:
        return _Plans(*(part[chosen_K] for part in vars(self).values()))


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
    scene = _Scene(contacts, to_contact_C, centre_2, turn_22, goal_2, goal_angle)
    plans = _advanced(scene, _every(contacts), ROUNDS, moves=False)
    cost_B = _cost(scene, plans, strict=False)
    # Those whose contact lies straight ahead come along: they are nearly the best that was under way.
    ahead_K = np.argsort(np.where(plans.first_B < ahead, cost_B, np.inf), kind="stable")[:BEST]
    best_K = np.concatenate([np.argsort(cost_B, kind="stable")[:BEST], ahead_K])
    plans = _advanced(scene, plans[best_K], FINE_ROUNDS, moves=True)
    cost_B = _cost(scene, plans, strict=True)
    k = int(np.argmin(cost_B))
    stay = float(_left(np.hypot(np.hypot(*goal_2), ARM * goal_angle), 0.0))
    if cost_B[k] >= stay:
        return None
    return int(plans.first_B[k]), float(plans.advance_B2[k, 0])


def _every(contacts: Contacts) -> _Plans:
    """Every pair of contacts on unlike edges from each of `STARTS`, and every contact alone."""
    count = len(contacts.point_C2)
    first_B, second_B = (part.ravel() for part in np.indices((count, count)))
    useful = np.isfinite(contacts.between_CC[first_B, second_B]) & (
        contacts.edge_C[first_B] != contacts.edge_C[second_B]
    )
    first_B, second_B = first_B[useful], second_B[useful]
    advance_B2 = np.concatenate(
        [np.repeat(np.array(STARTS), len(first_B), axis=0), np.tile((60.0, 0.0), (count, 1))]
    )
    first_B = np.concatenate([np.tile(first_B, len(STARTS)), np.arange(count)])
    second_B = np.concatenate([np.tile(second_B, len(STARTS)), np.full(count, -1)])
    return _Plans(first_B, second_B, contacts.lever_C[second_B], advance_B2)


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


def _second(contacts: Contacts, plans: _Plans) -> tuple[np.ndarray, np.ndarray]:
    """The shift (B, 2) and the turn (B,) of the block by the second pushes, for an advance of 1 pixel."""
    lever_B, is_one_B = plans.lever_B, plans.has_two_B
    along_B = np.where(is_one_B, 1 / (1 + lever_B**2 / INERTIA_PER_MASS), 0.0)
    turn_B = np.where(is_one_B, lever_B / (INERTIA_PER_MASS + lever_B**2), 0.0)
    return along_B[:, None] * contacts.inward_C2[plans.second_B], turn_B


def _two(contacts: Contacts, plans: _Plans) -> tuple[_Moved, _Moved]:
    """The block after the first push, and after both."""
    one = _pushed(contacts, plans.first_B, plans.advance_B2[:, 0])
    shift_B2, by_one_B = _second(contacts, plans)
    turn_B = by_one_B * plans.advance_B2[:, 1]
    place_B2 = arc(turn_B, shift_B2 * plans.advance_B2[:, 1:])
    return one, _Moved(one.place_B2 + _turned(one.angle_B, place_B2), one.angle_B + turn_B)


def _advanced(scene: _Scene, plans: _Plans, rounds: int, moves: bool) -> _Plans:
    """With the advances from 0 to `LONGEST` that leave the least error, by Gauss-Newton.

    With `moves` the place of the second contact on its edge is sought as well.
    """
    low_B, high_B = LEVERS_E2[scene.contacts.edge_C[plans.second_B]].T
    for _ in range(rounds):
        error_B3, j_B3V = _linear(scene, plans, moves)
        jj_BVV = np.einsum("bev,bew->bvw", j_B3V, j_B3V) + RIDGE * np.eye(j_B3V.shape[2])
        je_BV = np.einsum("bev,be->bv", j_B3V, error_B3)
        step_BV = np.clip(np.linalg.solve(jj_BVV, je_BV[..., None])[..., 0], -80, 80)
        advance_B2 = np.clip(plans.advance_B2 - step_BV[:, :2], 0.0, LONGEST)
        advance_B2[~plans.has_two_B, 1] = 0.0
        plans = replace(plans, advance_B2=advance_B2)
        if moves:
            plans = replace(plans, lever_B=np.clip(plans.lever_B - step_BV[:, 2], low_B, high_B))
    return plans


def _linear(scene: _Scene, plans: _Plans, moves: bool) -> tuple[np.ndarray, np.ndarray]:
    """The error (B, 3), and its derivative by what a plan may vary (B, 3, V)."""
    contacts = scene.contacts
    one, end = _two(contacts, plans)
    error_B3 = scene.error_of(end)
    # Advancing more at first moves all that follows; at last, only the end.
    lever_B2 = end.place_B2 - one.place_B2
    turn_B = contacts.turn_C[plans.first_B]
    by_first_B2 = _turned(one.angle_B, contacts.shift_C2[plans.first_B]) + turn_B[:, None] * np.stack(
        [-lever_B2[:, 1], lever_B2[:, 0]], axis=1
    )
    shift_B2, by_second_B = _second(contacts, plans)
    by_second_B2 = _turned(end.angle_B, shift_B2)
    columns = [
        np.concatenate([by_first_B2, ARM * turn_B[:, None]], axis=1),
        np.concatenate([by_second_B2, ARM * by_second_B[:, None]], axis=1),
    ]
    if moves:
        _, there = _two(contacts, replace(plans, lever_B=plans.lever_B + 0.5))
        columns.append((scene.error_of(there) - error_B3) / 0.5)
    return error_B3, np.stack(columns, axis=2)


def _cost(scene: _Scene, plans: _Plans, strict: bool) -> np.ndarray:
    contacts, has_two_B, length_B = scene.contacts, plans.has_two_B, plans.advance_B2.sum(1)
    one, end = _two(contacts, plans)
    error_B = np.linalg.norm(scene.error_of(end), axis=1)
    way_B = scene.to_contact_C[plans.first_B] + length_B
    between_B = contacts.between_CC[plans.first_B, plans.second_B]
    way_B = way_B + np.where(has_two_B, between_B + SWITCH, 0.0)
    cost_B = way_B + (_left(error_B, length_B) if strict else ERROR_WEIGHT * error_B)
    # The table ends: the block between the pushes, and the disc where the second one begins.
    inside = np.ones(len(cost_B), dtype=bool)
    for corner_2 in CORNERS_E2 - CENTRE_2:
        inside &= _on_table(scene, one, corner_2[None])
    inside &= _on_table(scene, one, contacts.disc_C2[plans.second_B] - CENTRE_2) | ~has_two_B
    # A push that is over makes way for the next.
    inside &= plans.advance_B2[:, 0] > np.where(has_two_B, SHORTEST, LAST)
    return np.where(inside, cost_B, cost_B + 1000.0)


def _left(error_B: np.ndarray, advance_B: np.ndarray | float) -> np.ndarray:
    slack_B = 0.4 + SLACK * np.maximum(np.asarray(advance_B) - 10.0, 0.0)
    return ERROR_WEIGHT * error_B + PRECISION * np.clip(error_B - slack_B, 0.0, 4.0)


def _on_table(scene: _Scene, one: _Moved, point_B2: np.ndarray) -> np.ndarray:
    there_B2 = (one.place_B2 + _turned(one.angle_B, point_B2)) @ scene.turn_22.T + scene.centre_2
    return ((there_B2 > LOW) & (there_B2 < HIGH)).all(1)
