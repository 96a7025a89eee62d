"""Films of some scenes, taken after all are over: what was executed is executed again, and drawn.

So a rollout draws nothing for people while it counts, successes and failures are filmed alike, and a scene
that does not go the same way twice, which a world promises, is found. HWC image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from robot_foundry.evaluation.contact_sheets import Film
from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.evaluation.rollouts.open_worlds import OpenWorlds, worlds_of_this_process
from robot_foundry.evaluation.rollouts.spec import RolloutSpec
from robot_foundry.evaluation.world import Outcome
from robot_foundry.runtime.errors import FoundryWarning

FILM_SIZE = 128
Item = tuple[RolloutSpec, RolloutEpisode]
Taken = tuple[Film | None, str | None]  # and in what it differed from the episode
Map = Callable[[Callable[[Item], Taken], Iterable[Item]], Iterable[tuple[int, Taken]]]


def worth_filming(episodes: Sequence[RolloutEpisode], most: int) -> list[RolloutEpisode]:
    """The first successes and the first failures, half of each where there are so many; by index."""
    good = [episode for episode in episodes if episode.success]
    bad = [episode for episode in episodes if not episode.success]
    of_bad = min(len(bad), max(most // 2, most - len(good)))
    return sorted(good[: most - of_bad] + bad[:of_bad], key=lambda episode: episode.index)


def filmed(
    spec: RolloutSpec, episodes: Sequence[RolloutEpisode], most: int, over: Map
) -> tuple[RolloutEpisode, ...]:
    """The same episodes, `most` of them with a film. `over` maps a function over items.

    A FoundryWarning names a scene that went another way this time.
    """
    chosen = worth_filming(episodes, most)
    taken = dict(over(film_in_worker, [(spec, episode) for episode in chosen]))
    for wrong in (taken[place][1] for place in range(len(chosen))):
        if wrong is not None:
            warnings.warn(wrong, FoundryWarning, stacklevel=2)
    films = {episode.index: taken[place][0] for place, episode in enumerate(chosen)}
    return tuple(replace(episode, film=films.get(episode.index)) for episode in episodes)


def film_in_worker(item: Item) -> Taken:
    """`film` with the worlds of this process."""
    return film(*item, worlds_of_this_process())


def film(spec: RolloutSpec, episode: RolloutEpisode, worlds: OpenWorlds) -> Taken:
    """What the scene looked like from its start to its end; no film where the world draws nothing."""
    assert episode.executed is not None
    world = worlds.aside(spec.factory, spec.task, spec.variant)
    world.reset(episode.seed)
    frames = [world.picture(FILM_SIZE)]
    outcome, first = Outcome.RUNNING, 0
    for told in episode.executed.aims if frames[0] is not None else ():
        if outcome is not Outcome.RUNNING:
            break
        world.aim(episode.executed.target_TA[first : first + told])
        first += told
        for _ in range(told):
            outcome = world.step()
            frames.append(world.picture(FILM_SIZE))
            if outcome is not Outcome.RUNNING:
                break
    drawn = tuple(picture_HWC for picture_HWC in frames if picture_HWC is not None)
    if not drawn:
        return None, None
    wrong = None
    if (outcome.value, len(frames) - 1) != (episode.outcome, episode.steps):
        wrong = (
            f"scene {episode.index} of {spec.task} was {episode.outcome} after {episode.steps} steps and, "
            f"with the same seed and targets, is {outcome.value} after {len(frames) - 1}: the world "
            f"'{spec.factory.name}' does not repeat its episodes"
        )
    return Film(episode.index, drawn, episode.told, episode.success), wrong
