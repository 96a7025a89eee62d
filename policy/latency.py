"""How long a policy takes to answer: whole calls of `act_batch`, pictures and words to chunks in robot units.

Shapes: H history, h × w pixels, d dims of a dataset.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_foundry.policy.actions import Underway
from robot_foundry.policy.policy import Observation, Policy
from robot_foundry.runtime.keyed import generator
from robot_foundry.runtime.progress import Progress

WARM_UP = 3  # the first calls allocate memory and choose kernels
PERCENTILES = (50, 99)
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Times of `calls` for `batch` observations each; `covers_ms` is how much motion a chunk is.

    It is None where the rate of the robot is unknown.
    """

    dataset: str
    batch: int
    calls: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    covers_ms: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def latency(
    policy: Policy,
    *,
    dataset: str | None = None,
    batch: int = 1,
    calls: int = 100,
    instruction: str = "pick up the red cube and put it on the plate",
    rtc: bool = False,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    quiet: bool = True,
) -> Latency:
    """Ask the policy about random pictures and states, all cameras there, one call after the other.

    `dataset` says as which robot; the first where it is None. With `rtc` each call continues the chunks of
    the one before from their middle on.
    """
    number = 0 if dataset is None else policy.number(dataset)
    name = policy.datasets[number]
    seen = [_observation(policy, number, seed + row) for row in range(batch)]
    times_ms: list[float] = []
    underway: list[Underway] = []
    with Progress(WARM_UP + calls, "calls", "latency", quiet=quiet) as progress:
        for call in range(WARM_UP + calls):
            began = clock()
            answers = policy.act_batch(
                seen,
                [instruction] * batch,
                seeds=range(call, call + batch),
                dataset=name,
                underway=underway,
            )
            times_ms.append((clock() - began) * 1e3)
            underway = [Underway(answer, len(answer.values_TA) / 2) for answer in answers] if rtc else []
            progress.advance(1)
    dt, steps = answers[0].dt, len(answers[0].values_TA)
    p50, p99 = (float(value) for value in np.percentile(times_ms[WARM_UP:], PERCENTILES))
    longest = max(times_ms[WARM_UP:])
    return Latency(name, batch, calls, p50, p99, longest, None if dt is None else dt * steps * 1e3)


def _observation(policy: Policy, number: int, seed: int) -> Observation:
    """Noise in all cameras that the dataset has; a state of zeros but for rotations, which are none."""
    spaces, window = policy.spaces.datasets[number], policy.config.data.window
    assert window.image is not None
    random, shape = generator("latency", seed), (policy.steps(number).history, *window.image, 3)
    roles = [role for role in policy.roles if role in spaces.cameras]
    images = {role: random.integers(0, 256, shape, dtype=np.uint8) for role in roles}
    state = {name: float(name.endswith((".ee_rot6d.0", ".ee_rot6d.4"))) for name in spaces.state.names}
    return {"images": images, "state": state}
