"""Writing a checkpoint, proven and whole, in the form of torch.distributed.checkpoint.

All ranks write at once, phase by phase; in each they learn whether it went well everywhere. PyTorch's own
`save` would plan anew each time, and knows neither copies nor why a disk refused.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.checkpoints import proof
from robot_foundry.trainer.checkpoints.checkpoint import FORMAT, STATE, read_json, remove
from robot_foundry.trainer.checkpoints.copies import Taken, live
from robot_foundry.trainer.checkpoints.proof import step_name
from robot_foundry.trainer.checkpoints.replica import Replica
from robot_foundry.trainer.checkpoints.together import NotWritten, on_main, together
from robot_foundry.trainer.ranks.ranks import Ranks

T = TypeVar("T")
METADATA = ".metadata"


@dataclass(frozen=True)
class Plan:
    """Which rank writes what of tensors: equal for all checkpoints of a run."""

    own: SavePlan
    metadata: Metadata

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], ranks: Ranks) -> Plan:
        """Every rank calls this at once. What all of them hold is written by one."""
        planner = DefaultSavePlanner()
        planner.set_up_planner(dict(tensors), is_coordinator=ranks.is_main)
        plans, metadata = planner.create_global_plan(ranks.gather_objects(planner.create_local_plan()))
        # A writer numbers the files of ranks, wherever they are written.
        return cls(FileSystemWriter(os.devnull).prepare_global_plan(plans)[ranks.rank], metadata)

    @property
    def names(self) -> list[str]:
        """The tensors of which this rank writes something."""
        return list(dict.fromkeys(item.index.fqn for item in self.own.items))

    @property
    def num_bytes(self) -> int:
        """What the tensors take, those of all ranks."""
        stored = self.metadata.state_dict_metadata.values()
        return sum(
            item.size.numel() * item.properties.dtype.itemsize
            for item in stored
            if isinstance(item, TensorStorageMetadata)
        )


@dataclass(frozen=True)
class Snapshot:
    """A run as it stood at one step: its state.json, this rank's tensors, the main rank's readable files."""

    state: Mapping[str, Any]
    taken: Taken
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return int(self.state["step"])


def write(folder: Path, snapshot: Snapshot, plan: Plan, ranks: Ranks) -> Path:
    """Write the checkpoint into `folder`, in place of one of that step that is there.

    All ranks call this, and all see it when it returns.

    NotWritten where there is no room, which leaves nothing of it; FoundryError on any other failure.
    """
    final = folder / step_name(snapshot.step)
    partial_ = final.with_name(final.name + ".tmp")
    try:
        on_main(ranks, partial(_begin, partial_, plan))
        shares = together(ranks, partial(_write_share, partial_, snapshot.taken, plan, ranks))
        on_main(ranks, partial(_complete, partial_, final, snapshot, plan, shares))
    except NotWritten as error:
        raise on_main(ranks, partial(_without_room, partial_, snapshot.step, plan, error)) from error
    return final


def copy(checkpoint: Path, replica: Replica, ranks: Ranks) -> None:
    """Copy a checkpoint that all ranks see to an object store: each what it wrote, the main rank the rest.

    NotWritten where the store does not take it.
    """
    step = read_json(checkpoint, STATE)["step"]
    folder = on_main(ranks, partial(_stored, checkpoint, replica, partial(replica.begin, step)))
    names = [*proof.read_manifest(checkpoint), proof.MANIFEST]
    own = [name for name in names if name.startswith(f"__{ranks.rank}_")]
    rest = [name for name in names if ranks.is_main and not name.startswith("__")]
    put = partial(replica.put, folder, checkpoint, [*own, *rest])
    together(ranks, partial(_stored, checkpoint, replica, put))
    on_main(ranks, partial(_stored, checkpoint, replica, partial(replica.finish, folder, checkpoint)))


def save(
    folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor], files: Mapping[str, str]
) -> Path:
    """`write` for one process, which waits for it."""
    alone = Ranks(0, 1, next(iter(tensors.values())).device)
    plan = Plan.of(tensors, alone)
    return write(folder, Snapshot(state, live(tensors, plan.names), files), plan, alone)


def _stored(checkpoint: Path, replica: Replica, work: Callable[[], T]) -> T:
    try:
        return work()
    except FoundryError:
        raise
    except Exception as error:  # packages of object stores have no common one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NotWritten(
            f"{checkpoint} was not copied to {replica.url}: {reason}",
            hint="look at the network, the credentials and the quota of the store",
        ) from error


def _begin(partial_: Path, plan: Plan) -> None:
    for stale in (*partial_.parent.glob("*.tmp"), *partial_.parent.glob(".trash-*")):
        shutil.rmtree(stale)
    partial_.mkdir(parents=True)
    if shutil.disk_usage(partial_).free < plan.num_bytes:  # else others would find the disk full for a while
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class _Share:
    """What one rank wrote: for PyTorch's index, and for the manifest."""

    results: list[WriteResult]
    entries: proof.Entries


def _write_share(partial_: Path, taken: Taken, plan: Plan, ranks: Ranks) -> _Share:
    """The tensors of this rank. Each rank hashes the files that it wrote itself."""
    taken.ready()
    partial_.mkdir(parents=True, exist_ok=True)  # where ranks do not share it, the main rank tells
    # Copies lie in memory of the host, so nothing is to be fetched ahead.
    writer = FileSystemWriter(partial_, per_thread_copy_ahead=0)
    results = writer.write_data(plan.own, _FromCopies(taken.tensors)).value()
    written = [path.name for path in partial_.glob(f"__{ranks.rank}_*.distcp")]
    return _Share(results, proof.entries(partial_, written))


class _FromCopies(DefaultSavePlanner):
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        kill_point("checkpoint-tensor")
        return self._tensors[write_item.index.fqn]


def _complete(partial_: Path, final: Path, snapshot: Snapshot, plan: Plan, shares: list[_Share]) -> None:
    """Write what names and proves the tensors, and give the checkpoint its name."""
    FileSystemWriter(partial_).finish(plan.metadata, [share.results for share in shares])
    texts = {**snapshot.files, STATE: json.dumps({"format": FORMAT, **snapshot.state}, indent=1)}
    for name, text in texts.items():
        _write_synced(partial_ / name, text)
    listed = {name: entry for share in shares for name, entry in share.entries.items()}
    listed |= proof.entries(partial_, [METADATA, *texts])
    proof.check_present(partial_, listed)
    _write_synced(partial_ / proof.MANIFEST, proof.manifest_text(listed))
    sync(partial_)
    kill_point("checkpoint-written-not-renamed")
    if final.exists():  # one that was passed over, as it is not whole
        remove(final)
    partial_.rename(final)
    sync(final.parent)
    kill_point("checkpoint-renamed")


def _without_room(partial_: Path, step: int, plan: Plan, error: NotWritten) -> NotWritten:
    """The sentence for a checkpoint that did not fit, of which nothing is left."""
    shutil.rmtree(partial_, ignore_errors=True)
    place = partial_.parent if partial_.parent.is_dir() else partial_.parent.parent
    free = shutil.disk_usage(place).free
    return NotWritten(
        f"the checkpoint of step {step} was not written: {partial_.parent} has no room for its "
        f"{plan.num_bytes / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free ({error.message})",
        hint="free space there, or keep fewer checkpoints (run.keep_last, run.keep_every)",
    )


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
