"""The ranks of a run: one process, or several under torchrun joined by DDP or FSDP2.

Communication of the trainer goes through here; models know nothing of it. Counts and flags travel over gloo
on the CPU, so that no step waits for a GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from robot_foundry.runtime.errors import FoundryError, Preempted
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.ranks.board import Board
from robot_foundry.trainer.ranks.heartbeat import Heartbeat
from robot_foundry.trainer.ranks.sharding import mesh_of, shard_model, sync_gradients

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda")
_GONE = ("closed by peer", "reset by peer", "Broken pipe")  # how gloo says that a process is gone
_SILENT = ("Timed out waiting", "wait timeout after")  # and that it did not answer
JOINING = timedelta(minutes=15)  # for all ranks to come: a machine may load what it needs over a network
# The others wait while the main rank fits statistics of a mixture, however large. Steps have `run.patience`.
PATIENCE = timedelta(hours=12)
# Sentences come from ranks that wait over gloo and from their heartbeats. NCCL, which ends a process with
# none, is to do so only where these did not: a kernel that waits for a peer is seen by its watchdog alone.
_NCCL_MORE = timedelta(minutes=2)


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    mesh       how they share weights, None where each holds all
    group      by which connections they exchange, None for those of the training
    heartbeat  tells the others of this one, None where there are none
    """

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh | None = None
    group: dist.ProcessGroup | None = None
    heartbeat: Heartbeat | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextlib.contextmanager
    def beside(self) -> Iterator[Ranks]:
        """The same ranks with connections of their own, over the CPU: for another thread, whose exchanges
        must not mix with those of the training. Every rank calls this."""
        if self.size == 1:
            yield self
            return
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        try:
            yield replace(self, group=group, heartbeat=None)  # which counts what the training comes to
        finally:
            dist.destroy_process_group(group)

    def place(
        self,
        make: Callable[[], nn.Module],
        precision: str = "fp32",
        fill: Callable[[nn.Module], None] | None = None,
    ) -> nn.Module:
        """The model that `make` makes, with memory on this rank for what it holds of it, and no values yet.

        Where weights are shared, no rank ever holds all of them; but `fill`, where it is given, gives a whole
        model its values in memory of the host, of which each rank keeps its share.
        """
        if self.mesh is None:
            model = allocated(make, self.device)
            if fill is not None:
                fill(model)
            return model
        if fill is not None:
            model = allocated(make, "cpu")
            fill(model)
            shard_model(model, self.mesh, precision)
            return model.to(self.device)
        return allocated(make, self.device, before=partial(shard_model, mesh=self.mesh, precision=precision))

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it; its gradients become means over ranks."""
        if self.size == 1 or self.mesh is not None:
            return model
        wrapped = DistributedDataParallel(model)
        # An object lets go of what it holds in the order in which it got it. Would the reducer be the last to
        # hold the group, it would wait with the interpreter's lock for a thread that may be waiting for it.
        vars(wrapped)["held_longest"] = dist.group.WORLD
        return wrapped

    @contextlib.contextmanager
    def grad_sync(self, model: nn.Module, on: bool) -> Iterator[None]:
        """Around the forward and backward pass of a microbatch; ranks exchange gradients only where `on`."""
        sync_gradients(model, on)
        if isinstance(model, DistributedDataParallel) and not on:
            with model.no_sync():
                yield
        else:
            yield

    def exchange(
        self, counts: Mapping[str, int], stop: bool, replaced: int = 0
    ) -> tuple[dict[str, int], bool, int]:
        """Counts summed over ranks, whether any rank was asked to stop, and the sum of `replaced`."""
        names = sorted(counts)
        vector = torch.tensor([*(counts[name] for name in names), int(stop), replaced], dtype=torch.int64)
        *sums, stops, all_replaced = self.sum(vector).tolist()
        return dict(zip(names, sums, strict=True)), stops > 0, all_replaced

    def reached(self, step: int) -> None:
        """Tell the others that this rank finished so many steps."""
        if self.heartbeat is not None:
            self.heartbeat.step = step

    @contextlib.contextmanager
    def stepping(self, patience: float, step: int) -> Iterator[None]:
        """Inside, a rank that does not come within `patience` seconds to where the others wait ends all.

        `step` is how many steps are finished.
        """
        self.reached(step)
        if self.heartbeat is None:
            yield
            return
        self.heartbeat.stepping = True
        _wait_for(timedelta(seconds=patience), self.mesh)
        yield
        _wait_for(PATIENCE, self.mesh)
        self.heartbeat.stepping = False

    def sum(self, vector: Tensor) -> Tensor:
        """Sum over ranks of a CPU tensor."""
        if self.size > 1:
            if self.heartbeat is not None:
                self.heartbeat.calls += 1
            dist.all_reduce(vector, group=self.group)
        return vector

    def total(self, value: Tensor) -> Tensor:
        """Sum over ranks of a tensor on this rank's device; the host does not wait for it."""
        if self.size > 1:
            dist.all_reduce(value, group=self.group)
        return value

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(torch.zeros(1))

    def gather(self, value: Any) -> list[Any]:
        """The JSON value of each rank, on every rank."""
        if self.size == 1:
            return [value]
        data = json.dumps(value).encode()
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(data)
        text = torch.zeros(self.size, int(self.sum(sizes).max()), dtype=torch.uint8)
        text[self.rank, : len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        rows = zip(self.sum(text), sizes.tolist(), strict=True)
        return [json.loads(row[:size].numpy().tobytes()) for row, size in rows]

    def gather_objects(self, value: T) -> list[T]:
        """As `gather`, of what is no JSON: it is pickled, among processes of one run alone."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values


@contextlib.contextmanager
def joined(device: str, shard: int = 1, patience: float = 600.0) -> Iterator[Ranks]:
    """Join the ranks that the environment names (RANK, WORLD_SIZE, LOCAL_RANK as torchrun sets them).

    Groups of `shard` ranks hold the weights among them, 0 is all (see `ranks.sharding`). A rank that fails
    inside says so to the others, whose next exchange then fails with its sentence; one that gives no sign of
    life for `patience` seconds ends them as well.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _chosen(device)
    if size == 1:
        yield Ranks(rank, size, chosen, mesh_of(size, shard, chosen))
        return
    store, rank, size = next(rendezvous("env://", rank, size, timeout=JOINING))
    board = Board.at(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size)
    backend = "gloo" if chosen.type == "cpu" else "cpu:gloo,cuda:nccl"
    with Heartbeat(board, rank, size, patience) as heartbeat:
        try:
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=JOINING)
            mesh = mesh_of(size, shard, chosen)
            _wait_for(PATIENCE, mesh)
            yield Ranks(rank, size, chosen, mesh, heartbeat=heartbeat)
        except Preempted:
            raise
        except Exception as error:
            raise _shared_failure(error, heartbeat, rank) from error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def _chosen(device: str) -> torch.device:
    """The device of this rank. Where a scheduler shows each process one GPU, that is the one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise FoundryError("run.device is cuda, but this machine has no CUDA device", hint="run.device=cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local, number = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= number > 1:
        raise FoundryError(
            f"this is rank {local} of this machine, counted from 0, which has {number} GPUs",
            hint=f"--nproc {number}, or run.device=cpu",
        )
    chosen = torch.device("cuda", local if number > 1 else 0)
    torch.cuda.set_device(chosen)
    return chosen


def _wait_for(patience: timedelta, mesh: DeviceMesh | None) -> None:
    """How long an exchange waits for its ranks from now on, in all groups of this rank."""
    groups = [dist.group.WORLD, *([] if mesh is None else mesh.get_all_groups())]
    for group in groups:
        assert isinstance(group, dist.ProcessGroup)
        for device in group._device_types:
            more = _NCCL_MORE if device.type == "cuda" else timedelta(0)
            group._get_backend(device)._set_default_timeout(patience + more)


def _shared_failure(error: Exception, heartbeat: Heartbeat, rank: int) -> Exception:
    """The error to end with: why the run ends, where this rank only lost its peers; else its own."""
    lost = _lost(error, rank)
    if lost is None:
        first = heartbeat.failed(str(error) or type(error).__name__)
    else:  # it did not fail itself, so no other rank shall name it
        first = heartbeat.lost(late=any(words in str(error) for words in _SILENT))
    if isinstance(error, FoundryError) or not isinstance(error, RuntimeError):
        return error
    if first is not None and (first.rank != rank or lost is not None):
        return first.error()
    return lost or error


def _lost(error: Exception, rank: int) -> FoundryError | None:
    """What to say where another rank is gone or silent; None where this one failed itself."""
    if not isinstance(error, RuntimeError):
        return None
    reason = str(error).partition("\n")[0]
    if any(words in reason for words in _GONE) or isinstance(error, dist.DistNetworkError):
        return FoundryError(
            f"rank {rank} lost the connection to another rank ({reason})",
            hint="the output of the rank that ended first says why",
        )
    if any(words in reason for words in _SILENT) or isinstance(error, dist.DistStoreError):
        return FoundryError(
            f"rank {rank} waited for another rank in vain ({reason})",
            hint="end all ranks and look at what the others did last; the same command goes on",
        )
    return None
