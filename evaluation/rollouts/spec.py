"""What to run in a rollout, and what of it was taken away from the policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.world import WorldFactory
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.later import later

EXECUTE = 8
GROUP = 8
BLANK, SHUFFLED, RANDOM = CONTROLS = ("blank", "shuffled", "random")


@dataclass(frozen=True)
class RolloutSpec:
    """What to run. `execute` steps are executed before the actor is asked again.

    An answer takes `delay` steps, in which the chunk before it goes on; with `rtc` the policy makes it agree
    with that chunk. With `ensemble` every target is the mean over all chunks that cover its period, whose
    weights fall by exp(-ensemble) from the oldest on (`execution.Ensemble`). `world` is the name of one that
    is built in, or makes worlds of another kind. Shuffled instructions are those of other scenes of the task,
    or of scenes of the tasks `words_of`, where they are given. The actor is asked for `together` scenes at
    once, each in a world of its own; how many share a batch can change the last bits of an answer.
    """

    actor: ActorSpec
    task: str
    variant: str = "sim"
    episodes: int = 100
    seed: int = 0
    execute: int = EXECUTE
    size: int = 64
    max_steps: int | None = None
    blank: bool = False
    shuffle_instructions: bool = False
    delay: int = 0
    rtc: bool = False
    world: str | WorldFactory = "tabletop"
    ensemble: float | None = None
    words_of: tuple[str, ...] = ()
    together: int = later(GROUP)

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise UsageError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        for name in ("episodes", "execute", "max_steps", "together"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} must be at least 1, got {value}"
        if not 0 <= self.delay <= self.execute:
            yield f"delay must lie in 0 … execute ({self.execute}), got {self.delay}"
        if self.ensemble is not None and not (isfinite(self.ensemble) and self.ensemble >= 0):
            yield f"ensemble must be a finite number of at least 0, got {self.ensemble}"
        if self.ensemble is not None and self.rtc:
            yield "ensemble and rtc exclude each other: a mean of chunks is none that could be continued"

    @property
    def factory(self) -> WorldFactory:
        return get_world(self.world) if isinstance(self.world, str) else self.world

    @property
    def condition(self) -> str:
        """`policy` or `random`, with what was taken away from it."""
        parts = ["random" if self.actor.run is None else "policy"]
        parts += ["blank"] if self.blank else []
        parts += ["shuffled"] if self.shuffle_instructions else []
        parts += [f"delay{self.delay}"] if self.delay else []
        parts += ["rtc"] if self.rtc else []
        parts += [f"ensemble{self.ensemble:g}"] if self.ensemble is not None else []
        return "-".join(parts)

    def control(self, name: str) -> RolloutSpec:
        """The same scenes with something taken: one of CONTROLS.

        Random motion has no chunks that could be continued or averaged, and moves as it does without.
        """
        if name == BLANK:
            return replace(self, blank=True)
        if name == SHUFFLED:
            return replace(self, shuffle_instructions=True)
        execute = self.execute if self.ensemble is None else max(EXECUTE, self.delay)
        return replace(self, actor=replace(self.actor, run=None), rtc=False, ensemble=None, execute=execute)
