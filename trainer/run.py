"""A whole training run: resolve the mixture, resume or start, train, and leave checkpoints behind."""

from __future__ import annotations

import hashlib
import signal
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filelock
from torch import nn

from robot_foundry.loader.load import Loader, load
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, FoundryWarning, Preempted
from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.resume import Start, choose_start
from robot_foundry.trainer.checkpoints.saving import History, Saver
from robot_foundry.trainer.evaluate import evaluate
from robot_foundry.trainer.learner import build_learner
from robot_foundry.trainer.loop import Parts, Plan, train
from robot_foundry.trainer.meters import Meters, Sink, read_metrics
from robot_foundry.trainer.optim.schedule import multiplier
from robot_foundry.trainer.ranks import machine
from robot_foundry.trainer.ranks.agreement import agree, everywhere, from_main, versions
from robot_foundry.trainer.ranks.ranks import World, numerics, world
from robot_foundry.trainer.signals import StopFlag
from robot_foundry.trainer.substitutes import HELD_OUT, TRAIN, Substitutes
from robot_foundry.trainer.tasks.vla.build import input_maker, scales_from_json, scales_to_json
from robot_foundry.trainer.tasks.vla.config import Config
from robot_foundry.trainer.tasks.vla.inputs import Scales
from robot_foundry.trainer.tasks.vla.outliers import outlier_notes
from robot_foundry.trainer.tasks.vla.resolve import Job, first_scales

_AGREED = "give every rank the same command, code and versions (data.mix=NAME@VERSION)"


@dataclass(frozen=True)
class Outcome:
    """Where a finished run stands. Losses are per number of a chunk; None where nothing was measured."""

    run_dir: Path
    checkpoint: Path
    step: int
    resumed_from: int
    weights: str  # SHA-256 of all parameters, not averaged
    loss: float | None
    held_out_loss: float | None
    samples_per_s: float | None
    skipped: int  # steps of the whole run whose gradient was not finite
    substituted: Mapping[str, int]  # damaged samples of the whole run that were replaced, by split
    notes: tuple[str, ...]  # what was told before the first step, each as a FoundryWarning


def run_vla(job: Job, *, quiet: bool = False) -> Outcome:
    """Train to the end, or from where the run's folder stands. Every rank calls this.

    One process at a time trains a folder: FoundryError if another one does, or if the ranks do not agree on
    what they train. Raises Preempted after a checkpoint when SIGTERM or SIGUSR2 asked for it,
    KeyboardInterrupt on Ctrl-C.
    """
    config = job.config
    with ExitStack() as stack:
        stop = stack.enter_context(StopFlag())
        stack.enter_context(numerics(config.run.determinism))
        peers = stack.enter_context(world(config.run.device))
        agree(peers, _resolved(job, peers), _AGREED)
        from_main(peers, partial(_hold, job.run_dir, stack))
        start = choose_start(job, peers)
        stack.enter_context(machine.same_threads(start.state.get("ranks", ()), peers))
        scales = _scales(job, start, peers, quiet)
        far = from_main(peers, partial(_outliers, job, scales))
        loaders, missing = _loaders(job, peers)
        for loader in loaders.values():
            stack.enter_context(loader)
        read = {split: loader.mixture.id for split, loader in loaders.items()}
        agree(peers, {"normalizer": digest_of(scales_to_json(scales)), **read}, _AGREED)
        learner, fresh = build_learner(job, start, peers)
        notes = (*fresh, *missing, *far)
        _tell(notes, peers)
        sink = Sink(job.run_dir, start.step, peers)
        stack.callback(sink.close)
        replaced = Substitutes(
            peers, loaders, limit=config.run.max_substituted,
            counts=start.state.get("substituted", {}), damaged=start.lineage.get("damaged", ()),
        )  # fmt: skip
        skipped, streak = (start.state.get(name, 0) for name in ("skipped", "streak"))
        meters = Meters(peers, skipped=skipped, streak=streak, max_streak=config.run.max_skipped)
        history = History.begin(start, peers, job)
        save = Saver(job, start, peers, learner.tensors, scales, meters, replaced, history)
        prepare = input_maker(config, job.spaces, scales, peers.device)
        silent = quiet or not peers.is_main or start.step == config.num_steps
        progress = stack.enter_context(
            Progress(config.num_steps, "steps", "train", quiet=silent, done=start.step)
        )
        parts = Parts(
            world=peers,
            model=peers.wrap(learner.model),
            optimizers=learner.optimizers,
            ema=learner.ema,
            prepare=prepare,
            replaced=replaced,
            meters=meters,
            sink=sink,
            save=save,
            evaluate=partial(evaluate, learner, loaders.get(HELD_OUT), replaced, prepare, peers, config),
            advance=progress.advance,
        )
        reached = train(parts, _plan(config), _batches(loaders[TRAIN], start.step), start.step, stop)
        peers.barrier()
        if reached < config.num_steps:
            raise _stopped(stop, reached, config.num_steps, peers)
        totals = {"skipped": meters.state()["skipped"], "substituted": dict(replaced.counts)}
        return _outcome(job, reached, start.step, weights_digest(learner.model), notes, totals)


def _resolved(job: Job, peers: World) -> dict[str, Any]:
    """All that must be equal on every rank, as JSON."""
    return {
        "ranks": peers.size,
        "device": peers.device.type,
        **job.identity,
        "run": asdict(job.config.run),
        "code": versions(),
    }


def _hold(run_dir: Path, stack: ExitStack) -> None:
    """Hold the run's folder. The system lets go of it when this process ends, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(filelock.FileLock(run_dir / ".lock", timeout=0).acquire())
    except filelock.Timeout:
        raise FoundryError(
            f"another process is training {run_dir}",
            hint="wait for it, end it, or train elsewhere with run.dir=…",
        ) from None


def _scales(job: Job, start: Start, peers: World, quiet: bool) -> Scales:
    """Those of the checkpoint, else fitted by the main rank alone and given to all."""
    if start.folder is not None:
        return scales_from_json(checkpoint.read_json(start.folder, "normalizer.json"))
    return scales_from_json(from_main(peers, lambda: scales_to_json(first_scales(job, quiet=quiet))))


def _outliers(job: Job, scales: Scales) -> list[str]:
    return outlier_notes(job.store, job.mixture, job.spaces, job.config.data.window.stream, scales)


def _tell(notes: Iterable[str], peers: World) -> None:
    """Before the first step, as some are a reason to stop the run. Once, and not by each rank."""
    for note in notes if peers.is_main else ():
        warnings.warn(note, FoundryWarning, stacklevel=2)


def _loaders(job: Job, peers: World) -> tuple[dict[str, Loader], tuple[str, ...]]:
    """The loaders by split, and a note where nothing is held out."""
    loaders = {TRAIN: everywhere(peers, partial(_loader, job, peers, "train"))}
    try:
        loaders[HELD_OUT] = _loader(job, peers, "val")
    except FoundryError as error:
        return loaders, (f"no held-out loss: {error}",)
    return loaders, ()


def _loader(job: Job, peers: World, split: str) -> Loader:
    data = job.config.data
    return load(
        job.mixture, data.window, seed=job.config.seed, global_batch=data.global_batch, rank=peers.rank,
        world=peers.size, threads=data.threads, store=job.store, split=split, max_substituted=1.0,
    )  # fmt: skip


def _batches(loader: Loader, start: int) -> Iterator[Any]:
    loader.load_state_dict({**loader.state_dict(), "b": start})
    return iter(loader)


def _plan(config: Config) -> Plan:
    optim = config.optim
    return Plan(
        num_steps=config.num_steps,
        global_batch=config.data.global_batch,
        accumulate=config.run.accumulate,
        log_every=config.run.log_every,
        save_every=config.run.save_every,
        eval_every=config.run.eval_every,
        clip=optim.clip,
        precision=config.run.precision,
        schedule=partial(multiplier, total=config.num_steps, kind=optim.schedule, warmup=optim.warmup),
    )


def _stopped(stop: StopFlag, reached: int, steps: int, peers: World) -> BaseException:
    if not peers.is_main:
        return SystemExit(Preempted.exit_code)
    if stop.requested == signal.SIGINT:
        return KeyboardInterrupt()
    why = f" by {stop.requested.name}" if stop.requested else ""
    return Preempted(
        f"stopped{why} at step {reached} of {steps}; its checkpoint is written",
        hint="the same command goes on from there",
    )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of every parameter's name and bits: equal for equal weights."""
    hasher = hashlib.sha256()
    for name, parameter in model.named_parameters():
        hasher.update(name.encode())
        hasher.update(parameter.detach().cpu().numpy().tobytes())
    return hasher.hexdigest()


def _outcome(
    job: Job, reached: int, resumed_from: int, weights: str, notes: tuple[str, ...], totals: Mapping[str, Any]
) -> Outcome:
    records = read_metrics(job.run_dir)
    losses = [record["loss"] for record in records if "loss" in record]
    rates = [record["samples_per_s"] for record in records if "samples_per_s" in record]
    held_out = [record["held_out"] for record in records if "held_out" in record]
    return Outcome(
        run_dir=job.run_dir,
        checkpoint=checkpoint.complete(job.run_dir)[reached],
        step=reached,
        resumed_from=resumed_from,
        weights=weights,
        loss=losses[-1] if losses else None,
        held_out_loss=held_out[-1] if held_out else None,
        samples_per_s=rates[-1] if rates else None,
        **totals,
        notes=notes,
    )
