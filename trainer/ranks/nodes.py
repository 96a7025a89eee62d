"""Several machines, or several launchers on one: which of them this is, and how they meet.

The first one keeps the store of all ranks. Each says how many ranks it has, and so gets the number of its
first; the first one gives all the same versions of what is trained on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, TCPStore

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.ranks import slurm
from robot_foundry.trainer.ranks.board import Board

PORT = 29400  # that of torchrun's rendezvous
MEETING_S = 600.0  # for all machines to come: a queue may start them one by one
_POLL_S = 0.5
_RANK = ("RANK", "WORLD_SIZE")
_STORE = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Nodes:
    """This launcher is number `index` of `count`, of which the first keeps the store at `host`:`port`."""

    count: int = 1
    index: int = 0
    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True)
class Met:
    """What a launcher knows when all are there.

    first        the number of its first rank; `local` that among all ranks on its machine, of which there
                 are `on_machine`
    size         of ranks of all launchers
    pins         overrides that the first launcher gives all ranks
    """

    store: TCPStore
    nodes: Nodes
    first: int
    size: int
    local: int
    on_machine: int
    pins: tuple[str, ...]

    @property
    def master(self) -> str:
        """The address of the store, as ranks of this launcher reach it."""
        return "127.0.0.1" if self.nodes.index == 0 else self.nodes.host

    def done(self, grace_s: float) -> None:
        """Say that the ranks of this launcher have ended; the first waits for the others to have said so.

        It keeps the store, in which their ranks read why the run ended.
        """
        room = _room(self.store)
        try:
            room.set(f"done/{self.nodes.index}", "")
            others = [f"done/{i}" for i in range(self.nodes.count)] if self.nodes.index == 0 else []
            _until(lambda: room.check(others) if others else True, grace_s)
        except RuntimeError:  # the first has ended already
            return


def chosen(
    nproc: int,
    nnodes: int | None = None,
    node_rank: int | None = None,
    master: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Nodes | None:
    """The launchers that the options ask for, or Slurm; None where this process is a rank, or the only one.

    UsageError where options are incomplete, or contradict each other or who started this process.
    """
    asked = [f"--{name}" for name, value in _given(nproc, nnodes, node_rank, master).items() if value]
    if any(environment.get(name) for name in _RANK):
        _of_launcher(asked, environment)
        return None
    step = slurm.step(environment)
    if step is not None:
        if nnodes not in (None, step.tasks):
            raise UsageError(
                f"--nnodes {nnodes}, but srun started {step.tasks} tasks, each of which is one of the nodes",
                hint="leave out --nnodes, or give srun --ntasks-per-node=1",
            )
        nnodes, node_rank = step.tasks, step.index if node_rank is None else node_rank
        master = master or f"{step.host}:{step.port}"
    if nnodes is None and (node_rank is not None or master is not None):
        raise UsageError(
            f"{' and '.join(asked)} without --nnodes", hint="--nnodes is how many launchers meet"
        )
    if nnodes in (None, 1):
        if node_rank:
            raise UsageError(f"--node-rank {node_rank}, but there is one node", hint="--nnodes 2")
        return Nodes() if nproc > 1 else None
    assert nnodes is not None
    if node_rank is None or master is None:
        raise UsageError(
            f"--nnodes {nnodes} needs --node-rank 0 … {nnodes - 1} and --master HOST:PORT",
            hint=f"on the first machine: --node-rank 0 --master {socket.gethostname()}:{PORT}; on the others "
            "the same with a --node-rank of their own",
        )
    if not 0 <= node_rank < nnodes:
        raise UsageError(f"--node-rank {node_rank} is none of 0 … {nnodes - 1}, as --nnodes is {nnodes}")
    return Nodes(nnodes, node_rank, *_address(master, node_rank))


def _given(
    nproc: int, nnodes: int | None, node_rank: int | None, master: str | None
) -> dict[str, int | str | bool]:
    return {
        "nproc": nproc > 1,
        "nnodes": nnodes or False,
        "node-rank": node_rank is not None,
        "master": master or False,
    }


def _of_launcher(asked: Sequence[str], environment: Mapping[str, str]) -> None:
    """UsageError unless a launcher that set RANK and WORLD_SIZE can be the one that started this process."""
    if "FOUNDRY_LAUNCHER" in environment:  # a rank of ours, which has the options of its launcher
        return
    there = [f"{name}={environment[name]}" for name in (*_RANK, *_STORE) if environment.get(name)]
    set_already = f"{', '.join(there)} in the environment, as torchrun sets it"
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} beside {set_already}: this process is one of several already",
            hint="leave the options out, or: unset " + " ".join(_RANK),
        )
    rank, size = (environment.get(name, "") for name in _RANK)
    if not rank.isdecimal() or not size.isdecimal() or int(rank) >= int(size):
        raise UsageError(
            f"{set_already}, but RANK must be one of 0 … WORLD_SIZE - 1",
            hint="set both, or: unset " + " ".join(_RANK),
        )
    missing = [name for name in _STORE if not environment.get(name)]
    if int(size) > 1 and missing:
        raise UsageError(
            f"{set_already}, but without {' and '.join(missing)}, which say where rank 0 is",
            hint="use torchrun, or --nproc and --nnodes, or set them",
        )


def _address(master: str, node_rank: int) -> tuple[str, int]:
    host, colon, port = master.rpartition(":") if ":" in master else (master, "", str(PORT))
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--master {master} is not HOST:PORT", hint=f"--master node001:{PORT}")
    if port == "0" and node_rank > 0:
        raise UsageError(
            f"--master {master}: a port of 0 lets the first node choose one, which the others cannot know",
            hint="the first one prints what it chose",
        )
    return host.removeprefix("[").removesuffix("]"), int(port)  # those of an IPv6 address


def meet(nodes: Nodes, nproc: int, pins: Sequence[str] = (), meeting_s: float = MEETING_S) -> Met:
    """Meet the other launchers. FoundryError names those that did not come within `meeting_s` seconds."""
    deadline = time.monotonic() + meeting_s
    mine = {"host": socket.gethostname(), "nproc": nproc, "pid": os.getpid(), "pins": list(pins)}
    while True:
        store = _store(nodes, deadline - time.monotonic())
        room = _room(store)
        there = json.loads(room.compare_set(f"node/{nodes.index}", "", json.dumps(mine)))
        if there == mine:
            break
        # One whose ranks have ended keeps the store for a moment more, and whoever was started again waits.
        if not _is_over(store, nodes.index) or time.monotonic() > deadline:
            raise FoundryError(
                f"node {nodes.index} is there already: process {there['pid']} on {there['host']}",
                hint="give each launcher its own --node-rank, or end the other one",
            )
        time.sleep(_POLL_S)
    keys = [f"node/{i}" for i in range(nodes.count)]
    if not _until(lambda: room.check(keys), deadline - time.monotonic()):
        absent = ", ".join(str(i) for i, key in enumerate(keys) if not room.check([key]))
        raise FoundryError(
            f"node {absent} of {nodes.count} did not come to {nodes.host}:{store.port} within "
            f"{meeting_s / 60:g} min",
            hint="look at its output; it needs the same --nnodes and --master, and a way to that port",
        )
    all_nodes = [json.loads(room.get(key)) for key in keys]
    before = all_nodes[: nodes.index]
    return Met(
        store=store,
        nodes=nodes,
        first=sum(node["nproc"] for node in before),
        size=sum(node["nproc"] for node in all_nodes),
        local=sum(node["nproc"] for node in before if node["host"] == mine["host"]),
        on_machine=sum(node["nproc"] for node in all_nodes if node["host"] == mine["host"]),
        pins=tuple(all_nodes[0]["pins"]),
    )


def _store(nodes: Nodes, left_s: float) -> TCPStore:
    if nodes.index == 0:
        try:
            # It listens on all addresses; the name is that by which it reaches itself.
            store = TCPStore(
                "127.0.0.1", nodes.port, None, True, timedelta(minutes=5), wait_for_workers=False
            )
        except RuntimeError:
            raise FoundryError(
                f"port {nodes.port} of this machine, which is the first of {nodes.count}, is taken",
                hint=f"--master {nodes.host}:PORT with another one, on all nodes",
            ) from None
        if nodes.count > 1:
            print(f"node 0 of {nodes.count}: --master {nodes.host}:{store.port}", file=sys.stderr, flush=True)
        return store
    if not _until(lambda: _listens(nodes.host, nodes.port), left_s):
        raise FoundryError(
            f"nobody answers at {nodes.host}:{nodes.port}, where the first of {nodes.count} nodes should be",
            hint="start --node-rank 0 on that machine, and let the others reach that port",
        )
    return TCPStore(nodes.host, nodes.port, None, False, timedelta(minutes=5), wait_for_workers=False)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
        return True
    except OSError:
        return False


def _until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it was done within so many seconds; signals are answered meanwhile."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _is_over(store: TCPStore, index: int) -> bool:
    """Whether the ranks of this node have ended, or those of all are about to."""
    return _room(store).check([f"done/{index}"]) or Board.of(store, 0).verdict() is not None


def _room(store: TCPStore) -> PrefixStore:
    return PrefixStore("robot_foundry/nodes", store)
