"""The tabletop world: steps and images a second, and how often expert and random motion succeed.

    python benchmarks/tabletop.py [--episodes 200] [--scenes 200] [--tasks reach_single,push] [--json FILE]

One process. Time is CPU time, so that other work on the machine matters less. Steps without pixels include
the expert, its noise and the recording of states and commands; steps with pixels also render one 64-pixel
primary view each. The random control moves to random points, a new one every 8 steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.demonstrations import demonstrate
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop, roles_for
from robot_foundry.evaluation.worlds.tabletop.goals import TASKS
from robot_foundry.evaluation.worlds.tabletop.variants import VARIANTS

SIZES = (64, 96, 128)
IMAGES = 300


def steps_a_second(task: str, cameras: tuple[str, ...], episodes: int) -> float:
    world = Tabletop(task, cameras=cameras)
    started, steps = time.process_time(), 0
    for index in range(episodes):
        steps += len(demonstrate(world, scene_seed("benchmark", 0, index))["actions"])
    return steps / (time.process_time() - started)


def images_a_second(task: str, role: str, size: int) -> float:
    world = Tabletop(task, size=size)
    world.reset(seed=0)
    world.image(role)
    started = time.process_time()
    for _ in range(IMAGES):
        world.image(role)
    return IMAGES / (time.process_time() - started)


def expert(task: str, variant: str, episodes: int) -> dict[str, float]:
    world = Tabletop(task, variant=variant, cameras=())
    successes = steps = 0
    for index in range(episodes):
        steps += len(demonstrate(world, scene_seed("benchmark", 1, index))["actions"])
        successes += world.task.judge(world.physics, world.goal, False) is Outcome.SUCCESS
    low, high = clopper_pearson(successes, episodes)
    return {"successes": successes, "episodes": episodes, "low": low, "high": high, "steps": steps / episodes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tasks = arguments.tasks.split(",")
    report: dict[str, object] = {}
    print("task          steps/s  with pixels   expert sim        expert real       mean steps  random")
    for task in tasks:
        bare = steps_a_second(task, (), min(60, arguments.episodes))
        seen = steps_a_second(task, ("primary",), min(30, arguments.episodes))
        experts = {variant: expert(task, variant, arguments.episodes) for variant in VARIANTS}
        chance = rollout(RolloutSpec(ActorSpec(run=None), task, episodes=arguments.scenes), quiet=True)
        report[task] = {
            "steps": bare,
            "with_pixels": seen,
            "expert": experts,
            "random": chance.to_json()["rate"],
        }
        shown = [
            f"{e['successes']}/{e['episodes']} [{e['low']:.3f}, 1]"[:17].ljust(17) for e in experts.values()
        ]
        print(
            f"{task:12} {bare:8.0f} {seen:12.0f}   {'  '.join(shown)} {experts['sim']['steps']:10.1f}"
            f"  {chance.successes}/{arguments.scenes}",
            flush=True,
        )
    print("\nimages/s      " + "".join(f"{size:>8} px" for size in SIZES))
    for task in ("reach_single", "handover"):
        for role in roles_for(TASKS[task].arms):
            rates = [images_a_second(task, role, size) for size in SIZES]
            report[f"{task}.{role}"] = rates
            print(
                f"{task}, {role:12}"[:26].ljust(26) + "".join(f"{rate:8.0f}   " for rate in rates), flush=True
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
