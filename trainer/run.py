"""A whole training run of any task: resume or start, train, and leave checkpoints behind."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from robot_foundry.runtime.errors import FoundryWarning, NothingSelected, Preempted
from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer.checkpoints.background import Background
from robot_foundry.trainer.checkpoints.replica import Replica
from robot_foundry.trainer.checkpoints.resume import Start, choose_start
from robot_foundry.trainer.checkpoints.run_history import History
from robot_foundry.trainer.checkpoints.saving import Saved, Saver
from robot_foundry.trainer.evaluate import HeldOut
from robot_foundry.trainer.holding import hold
from robot_foundry.trainer.learner import Learner, build_learner
from robot_foundry.trainer.loop import RunParts, StepPlan, train
from robot_foundry.trainer.metering.console import Console
from robot_foundry.trainer.metering.peaks import peak_of
from robot_foundry.trainer.metering.phases import Phases
from robot_foundry.trainer.metering.profiling import profiled
from robot_foundry.trainer.metering.reading import being_read
from robot_foundry.trainer.metering.sinks import JsonLines, Sink, Sinks, TensorBoard
from robot_foundry.trainer.metering.watch import Watch
from robot_foundry.trainer.metering.weights_biases import WeightsBiases, check_installed
from robot_foundry.trainer.meters import Meters
from robot_foundry.trainer.optim.schedule import multiplier
from robot_foundry.trainer.outcome import Outcome, weights_digest
from robot_foundry.trainer.ranks.agreement import agree, everywhere, from_main, versions
from robot_foundry.trainer.ranks.machine import same_threads
from robot_foundry.trainer.ranks.numerics import numerics, slow_precision
from robot_foundry.trainer.ranks.ranks import Ranks, joined
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.signals import StopFlag
from robot_foundry.trainer.streams import HELD_OUT, TRAIN, Prepared, Stream
from robot_foundry.trainer.substitutes import Substitutes
from robot_foundry.trainer.tasks.task import MeasuredTask, Task

_AGREED = "give every rank the same command, code and versions (data.mix=NAME@VERSION)"


@dataclass(frozen=True)
class Begun:
    """A run at the step from which it goes on: all that the ranks agreed on, opened and filled."""

    task: Task
    measured: MeasuredTask
    ranks: Ranks
    start: Start
    replica: Replica | None
    streams: dict[str, Stream]
    learner: Learner
    notes: tuple[str, ...]  # what the user is told before the first step


def run_task(task: Task, *, quiet: bool = False, profile: int | None = None) -> Outcome:
    """Train to the end, or from where the run's folder stands. Every rank calls this.

    One process at a time trains a folder: FoundryError if another one does, or if the ranks do not agree on
    what they train. Raises Preempted after a checkpoint when SIGTERM or SIGUSR2 asked for it,
    KeyboardInterrupt on Ctrl-C. Of `profile` steps a profile is written (see `metering.profiling`).
    """
    config = task.config
    with ExitStack() as stack:
        stop = stack.enter_context(StopFlag())
        stack.enter_context(numerics(config.run.determinism, config.run.device))
        ranks = stack.enter_context(joined(config.run.device, config.run.shard, config.run.patience))
        begun = begin(task, ranks, stack, quiet)
        _tell(begun.notes, ranks)
        parts, saver, replaced = parts_of(begun, stack, quiet)
        if profile is not None:
            parts = _profiled(parts, task, profile, stack)
        step = begun.start.step
        with ranks.stepping(config.run.patience, step):
            reached = train(parts, plan_of(task), batches_from(begun), step, stop)
        saver.finish(reached)
        ranks.barrier()
        if reached < task.num_steps:
            raise _stopped(stop, reached, task.num_steps, ranks)
        return Outcome.read(
            task.run_dir, reached, resumed_from=step, weights=weights_digest(begun.learner.model),
            skipped=parts.meters.state()["skipped"], substituted=dict(replaced.counts), notes=begun.notes,
        )  # fmt: skip


def begin(task: Task, ranks: Ranks, stack: ExitStack, quiet: bool) -> Begun:
    """Agree on what is trained, hold the run's folder, choose where to start, and make what is trained."""
    check_installed(task.config.run)
    agree(ranks, _resolved(task, ranks), _AGREED)
    from_main(ranks, partial(hold, task.run_dir, stack))
    where = task.config.run.checkpoints
    replica = None if where is None else Replica(where)
    start = choose_start(task, ranks, replica)
    stack.enter_context(same_threads(start.state.get("ranks", ()), ranks))
    if start.folder is None:
        measured = task.measured(from_main(ranks, partial(task.measure, quiet=quiet)))
    else:
        measured = task.measured(task.measures_in(start.folder))
    warned = from_main(ranks, measured.warnings)
    streams, missing = _streams(measured, ranks)
    for stream in streams.values():
        stack.enter_context(stream)
    read = {split: stream.state_dict()["mixture_id"] for split, stream in streams.items()}
    agree(ranks, {**measured.digest, **read}, _AGREED)
    learner, fresh = build_learner(task, start, ranks)
    equipped = everywhere(ranks, partial(stack.enter_context, task.equip(learner.model, ranks)))
    slow = from_main(ranks, partial(slow_precision, ranks.device, task.config.run.precision))
    notes = (*slow, *fresh, *missing, *warned, *equipped)
    return Begun(task, measured, ranks, start, replica, streams, learner, notes)


def _resolved(task: Task, ranks: Ranks) -> dict[str, Any]:
    """All that must be equal on every rank, as JSON."""
    return {
        "ranks": ranks.size,
        "device": ranks.device.type,
        **task.identity,
        "run": asdict(task.config.run),
        "code": versions(),
    }


def _streams(measured: MeasuredTask, ranks: Ranks) -> tuple[dict[str, Stream], tuple[str, ...]]:
    """The streams by split, and a note where nothing is held out."""
    streams = {TRAIN: everywhere(ranks, partial(measured.open_stream, TRAIN, ranks))}
    held_out = everywhere(ranks, partial(_held_out, measured, ranks))
    if isinstance(held_out, NothingSelected):
        return streams, (f"no held-out loss: {held_out}",)
    return {**streams, HELD_OUT: held_out}, ()


def _held_out(measured: MeasuredTask, ranks: Ranks) -> Stream | NothingSelected:
    """The held-out stream, or why there is none. Any other fault, such as a damaged table, is raised."""
    try:
        return measured.open_stream(HELD_OUT, ranks)
    except NothingSelected as error:
        return error


def _tell(notes: Iterable[str], ranks: Ranks) -> None:
    """Before the first step, as some are a reason to stop the run. Once, and not by each rank."""
    for note in notes if ranks.is_main else ():
        warnings.warn(note, FoundryWarning, stacklevel=2)


def parts_of(
    begun: Begun, stack: ExitStack, quiet: bool, sink: Sink | None = None
) -> tuple[RunParts, Saver, Substitutes]:
    """What the loop works with. Records go to `sink` where it is given, else where the run says."""
    task, ranks, start, learner = begun.task, begun.ranks, begun.start, begun.learner
    run, steps = task.config.run, task.num_steps
    silent = quiet or not ranks.is_main or start.step == steps
    progress = stack.enter_context(Progress(steps, "steps", "train", quiet=silent, done=start.step))
    sink = sink or _sinks(task, start.step, ranks, progress)
    stack.callback(sink.close)
    phases = Phases(start.step)
    stack.enter_context(Watch(task.run_dir, phases, ranks, run, being_read))
    replaced = Substitutes(
        ranks, begun.streams, limit=run.max_substituted,
        counts=start.state.get("substituted", {}), damaged=start.lineage.get("damaged", ()),
    )  # fmt: skip
    skipped, streak = (start.state.get(name, 0) for name in ("skipped", "streak"))
    meters = Meters(
        ranks, skipped=skipped, streak=streak, max_streak=run.max_skipped, loss_weights=task.loss_weights,
        datasets=begun.measured.datasets, peak=peak_of(ranks.device, run.precision),
    )  # fmt: skip
    beside, background = ranks.beside(), Background[Saved](beside=run.async_save)
    saver = Saver(
        task, begun.measured, run, start, stack.enter_context(beside), learner.tensors, learner.frozen,
        meters, replaced, History.begin(start, ranks, run), stack.enter_context(background), begun.replica,
    )  # fmt: skip
    held_out = HeldOut(
        begun.streams.get(HELD_OUT),
        replaced,
        ranks,
        begun.measured.held_out_samples if HELD_OUT in begun.streams else 0,
        task.config.global_batch,
        run.precision,
        begun.measured.figures,
        task.loss_weights,
    )
    parts = RunParts(
        ranks=ranks,
        model=ranks.wrap(learner.model),
        optimizers=learner.optimizers,
        ema=learner.ema,
        spikes=learner.spikes,
        replaced=replaced,
        meters=meters,
        sink=sink,
        phases=phases,
        save=saver,
        evaluate=lambda: held_out.losses(learner.model, learner.averaged),
        advance=progress.advance,
    )
    return parts, saver, replaced


def _sinks(task: Task, resumed: int, ranks: Ranks, progress: Progress) -> Sink:
    """Where the main rank's records go; those of others go nowhere."""
    run_dir, run = task.run_dir, task.config.run
    makers: dict[str, Callable[[], Sink | None]] = {
        "metrics.jsonl": partial(JsonLines, run_dir, resumed),
        "TensorBoard": partial(TensorBoard.opened, run_dir, resumed),
        "the console": partial(Console, progress),
    }
    if run.wandb is not None:
        makers["Weights & Biases"] = partial(WeightsBiases, run.wandb, run_dir, resolved(task.config))
    return Sinks(makers if ranks.is_main else {})


def _profiled(parts: RunParts, task: Task, steps: int, stack: ExitStack) -> RunParts:
    """The same, of which so many steps are profiled."""
    stepped = stack.enter_context(profiled(task.run_dir, parts.phases, parts.ranks, steps))

    def advance() -> None:
        parts.advance()
        stepped()

    return replace(parts, advance=advance)


def batches_from(begun: Begun) -> Iterator[Prepared]:
    """The batches of the steps that a run goes on with."""
    stream = begun.streams[TRAIN]
    stream.load_state_dict({**stream.state_dict(), "b": begun.start.step})
    return iter(stream)


def plan_of(task: Task) -> StepPlan:
    """How long the loop runs, what it does when, and how a step is taken."""
    config, num_steps = task.config, task.num_steps
    optim, run = config.optim, config.run
    return StepPlan(
        num_steps=num_steps,
        global_batch=config.global_batch,
        log_every=run.log_every,
        save_every=run.save_every,
        eval_every=run.eval_every,
        clip=optim.clip,
        precision=run.precision,
        schedule=partial(multiplier, total=num_steps, kind=optim.schedule, warmup=optim.warmup),
        loss_weights=task.loss_weights,
    )


def _stopped(stop: StopFlag, reached: int, steps: int, ranks: Ranks) -> BaseException:
    if not ranks.is_main:
        return SystemExit(Preempted.exit_code)
    if stop.requested == signal.SIGINT:
        return KeyboardInterrupt()
    why = f" by {stop.requested.name}" if stop.requested else ""
    return Preempted(
        f"stopped{why} at step {reached} of {steps}; its checkpoint is written",
        hint="the same command goes on from there",
    )
