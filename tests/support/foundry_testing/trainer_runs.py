"""Shrunk training runs on small stores, for tests, or run as ranks: see `main`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from foundry_testing import ray_session
from foundry_testing.catalog_stores import POSE, make_version
from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_train
from robot_foundry.trainer.checkpoints.safe_reader import SafeReader
from robot_foundry.trainer.checkpoints.tensors import load as load_tensors
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.vla_task import VLATask

TINY = (
    "data.window.image=[16, 16]",
    "data.window.horizon=4",
    "data.global_batch=8",
    "model.backbone.vision={patch: 4, width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
    "model.backbone.decoder={width: 16, depth: 2, heads: 2, kv_heads: 1, mlp_hidden: 32}",
    "model.head={width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
    "model.taps=2",
    "model.tap_width=16",
    "model.draws=2",
    "run.steps=6",
    "run.save_every=2",
    "run.log_every=1",
    "run.eval_samples=8",
)


# What a run imports when it needs it: the optimiser, the metrics, and the readers of datasets.
IMPORTED_LATE = (
    "torch._dynamo",
    "torch.utils.tensorboard",
    "torch.utils.serialization",
    "numpy.ma",
    "PIL.Image",
    "tabulate",
    "robot_foundry.cli.train.common",
    "robot_foundry.loader.robot.drafts",
    "robot_foundry.loader.tokens.reader",
    "robot_foundry.catalog.robot.described",
    "robot_foundry.catalog.tokens.documents",
    "robot_foundry.trainer.tasks.vlm.resolving",
)


def make_store(path: Path) -> Store:
    """A store with 'lift' (pose, camera) and two robots whose joints are their own: 'seven' and 'six'."""
    store = Store(path)
    make_version(store, "lift", [[12, 15], [9, 14, 11]], images=True)
    for name, joints in (("seven", 7), ("six", 6)):
        dims = [*POSE, *(f"right.joint_position.{i}" for i in range(joints))]
        make_version(
            store, name, [[10, 12, 11], [13, 9, 14]], state=dims, action=dims, embodiment=name,
            images=name == "seven",
        )  # fmt: skip
    return store


def tiny(store: Store, run_dir: Path | str, *overrides: str) -> VLATaskConfig:
    return read_recipe(
        None, [*TINY, "data.mix=lift", f"data.store={store.url}", f"run.dir={run_dir}", *overrides]
    )


def run(store: Store, run_dir: Path, *overrides: str) -> Outcome:
    return run_task(resolve_vla(tiny(store, run_dir, *overrides)), quiet=True)


def filled(task: VLATask) -> VLA:
    """The model of a task with the weights that it starts from."""
    model = initialise(allocated(task.build_model, "cpu"), task.config.seed)
    task.take_origin(model)
    return model


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint."""
    stored = SafeReader(folder).read_metadata().state_dict_metadata
    values = {}
    for name, item in stored.items():
        assert isinstance(item, TensorStorageMetadata), f"{name} is no tensor"
        values[name] = torch.full(tuple(item.size), torch.nan)
    load_tensors(folder, values)
    return values


def differing(a: Path, b: Path) -> list[str]:
    """Names of the tensors whose bits differ between two checkpoints."""
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    return [name for name in ours if ours[name].numpy().tobytes() != theirs[name].numpy().tobytes()]


def records(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run without those that measure time."""
    timed = ("data_wait", "mfu", "memory_bytes", "memory_reserved_bytes")
    return [
        {
            name: value
            for name, value in record.items()
            if name not in timed and not name.endswith(("_wait", "_per_s"))
        }
        for record in read_metrics(run_dir)
    ]


def largest_difference(a: Path, b: Path, suffix: str | tuple[str, ...]) -> float:
    """Greatest difference between tensors of two checkpoints, relative to the greatest value of each."""
    ours, theirs = tensors(a), tensors(b)
    return max(
        float((ours[name] - theirs[name]).abs().max() / ours[name].abs().max().clamp_min(1e-12))
        for name in ours
        if name.endswith(suffix)
    )


def difference_of_moments(a: Path, b: Path) -> float:
    """Greatest difference of first moments of two checkpoints, relative to the greatest of each.

    That of a bias of keys, to which softmax is blind, is rounding alone.
    """
    ours, theirs = tensors(a), tensors(b)
    names = [name for name in ours if name.endswith(("/exp_avg", "/momentum_buffer"))]
    return max(
        float((ours[name] - theirs[name]).abs().max() / ours[name].abs().max())
        for name in names
        if "key.bias" not in name
    )


def main(phases: list[dict[str, Any]]) -> list[list[int]]:
    """Run each phase as forked ranks, one phase after the other; exit codes (negative: signals) of the ranks.

    A phase is {"size", "arguments" of foundry-train, "kill": a kill point or None, "ranks": what some ranks
    have beside it, {number: {"folder" to be in, "environment", "arguments"}}, "insist": a signal for rank 0,
    again and again until it ends, once rank 1 has stopped itself, "copy": [a folder, where it is copied to
    first]}. Forking spares each rank the import of torch, and of what else comes before a first step.
    """
    for name in IMPORTED_LATE:
        import_module(name)
    from torch._C._distributed_c10d import TCPStore

    codes = []
    for phase in phases:
        print("== a phase", file=sys.stderr, flush=True)
        if "copy" in phase:
            shutil.copytree(*phase["copy"])
        server = TCPStore("127.0.0.1", 0, None, True, timedelta(minutes=2), wait_for_workers=False)
        shared = {
            "WORLD_SIZE": str(phase["size"]),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(server.port),
        }
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "FOUNDRY_KILL_AT": phase.get("kill") or "none"}
        pids = []
        for rank in range(phase["size"]):
            own = phase.get("ranks", {}).get(str(rank), {})
            environment = {**shared, "RANK": str(rank), **own.get("environment", {})}
            arguments = [*phase["arguments"], *own.get("arguments", ())]
            pids.append(_fork(arguments, environment, own.get("folder", ".")))
        if "insist" in phase:
            first, second = pids
            codes.append([_insist(first, second, signal.Signals[phase["insist"]]), 0])
            continue
        codes.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
    return codes


def _insist(first: int, second: int, number: signal.Signals) -> int:
    """The exit code of the first rank, which waits for the second for ever; both have ended then."""
    os.waitpid(second, os.WUNTRACED)
    while os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        os.kill(first, number)
        signal.sigtimedwait([signal.SIGCHLD], 0.05)
    os.kill(second, signal.SIGKILL)
    os.waitpid(second, 0)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def _fork(arguments: list[str], environment: dict[str, str], folder: str) -> int:
    ray_session.end()
    pid = os.fork()
    if pid:
        return pid
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["foundry-train", *arguments]
    code: Any = 1
    try:
        foundry_train.main()
    except SystemExit as done:
        code = done.code
    finally:
        sys.stdout.flush()
        os._exit(code or 0)


def run_phases(
    phases: Sequence[Mapping[str, Any]], *, timeout: float | None = 300
) -> subprocess.CompletedProcess[str]:
    """`main` in a process of its own, of one thread a rank: the last line of its output is its result."""
    return subprocess.run(
        [sys.executable, "-m", "foundry_testing.trainer_runs", json.dumps(phases)],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


if __name__ == "__main__":
    result = main(json.loads(sys.argv[1]))
    print("\n" + json.dumps(result))
