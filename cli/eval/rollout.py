"""foundry-eval rollout RUN: a policy in closed loop, counted with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.eval.left import leads_on
from robot_foundry.cli.options import RUN, dry_run_option, json_option, workers_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.evaluation.worlds.registry import WORLDS, get_world
from robot_foundry.runtime.errors import UsageError, nearest

# Of a suite; what is given on the command line takes their place.
OF_SUITES = ("episodes", "seed", "execute", "size", "max_steps", "delay", "rtc", "ensemble", "together")
NOT_OF_SUITES = ("world", "task", "variant", "blank", "shuffle_instructions", "words_of", "controls")


@click.command("rollout")
@click.argument("run", required=False, type=RUN)
@click.option(
    "--world", default="tabletop", show_default=True,
    help=f"{', '.join(WORLDS)}, or a .yaml file of a Gymnasium environment.",
)  # fmt: skip
@click.option("--task", help="Which task of the world; a wrong name is answered with all.")
@click.option(
    "--variant", default="sim", show_default=True,
    help="Look and arm of the world: of tabletop sim or real, of metaworld sim, shadows or other cameras.",
)  # fmt: skip
@click.option("--suite", metavar="FILE|NAME", help="Many tasks: a suite in YAML, or a packaged one.")
@click.option("--episodes", type=int, default=100, show_default=True, help="How many scenes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the scenes.")
@click.option(
    "--execute", type=int, default=8, show_default="8; 1 with --ensemble",
    help="Steps of a chunk executed before the next.",
)  # fmt: skip
@click.option("--max-steps", type=int, help="Longest episode. [default: the task's]")
@click.option(
    "--size", type=int, default=64, show_default=True, help="Side of the rendered images in pixels."
)
@click.option("--blank", is_flag=True, help="Control: the policy sees black images.")
@click.option(
    "--shuffle-instructions", is_flag=True, help="Control: each scene gets another scene's instruction."
)
@click.option("--words-of", multiple=True, metavar="TASK", help="Shuffled instructions are of this task.")
@click.option(
    "--delay",
    type=int,
    default=0,
    show_default=True,
    help="Steps that an answer takes, in which the chunk before it goes on.",
)
@click.option("--rtc", is_flag=True, help="Real-time chunking: new chunks agree with the one under way.")
@click.option(
    "--ensemble", type=float, is_flag=False, flag_value=0.01, metavar="[W]",
    help="Temporal ensembling: the mean of all chunks of a step, weights exp(-W i).  [0.01]",
)  # fmt: skip
@click.option(
    "--together", type=int, default=8, show_default=True,
    help="Scenes that a process runs beside each other, each in a world of its own.",
)  # fmt: skip
@click.option("--random", "random_control", is_flag=True, help="Control: random motion, whatever RUN is.")
@click.option(
    "--controls", metavar="NAME,…", help="Run these beside, on the same scenes: blank, shuffled, random."
)
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
@click.option(
    "--store", envvar="FOUNDRY_STORE", show_envvar=True, metavar="FOLDER|URL",
    help="Where the episodes are recorded.  [default: where the run found its data]",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Run scenes anew that were kept.")
@dry_run_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    run: Path | None,
    suite: str | None,
    random_control: bool,
    controls: str | None,
    dataset: str | None,
    device: str,
    workers: int,
    out: Path | None,
    store: str | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run the policy of RUN in closed loop on scenes that no demonstration has, and count its successes.

    RUN is a run's folder, a checkpoint or a pointer file, with which the report is kept. The same policy and
    seed give the same rollouts whatever --workers says, and if a rollout is stopped the same command goes on.
    What the rate does not show is said beside it: see docs/rollouts.md.

    \b
    foundry-eval rollout runs/reach --task reach_single --episodes 100 --workers 4
    foundry-eval rollout runs/reach --task reach_single --controls blank,shuffled,random
    foundry-eval rollout runs/reach --task reach_single --delay 4 --rtc
    foundry-eval rollout runs/reach --task reach_single --ensemble
    foundry-eval rollout runs/reach --suite tabletop --episodes 20
    foundry-eval rollout runs/reach --world metaworld --task reach --episodes 50
    foundry-eval rollout --random --task reach_single --out random
    """
    from robot_foundry.evaluation.actors import ActorSpec
    from robot_foundry.evaluation.rollouts.demonstrated import data_store
    from robot_foundry.evaluation.rollouts.keeping import Keeper
    from robot_foundry.evaluation.rollouts.spec import RolloutSpec
    from robot_foundry.evaluation.scorecards.reports import Subject
    from robot_foundry.runtime.parallel import Workers

    given = {name for name in settings if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if settings["ensemble"] is not None and "execute" not in given:
        settings["execute"] = 1
        given.add("execute")
    _check_what_acts(run, out, is_random=random_control, rtc=settings["rtc"], ensemble=settings["ensemble"])
    beside = _controls(controls, settings, is_random=random_control)
    subject = None if run is None else Subject.find(run)
    checkpoint = None if subject is None else subject.checkpoint
    actor = ActorSpec(None if checkpoint is None or random_control else str(checkpoint), device, dataset)
    with Workers(0 if workers == 1 else workers) as pool:
        keeper = Keeper(subject, out, pool, data_store(checkpoint, store), again)
        if suite is not None:
            _check_suite(given | ({"controls"} if controls else set()), is_random=random_control)
            _suite(suite, actor, keeper, {k: settings[k] for k in OF_SUITES if k in given}, dry_run, as_json)
        else:
            if settings["task"] is None:
                raise UsageError("say what to run: --task TASK, or --suite with many")
            get_world(settings["world"]).describe(settings["task"], settings["variant"])
            _one(RolloutSpec(actor, **settings), beside, keeper, run, dry_run, as_json)
    if run is not None and not dry_run:
        leads_on(run)


def _one(spec: Any, beside: list[str], keeper: Any, run: Path | None, dry_run: bool, as_json: bool) -> None:
    """One task, and its controls beside it."""
    from robot_foundry.evaluation.rollouts.demonstrated import tell_unlike_pictures
    from robot_foundry.evaluation.rollouts.keeping import folder_of
    from robot_foundry.evaluation.rollouts.scene import check_words
    from robot_foundry.evaluation.rollouts.spec import SHUFFLED
    from robot_foundry.evaluation.scorecards.rollout_controls import control_of, is_whole, sentences

    if dry_run:
        folder = folder_of(spec, keeper.subject, keeper.out)
        plan = {"world": spec.factory.name, "condition": spec.condition, "out": str(folder)}
        plan |= {name: getattr(spec, name) for name in ("task", "variant", *OF_SUITES)}
        also = f", and as many each for {', '.join(beside)}," if beside else ""
        text = f"would run {counted(spec.episodes, 'scene')} of {spec.task}{also} and write to {folder}"
        emit({**plan, "controls": beside}, as_json=as_json, text=text)
        return
    tell_unlike_pictures(spec, keeper.store)
    if SHUFFLED in beside:
        check_words(spec.control(SHUFFLED))
    found = keeper.run(spec)
    _told_kept(found.kept, spec.episodes, found.folder)
    others = [keeper.run(spec.control(name), name).report for name in beside]
    report, lines = found.report, []
    if is_whole(report):
        ran = {other["condition"] for other in others}
        others += [other for other in keeper.beside(report) if other["condition"] not in ran]
        lines = list(sentences(report, others, str(run), spec.world))
        report = report | {"controls": [vars(control_of(report, other)) for other in others], "says": lines}
    low, high = report["interval_95"]
    rate = f"{spec.task} ({spec.variant}), {spec.condition}: {report['successes']}/{report['trials']} = "
    rate += f"{report['rate']:.1%}, 95 % interval [{low:.1%}, {high:.1%}]"
    sheet = found.folder / "contact_sheet.png"  # not of a world without pictures
    text = "\n".join([rate, *lines, str(sheet if sheet.exists() else found.folder / "rollout.json")])
    emit({**report, "out": str(found.folder)}, as_json=as_json, text=text)


def _suite(
    place: str, actor: Any, keeper: Any, settings: dict[str, Any], dry_run: bool, as_json: bool
) -> None:
    """All tasks of a suite."""
    from robot_foundry.evaluation.rollouts.demonstrated import tell_unlike_pictures
    from robot_foundry.evaluation.scorecards.reports import FILES, SUITE, write
    from robot_foundry.evaluation.suites.run import run_suite, suite_rows
    from robot_foundry.evaluation.suites.suite import read_suite

    suite = read_suite(place)
    folder = keeper.out if keeper.subject is None else keeper.subject.folder(SUITE, suite.name, keeper.out)
    specs = [suite.spec(name, actor, **settings) for name in suite.tasks]
    scenes = sum(spec.episodes for spec in specs)
    if dry_run:
        text = f"would run {counted(scenes, 'scene')} of {counted(len(suite.tasks), 'task')}"
        text += "".join(f", and as many with {name}" for name in suite.controls) + f", and write to {folder}"
        plan = {"suite": suite.name, "tasks": list(suite.tasks), "scenes": scenes, "out": str(folder)}
        emit({**plan, "controls": list(suite.controls)}, as_json=as_json, text=text)
        return
    for spec in {spec.variant: spec for spec in specs}.values():
        tell_unlike_pictures(spec, keeper.store)
    report = run_suite(suite, actor, keeper, **settings)
    _told_kept(report.pop("kept"), scenes * (1 + len(suite.controls)), folder)
    write(folder, FILES[SUITE], report)
    if keeper.subject is not None:
        keeper.subject.keep(SUITE, suite.name, report, folder)
    text = "\n".join([table(*suite_rows(report)), *report["says"], str(folder / FILES[SUITE])])
    emit({**report, "out": str(folder)}, as_json=as_json, text=text)


def _told_kept(kept: int, scenes: int, folder: Path) -> None:
    if kept:
        note(f"{kept} of {counted(scenes, 'scene')} had been run before ({folder}); --again runs them anew")


def _check_what_acts(
    run: Path | None, out: Path | None, *, is_random: bool, rtc: bool, ensemble: float | None
) -> None:
    """UsageError where nothing acts, its report would have no place, or it cannot do what is asked."""
    if run is None and not is_random:
        raise UsageError("give a training run, or --random for motion without one")
    if run is None and out is None:
        raise UsageError("--random without a run is kept with none: say where to write with --out")
    if is_random and rtc:
        raise UsageError("--rtc is of policies: random motion has no chunks to continue")
    if is_random and ensemble is not None:
        raise UsageError("--ensemble is of policies: means of random motion stand still")


def _controls(controls: str | None, settings: dict[str, Any], *, is_random: bool) -> list[str]:
    from robot_foundry.evaluation.rollouts.spec import CONTROLS

    names = [name.strip() for name in (controls or "").split(",") if name.strip()]
    for name in names:
        if name not in CONTROLS:
            raise UsageError(
                f"there is no control '{name}'{nearest(name, CONTROLS)}",
                hint=f"controls: {', '.join(CONTROLS)}",
            )
    if names and (is_random or settings["blank"] or settings["shuffle_instructions"]):
        raise UsageError("--controls run beside a policy from which nothing was taken")
    return list(dict.fromkeys(names))


def _check_suite(given: set[str], *, is_random: bool) -> None:
    if is_random:
        raise UsageError("--suite is of policies: ask for random motion with its key controls")
    for name in NOT_OF_SUITES:
        if name in given:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is said by the suite", hint=f"leave out {option}, or --suite")
