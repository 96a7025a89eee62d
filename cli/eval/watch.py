"""foundry-eval watch RUN: each checkpoint in closed loop as soon as it is whole, and which did best."""

from __future__ import annotations

import json
import time
from math import isfinite
from pathlib import Path
from typing import Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.options import dry_run_option, json_option, workers_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.evaluation.worlds.registry import WORLDS, get_world
from robot_foundry.runtime.errors import UsageError


@click.command("watch")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--world", default="tabletop", show_default=True,
    help=f"{', '.join(WORLDS)}, or a .yaml file of a Gymnasium environment.",
)  # fmt: skip
@click.option("--task", required=True, help="Which task of the world; a wrong name is answered with all.")
@click.option("--variant", default="sim", show_default=True, help="As for rollout.")
@click.option("--episodes", type=int, default=50, show_default=True, help="How many scenes a checkpoint.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the scenes.")
@click.option("--execute", type=int, default=8, show_default=True, help="Steps of a chunk executed.")
@click.option("--max-steps", type=int, help="Longest episode. [default: the task's]")
@click.option("--size", type=int, default=64, show_default=True, help="Side of the images in pixels.")
@click.option(
    "--dataset", help="Whose statistics and dims the policy uses. [default: of the same embodiment]"
)
@click.option("--once", is_flag=True, help="Evaluate what is there, and wait for no more.")
@click.option(
    "--poll", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
    help="Seconds between two looks for a checkpoint.",
)  # fmt: skip
@device_option
@workers_option
@dry_run_option
@json_option
def command(
    run: Path,
    dataset: str | None,
    device: str,
    once: bool,
    poll: float,
    workers: int,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Roll out the checkpoints of RUN, which may still train, and name the best of them.

    Each is held until it has been evaluated, and the best for good, whatever the run keeps. It ends when the
    run has; stopped, the same command goes on.

    \b
    foundry-eval watch runs/reach --task reach_single --episodes 50
    foundry-eval watch runs/reach --task reach_single --once
    """
    from robot_foundry.evaluation.actors import ActorSpec
    from robot_foundry.evaluation.rollouts.spec import RolloutSpec
    from robot_foundry.evaluation.scorecards.rollout_controls import command as rollout_command
    from robot_foundry.evaluation.watching.watch import BEST, Watch

    if not isfinite(poll):
        raise UsageError(f"--poll is a finite number of seconds, got {poll}", hint="--poll 10")
    get_world(settings["world"]).describe(settings["task"], settings["variant"])
    watch = Watch(run, RolloutSpec(ActorSpec(None, device, dataset), **settings), workers=workers)
    if dry_run:
        steps = sorted(watch.waiting())
        text = f"would run {counted(settings['episodes'], 'scene')} with each of "
        text += f"{counted(len(steps), 'checkpoint')} that {'are' if len(steps) != 1 else 'is'} there"
        emit({"run": str(run), "steps": steps, "out": str(watch.folder)}, as_json=as_json, text=text)
        return
    for one in watch.follow(None if once else lambda: time.sleep(poll)):
        note(f"step {one.step}: {_counted(one)}")
    done, best = watch.done(), watch.best()
    rows = [[str(one.step), _counted(one), "best" if one == best else ""] for one in done]
    pointer = watch.folder / BEST
    found = [_as_json(one) for one in done]
    emit(
        {"run": str(run), "checkpoints": found, "best": best and _as_json(best) | {"pointer": str(pointer)}},
        as_json=as_json,
        text=table(["step", "successes", ""], rows) if rows else f"{run} has no checkpoint yet",
    )
    if best is not None and len(done) > 1:
        elsewhere = {"world": settings["world"], "seed": settings["seed"] + 1}
        report = json.loads(best.report.read_text(encoding="utf-8")) | elsewhere
        other = rollout_command(report, str(pointer))
        note(f"The best was chosen by these scenes, so its rate on them is no estimate. On others: {other}")


def _counted(one: Any) -> str:
    low, high = one.interval
    return f"{one.successes}/{one.trials} = {one.rate:.1%} [{low:.1%}, {high:.1%}]"


def _as_json(one: Any) -> dict[str, Any]:
    return {
        "step": one.step,
        "successes": one.successes,
        "trials": one.trials,
        "interval_95": list(one.interval),
        "report": str(one.report),
    }
