"""foundry-eval rollout RUN: a policy in closed loop, counted with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.eval.left import leads_on
from robot_foundry.cli.options import RUN, dry_run_option, json_option, workers_option
from robot_foundry.cli.output import emit
from robot_foundry.evaluation.worlds.registry import WORLDS, get_world
from robot_foundry.runtime.errors import UsageError


@click.command("rollout")
@click.argument("run", required=False, type=RUN)
@click.option(
    "--world", default="tabletop", show_default=True,
    help=f"{', '.join(WORLDS)}, or a .yaml file of a Gymnasium environment.",
)  # fmt: skip
@click.option("--task", required=True, help="Which task, such as reach_single.")
@click.option("--variant", default="sim", show_default=True, help="Look and arm of the world: sim or real.")
@click.option("--episodes", type=int, default=100, show_default=True, help="How many scenes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the scenes.")
@click.option(
    "--execute", type=int, default=8, show_default=True, help="Steps of a chunk executed before the next."
)
@click.option("--max-steps", type=int, help="Longest episode. [default: the task's]")
@click.option(
    "--size", type=int, default=64, show_default=True, help="Side of the rendered images in pixels."
)
@click.option("--blank", is_flag=True, help="Control: the policy sees black images.")
@click.option(
    "--shuffle-instructions", is_flag=True, help="Control: each scene gets another scene's instruction."
)
@click.option(
    "--delay",
    type=int,
    default=0,
    show_default=True,
    help="Steps that an answer takes, in which the chunk before it goes on.",
)
@click.option("--rtc", is_flag=True, help="Real-time chunking: new chunks agree with the one under way.")
@click.option("--random", "random_control", is_flag=True, help="Control: random motion, whatever RUN is.")
@click.option(
    "--dataset",
    help="The dataset whose statistics and dims the policy uses. [default: that of the same embodiment]",
)
@device_option
@workers_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report and pictures.  [default: RUN/scorecards/rollout/…]",
)  # fmt: skip
@dry_run_option
@json_option
def command(
    run: Path | None,
    world: str,
    random_control: bool,
    dataset: str | None,
    device: str,
    workers: int,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run the policy of RUN in closed loop on scenes that no demonstration has, and count its successes.

    RUN is a run's folder, a checkpoint or a pointer file, with which the report is kept. The same policy and
    seed give the same rollouts whatever --workers says.

    \b
    foundry-eval rollout runs/reach --task reach_single --episodes 100 --workers 4
    foundry-eval rollout runs/reach --task reach_single --blank
    foundry-eval rollout runs/reach --task reach_single --delay 4 --rtc
    foundry-eval rollout runs/reach --task reach_single --random
    foundry-eval rollout --random --task reach_single --out random
    """
    from robot_foundry.evaluation.actors import ActorSpec
    from robot_foundry.evaluation.rollout import RolloutSpec, rollout, save
    from robot_foundry.evaluation.scorecards.reports import ROLLOUT, Subject

    _check_what_acts(run, out, is_random=random_control, rtc=settings["rtc"])
    get_world(world).describe(settings["task"], settings["variant"])
    subject = None if run is None else Subject.find(run)
    acting = None if subject is None or random_control else str(subject.checkpoint)
    spec = RolloutSpec(ActorSpec(acting, device, dataset), **settings, world=world)
    name = f"{spec.task}-{spec.variant}-{spec.condition}"
    folder = out if subject is None else subject.folder(ROLLOUT, name, out)
    assert folder is not None
    if dry_run:
        plan = {"world": world, "condition": spec.condition, "out": str(folder), **settings}
        emit(
            plan,
            as_json=as_json,
            text=f"would run {spec.episodes} scenes of {spec.task} and write to {folder}",
        )
        return
    about = subject.to_json() if subject is not None and acting is not None else {}
    report = save(rollout(spec, workers=workers), folder, about)
    if subject is not None:
        subject.keep(ROLLOUT, name, report, folder)
    low, high = report["interval_95"]
    emit(
        {**report, "out": str(folder)},
        as_json=as_json,
        text=f"{spec.task} ({spec.variant}), {spec.condition}: {report['successes']}/{report['trials']} = "
        f"{report['rate']:.1%}, 95 % interval [{low:.1%}, {high:.1%}]\n{folder}/contact_sheet.png",
    )
    if run is not None:
        leads_on(run)


def _check_what_acts(run: Path | None, out: Path | None, *, is_random: bool, rtc: bool) -> None:
    """UsageError where nothing acts, its report would have no place, or it cannot do what is asked."""
    if run is None and not is_random:
        raise UsageError("give a training run, or --random for motion without one")
    if run is None and out is None:
        raise UsageError("--random without a run is kept with none: say where to write with --out")
    if is_random and rtc:
        raise UsageError("--rtc is of policies: random motion has no chunks to continue")
