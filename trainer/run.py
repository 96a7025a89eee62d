"""A whole training run: resolve the mixture, resume or start, train, and leave checkpoints behind."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor, nn
from torch.func import functional_call

from robot_foundry.loader.load import Loader, load
from robot_foundry.runtime.errors import FoundryError, Preempted
from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer import checkpoint
from robot_foundry.trainer.build import (
    build_model,
    geometry,
    input_maker,
    scales_from_json,
)
from robot_foundry.trainer.config import Config
from robot_foundry.trainer.job import Job, checkpoint_files, first_scales
from robot_foundry.trainer.loop import Parts, Plan, autocast, train
from robot_foundry.trainer.meters import Meters, Sink, read_metrics
from robot_foundry.trainer.models.inputs import Scales
from robot_foundry.trainer.optim import Ema, Optimizers
from robot_foundry.trainer.outliers import outlier_notes
from robot_foundry.trainer.parallel import World, numerics, world
from robot_foundry.trainer.recipe import completed
from robot_foundry.trainer.schedule import multiplier
from robot_foundry.trainer.signals import StopFlag


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
    notes: tuple[str, ...]


def run_vla(job: Job, *, quiet: bool = False) -> Outcome:
    """Train to the end, or from where the run's folder stands. Every rank calls this.

    One process at a time trains a folder: FoundryError if another one does. Raises Preempted after a
    checkpoint when SIGTERM or SIGUSR2 asked for it, KeyboardInterrupt on Ctrl-C.
    """
    config = job.config
    with ExitStack() as stack:
        if int(os.environ.get("RANK", 0)) == 0:
            stack.enter_context(_sole_writer(job.run_dir))
        stop = stack.enter_context(StopFlag())
        stack.enter_context(numerics(config.run.determinism))
        peers = stack.enter_context(world(config.run.device))
        resumed = checkpoint.latest(job.run_dir)
        state = _resumable(resumed, job) if resumed else {"step": 0, "skipped": 0, "streak": 0}
        peers.barrier()
        scales = _scales(job, resumed, peers, quiet)
        far = outlier_notes(job.store, job.mixture, job.spaces, config.data.window.stream, scales)
        model = build_model(config.model, geometry(config, job.spaces), config.seed)
        fresh: tuple[str, ...] = ()
        if job.origin is not None and not resumed:
            fresh = job.origin.load_weights(model, job.spaces, config.init.only)
        model.to(peers.device)
        optimizers = Optimizers(model, config.optim)
        ema = (
            Ema(model, power=config.optim.ema_power, maximum=config.optim.ema_max)
            if config.optim.ema_max
            else None
        )
        tensors = dict(_tensors(model, optimizers, ema))
        if resumed:
            checkpoint.load(resumed, tensors)
        sink = Sink(job.run_dir, state["step"], peers)
        stack.callback(sink.close)
        meters = Meters(
            peers, skipped=state["skipped"], streak=state["streak"], max_streak=config.run.max_skipped
        )
        prepare = input_maker(config, job.spaces, scales, peers.device)
        loader = stack.enter_context(_loader(job, peers, "train"))
        held_out, note = _held_out(job, peers)
        if held_out is not None:
            stack.enter_context(held_out)
        identity = state.get("identity", job.identity)
        files = checkpoint_files(job, scales, resumed)
        remaining = config.num_steps - state["step"]
        progress = stack.enter_context(
            Progress(remaining, "steps", "train", quiet=quiet or not peers.is_main or remaining < 1)
        )

        def save(step: int) -> None:
            written = {"step": step, "identity": identity, **meters.state()}
            checkpoint.save(job.run_dir, written, tensors, files, peers)
            if peers.is_main:
                checkpoint.retain(
                    job.run_dir, keep_last=config.run.keep_last, keep_every=config.run.keep_every
                )

        weights = ema.weights if ema else dict(model.named_parameters())
        parts = Parts(
            world=peers,
            model=peers.wrap(model),
            optimizers=optimizers,
            ema=ema,
            prepare=prepare,
            meters=meters,
            sink=sink,
            save=save,
            evaluate=partial(evaluate, model, weights, held_out, prepare, peers, config),
            advance=progress.advance,
        )
        reached = train(parts, _plan(config), _batches(loader, state["step"]), state["step"], stop)
        peers.barrier()
        if reached < config.num_steps:
            raise _stopped(stop, reached, config.num_steps, peers)
        return _outcome(job, reached, state["step"], weights_digest(model), (*fresh, *note, *far))


def _sole_writer(run_dir: Path) -> filelock.AcquireReturnProxy:
    """Hold the run's folder. The system lets go of it when this process ends, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        return filelock.FileLock(run_dir / ".lock", timeout=0).acquire()
    except filelock.Timeout:
        raise FoundryError(
            f"another process is training {run_dir}",
            hint="wait for it, end it, or train elsewhere with run.dir=…",
        ) from None


def evaluate(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    held_out: Loader | None,
    prepare: Callable[[Any], Any],
    peers: World,
    config: Config,
) -> dict[str, float]:
    """Losses of `weights` on the first held-out samples, the same noise every time; {} without any."""
    if held_out is None:
        return {}
    batches = -(-config.run.eval_samples // config.data.global_batch)
    sums: dict[str, Tensor] = {}
    with torch.no_grad(), autocast(peers, config.run.precision):
        for b in range(batches):
            for name, pair in functional_call(model, dict(weights), (prepare(held_out.batch(b)),)).items():
                sums[name] = sums.get(name, 0) + torch.stack([value.double() for value in pair]).cpu()
    means = {}
    for name in sorted(sums):
        total, count = peers.sum(sums[name]).tolist()
        means[f"held_out/{name}"] = total / max(count, 1)
    return {"held_out": sum(means.values()), **means}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Each leaf in which two nested mappings differ, as `path is … there and … here`."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{name}.")
        elif old != new:
            yield f"{path}{name} is {old!r} there and {new!r} here"


def _resumable(resumed: Path, job: Job) -> dict[str, Any]:
    state = checkpoint.read_json(resumed, checkpoint.STATE)
    before = completed(state["identity"])
    if job.origin is None and job.config.init.weights is not None:
        del before["origin"]  # it is gone, and no longer needed
    found = list(differences(before, job.identity))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise FoundryError(
            f"{job.run_dir} cannot be resumed: {found[0]}{more}",
            hint="train elsewhere (run.dir=…), or with the settings in its config.yaml",
        )
    if state["step"] > job.config.num_steps:
        raise FoundryError(
            f"{job.run_dir} is at step {state['step']} already, beyond the {job.config.num_steps} asked"
        )
    return state


def _scales(job: Job, resumed: Path | None, peers: World, quiet: bool) -> Scales:
    """Fitted by the main rank first, so that the others find its statistics in the store's cache."""
    if resumed:
        return scales_from_json(checkpoint.read_json(resumed, "normalizer.json"))
    if not peers.is_main:
        peers.barrier()
    scales = first_scales(job, quiet=quiet or not peers.is_main)
    if peers.is_main:
        peers.barrier()
    return scales


def _tensors(model: nn.Module, optimizers: Optimizers, ema: Ema | None) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        yield f"model/{name}", parameter.detach()
    for name, tensor in optimizers.tensors():
        yield f"optim/{name}", tensor
    for name, tensor in (ema.weights if ema else {}).items():
        yield f"ema/{name}", tensor


def _loader(job: Job, peers: World, split: str) -> Loader:
    data = job.config.data
    return load(
        job.mixture, data.window, seed=job.config.seed, global_batch=data.global_batch, rank=peers.rank,
        world=peers.size, threads=data.threads, store=job.store, split=split,
    )  # fmt: skip


def _held_out(job: Job, peers: World) -> tuple[Loader | None, tuple[str, ...]]:
    try:
        return _loader(job, peers, "val"), ()
    except FoundryError as error:
        return None, (f"no held-out loss: {error}",)


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


def _outcome(job: Job, reached: int, resumed_from: int, weights: str, notes: tuple[str, ...]) -> Outcome:
    records = read_metrics(job.run_dir)
    losses = [record["loss"] for record in records if "loss" in record]
    rates = [record["samples_per_s"] for record in records if "samples_per_s" in record]
    held_out = [record["held_out"] for record in records if "held_out" in record]
    final = checkpoint.latest(job.run_dir)
    assert final is not None
    return Outcome(
        run_dir=job.run_dir,
        checkpoint=final,
        step=reached,
        resumed_from=resumed_from,
        weights=weights,
        loss=losses[-1] if losses else None,
        held_out_loss=held_out[-1] if held_out else None,
        samples_per_s=rates[-1] if rates else None,
        notes=notes,
    )
