"""How the state follows the actions: lag, gain, and whether it moves as they ask.

Shape suffixes: L = lags.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_foundry.checks import measures
from robot_foundry.checks.evidence import Evidence

# With less than a second of rows nothing can be said about a correlation.
FEWEST_ROWS = 20
# A correlation below this does not tell a lag or a scale from chance.
FOLLOWS = 0.5
# So little is noise, in m or rad a step, and so few frames chance.
LEAST_STEP, FEWEST_OBEYED = 1e-4, 100
# Rounding of float32 rotations, in rad a step; what changes less does not change.
CONSTANT_STEP = 1e-6
# A robot's controller takes a step or two, and slow ones 0.1 s; what is later by both was recorded late.
LATE_FRAMES, LATE_S = 3, 0.1
# A copy of the state correlates with it entirely; a target that is near it does not.
COPIES = 0.9
# A displacement that is far too small leaves a target that is nearly the state: over a second they agree.
ANSWERS = 0.3


@dataclass(frozen=True)
class Following:
    """How the state follows an action.

    `lag` is in frames (0: it is there at the next one), with the `correlation` at it and the `gain` of the
    step that is made over the one that is asked. `usual` is the best correlation at the lags of 0 to 2 frames
    that robots have. `obeyed` is the best correlation of the two steps, None where one of them hardly moves
    or there is too little of them. `moves` says that the state moves, and for long enough to judge by it,
    `changes` and `asks` that the action ever changes, and that it ever differs from the state. `displaces`
    says that targets look like displacements of the state and not like a path of their own.
    """

    lag: int
    correlation: float
    gain: float
    usual: float
    obeyed: float | None
    moves: bool
    changes: bool
    asks: bool
    period_s: float
    displaces: bool


def following(evidence: Evidence) -> dict[tuple[str, str], Following]:
    """By (column, quantity): best lag by cross-correlation, gain by least squares at that lag.

    Nothing where one of the two does not move.
    """
    by_quantity = {}
    lags_L = np.array(measures.LAGS)
    reach = {(column, quantity): tally.sums for column, quantity, tally in evidence.of("reach")}
    for column, quantity, tally in evidence.of("follow"):
        # Of increments of targets and state, then of asked and made steps: (xy, xx, yy) at each lag.
        products = np.array(tally.sums[:-2]).reshape(2, len(lags_L), 3)
        frames, seconds = tally.sums[-2:]
        size = np.sqrt(products[..., 1] * products[..., 2])
        correlations = np.divide(products[..., 0], size, out=np.zeros_like(size), where=size > 0)
        # A robot answers later than it is asked: only targets themselves, not displacements, can be late.
        correlations[1, lags_L < 0] = 0.0
        if frames < FEWEST_ROWS or not size.any():
            continue
        kind, best = np.unravel_index(int(correlations.argmax()), correlations.shape)
        product, asked, made, _ = reach[column, quantity]
        answers = product >= FOLLOWS * math.sqrt(asked * made) and correlations[1].max() >= ANSWERS
        if lags_L[best] < 0 and asked * made > 0 and (answers or correlations[1].max() >= FOLLOWS):
            # The state itself, with a displacement on it that is followed.
            kind, best = np.intp(1), correlations[1].argmax()
        product, asked, _ = products[1, best]
        gain = product / asked if asked > 0 else 0.0
        _, steps, made = products[1, list(lags_L).index(0)]
        enough = frames >= FEWEST_OBEYED
        moves = bool(enough and made > frames * LEAST_STEP**2)
        usual_L = (lags_L >= 0) & (lags_L < LATE_FRAMES)
        by_quantity[column, quantity] = Following(
            int(lags_L[best]),
            float(correlations[kind, best]),
            float(gain),
            float(correlations[:, usual_L].max()),
            float(correlations[1, lags_L >= 0].max()) if moves and steps > frames * LEAST_STEP**2 else None,
            moves,
            bool(products[0, :, 1].max() > frames * CONSTANT_STEP**2),
            bool(steps > frames * CONSTANT_STEP**2),
            seconds / frames,
            bool(kind == 1 and correlations[0, lags_L >= 0].max() < COPIES),
        )
    return by_quantity
