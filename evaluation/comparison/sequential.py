"""A test of two policies on the same scenes that may be looked at after every episode, and stopped.

**What is tested.** On each scene both policies act. Scenes on which both succeed or both fail say nothing
about which is better. Let S = +1 on a scene where only the first succeeds and −1 where only the second does.
If, given all scenes before, both are equally likely to succeed on the next, then

    P(only the first) = P(success of the first) − P(both) = P(success of the second) − P(both)
                      = P(only the second),

so S is a fair coin whenever it is tossed, however strongly the two outcomes on one scene depend on each other
and however the scenes differ in difficulty.

**The bet.** Start with 1 and stake the share d of what is owned on S = +1: each +1 multiplies it by 1 + d,
each −1 by 1 − d, and other scenes leave it. With b scenes of +1 and c of −1 it has become

    K_d(b, c) = (1 + d)^b (1 − d)^c.

Against a fair coin its expectation stays 1 at every step: E[K_d after | before] = K_d (½(1 + d) + ½(1 − d))
= K_d. So K_d is a martingale that is never negative, and so is a mean of several with weights that sum to 1,

    E(b, c) = Σ_d w_d · ½ (K_d(b, c) + K_d(c, b))          two-sided
    E(b, c) = Σ_d w_d · K_d(b, c)                          one-sided: that the first is better

The effects d are not known, so that what is owned is divided between several and left to grow where it does.
One-sided, a coin that favours −1 has expectation ½ − ε for +1 and makes of K_d a supermartingale, as d > 0.

**Why one may look at any time.** Ville's inequality (1939): a supermartingale that is never negative and
starts at 1 reaches 1/α with probability at most α, ever. So "stop as soon as E ≥ 1/α" errs with probability
at most α for *any* rule of looking and stopping, and p_n = min over k ≤ n of 1/E_k is a p-value whenever it
is read. Families of such p-values may be adjusted as others (`multiple.holm`): the smallest each will ever
reach is a p-value too, and what Holm rejects never shrinks with p.

Of the effects, d = P(+1) − P(−1) on scenes that differ, 0.4 has most weight (50 against 70 %); the small ones
have some, so that the test ends for any true difference of more than about 0.03.

Legend: n scenes in their order, m scenes that differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc

Floats = NDArray[np.float64]
EFFECTS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
WEIGHTS = np.array([1, 1, 4, 12, 3]) / 21.0


def log_e(only_first: ArrayLike, only_second: ArrayLike, *, one_sided: bool = False) -> Floats:
    """log E(b, c), broadcast over counts of scenes on which only the first and only the second succeeded."""
    b, c = np.asarray(only_first, np.float64), np.asarray(only_second, np.float64)
    up, down = np.log1p(EFFECTS)[:, None], np.log1p(-EFFECTS)[:, None]
    weight = np.log(WEIGHTS if one_sided else WEIGHTS / 2.0)[:, None]
    shape = np.broadcast_shapes(b.shape, c.shape)
    b, c = np.broadcast_to(b, shape).ravel(), np.broadcast_to(c, shape).ravel()
    terms = weight + b * up + c * down
    if not one_sided:
        terms = np.concatenate([terms, weight + c * up + b * down])
    largest = terms.max(axis=0)
    return np.asarray(largest + np.log(np.exp(terms - largest).sum(axis=0))).reshape(shape)


def anytime_p(first_n: ArrayLike, second_n: ArrayLike, *, one_sided: bool = False) -> Floats:
    """p_n after each scene, of successes [..., n] in the order of the scenes."""
    first_n, second_n = np.asarray(first_n, bool), np.asarray(second_n, bool)
    b_n = np.cumsum(first_n & ~second_n, axis=-1)
    c_n = np.cumsum(second_n & ~first_n, axis=-1)
    best_n = np.maximum.accumulate(log_e(b_n, c_n, one_sided=one_sided), axis=-1)
    return np.asarray(np.exp(-np.maximum(best_n, 0.0)))


def stops_at(share: float, most: int, alpha: float) -> Floats:
    """P(the two-sided test stops at the m-th scene that differs), m = 0 … most.

    `share` is P(+1) of those scenes. Exact: the distribution of b over runs that go on, one step a scene.
    """
    stops_m = np.zeros(most + 1)
    going = np.ones(1)  # by b
    for m in range(1, most + 1):
        going = np.append(going * (1.0 - share), 0.0) + np.append(0.0, going * share)
        b = np.arange(m + 1)
        ends = log_e(b, m - b) >= -np.log(alpha)
        stops_m[m] = going[ends].sum()
        going[ends] = 0.0
    return stops_m


def stopped_by(only_first: float, only_second: float, scenes: int, alpha: float) -> Floats:
    """P(the two-sided test has stopped by scene n), n = 0 … scenes, where just one policy succeeds with
    these probabilities: the m-th scene that differs is among the first n with a binomial probability."""
    differs, n = only_first + only_second, np.arange(scenes + 1)
    if differs == 0.0:
        return np.zeros(scenes + 1)
    # More scenes than this differ with a probability of less than 1e-14.
    most = min(scenes, int(differs * scenes + 8.0 * np.sqrt(differs * scenes) + 40.0))
    done_n = np.zeros(scenes + 1)
    for m, stops in enumerate(stops_at(only_first / differs, most, alpha)):
        if stops > 0.0:
            done_n[m:] += stops * bdtrc(m - 1.0, n[m:], differs)
    return done_n
