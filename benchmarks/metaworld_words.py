"""Which tasks of Meta-World are done by a motion that was meant for another.

    python benchmarks/metaworld_words.py [--tasks push,reach] [--episodes 24] [--max-steps 300] [--json FILE]

The clean targets of each task's expert, in scenes of that task, are executed in as many scenes of every task;
the last one is held until the time is up. No picture is looked at. Where others' motions do a task, a policy
that does exactly what it is told succeeds in it with other words too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from robot_foundry.evaluation.worlds.metaworld.packages import make_expert
from robot_foundry.evaluation.worlds.metaworld.sawyer import Sawyer

FIVE = "push,reach,drawer-close,window-close,button-press"
RECORDED, EXECUTED = 10_000, 20_000  # the first seeds of scenes of either use


def motion_of(task: str, seed: int, max_steps: int) -> np.ndarray:
    """The targets (T, 4) that the task's expert gives until it succeeds."""
    robot, expert = Sawyer(task, shadows=False), make_expert(task)
    robot.begin(seed)
    targets = []
    for _ in range(max_steps):
        targets.append(robot.command(expert))
        if robot.advance(targets[-1]):
            break
    return np.stack(targets)


def does(task: str, seed: int, target_T4: np.ndarray, max_steps: int) -> bool:
    """Whether these targets do the task."""
    robot = Sawyer(task, shadows=False)
    robot.begin(seed)
    return any(robot.advance(target_T4[min(step, len(target_T4) - 1)]) for step in range(max_steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", default=FIVE)
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    tasks, number, limit = given.tasks.split(","), given.episodes, given.max_steps
    motions = {task: [motion_of(task, RECORDED + k, limit) for k in range(number)] for task in tasks}
    done: dict[str, dict[str, int]] = {}
    print("in scenes of    by the motion of " + ", ".join(tasks))
    for task in tasks:
        done[task] = {
            meant: sum(does(task, EXECUTED + k, motions[meant][k], limit) for k in range(number))
            for meant in tasks
        }
        print(task.ljust(15), *(f"{count}/{number}" for count in done[task].values()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"episodes": number, "done": done}, indent=1) + "\n")


if __name__ == "__main__":
    main()
