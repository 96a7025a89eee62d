"""Weights that ranks share train as those that each holds, and a run may change between the two."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from foundry_testing.trained_tasks import LLM, VLA, TrainedTask
from foundry_testing.trainer_runs import differing, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.sizes.presets import VLAS
from robot_foundry.trainer.models.units import units
from robot_foundry.trainer.models.vla import VLA as Policy
from robot_foundry.trainer.models.vla import Geometry

KILLED = -signal.SIGKILL
SHARED = ("run.shard=0",)
LONG = (
    "run.steps=20", "run.save_every=10", "run.keep_every=10", "run.eval_every=7", "run.accumulate=2",
    "optim.optimizer=muon",
)  # fmt: skip


@pytest.fixture(scope="module", params=[VLA, LLM], ids=str)
def task(request: pytest.FixtureRequest) -> TrainedTask:
    return request.param


@pytest.fixture(scope="module")
def store(task: TrainedTask, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return task.make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ranks(task: TrainedTask, store: Store, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("runs")

    def phase(size: int, name: str, *more: str, kill: str | None = None, **beside: Any) -> dict[str, Any]:
        return {"size": size, "arguments": task.arguments(store, root / name, *more), "kill": kill, **beside}

    phases = [
        phase(2, "ddp", *LONG, "--json"),
        phase(2, "ddp", *LONG, *SHARED, "--json"),  # it is finished: its weights are read as shares
        phase(2, "fsdp", *LONG, *SHARED),
        phase(4, "hsdp", *LONG, "run.accumulate=1", "run.shard=2"),
        phase(2, "killed", *LONG, *SHARED, kill="train-step:13"),
        phase(1, "moved", *LONG, copy=[str(root / "killed"), str(root / "moved")]),
        phase(2, "killed", *LONG, *SHARED, kill="checkpoint-tensor:4"),
        phase(2, "killed", *LONG, *SHARED),
        phase(2, "bf16", "run.steps=2", *SHARED, "run.precision=bf16"),
    ]
    done = run_phases(phases, timeout=None)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    weights = re.findall(r'"weights": "(\w+)"', done.stdout)
    return SimpleNamespace(root=root, codes=codes, text=done.stderr, weights=weights)


def losses(run_dir: Path) -> torch.Tensor:
    """Of all steps, and of held-out samples, with averaged weights, between them."""
    of = [record.get("loss", record.get("held_out")) for record in records(run_dir)]
    return torch.tensor(of, dtype=torch.float64)


def test_losses_are_those_of_one_process(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, tmp_path: Path
) -> None:
    assert ranks.codes[:4] == [[0, 0], [0, 0], [0, 0], [0] * 4], ranks.text
    alone = losses(task.run(store, tmp_path / "alone", *LONG).run_dir)
    assert len(alone) == 20 + 3
    for name in ("ddp", "fsdp", "hsdp"):
        assert (losses(ranks.root / name) - alone).abs().max() <= 1e-6, name


def test_weights_are_those_of_the_checkpoint_however_ranks_hold_them(
    task: TrainedTask, store: Store, ranks: SimpleNamespace
) -> None:
    """Two ranks that hold all wrote it; two that share read it, and one process does."""
    alone = task.run(store, ranks.root / "ddp", *LONG)
    assert alone.resumed_from == 20
    assert ranks.weights == [alone.weights] * 2


def test_killed_ranks_that_share_weights_end_as_those_never_killed(ranks: SimpleNamespace) -> None:
    at_step, _, written, resumed = ranks.codes[4:8]
    assert (at_step, resumed) == ([KILLED, KILLED], [0, 0]), ranks.text
    assert KILLED in written and set(written) <= {KILLED, 1}, ranks.text  # or it lost the other
    there, here = (checkpoint.latest(ranks.root / name) for name in ("fsdp", "killed"))
    assert there is not None and here is not None
    assert differing(there, here) == []
    assert records(ranks.root / "fsdp") == records(ranks.root / "killed")


def test_a_run_goes_on_where_ranks_hold_its_weights_otherwise(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, tmp_path: Path
) -> None:
    """Ten steps of two ranks that share, ten of one process: the order is one, so the losses are.

    It goes on from a copy of the killed run.
    """
    assert ranks.codes[4:6] == [[KILLED, KILLED], [0]], ranks.text
    assert "run.shard 2 there and 1 here" in ranks.text
    alone = losses(task.run(store, tmp_path / "alone", *LONG).run_dir)
    assert (losses(ranks.root / "moved") - alone).abs().max() <= 1e-6


def test_groups_that_do_not_fit_are_refused(task: TrainedTask, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run.shard: 1 ranks do not divide into groups of 2") as raised:
        task.run(store, tmp_path / "run", "run.shard=2")
    assert raised.value.hint == "run.shard is one of 1"
    with pytest.raises(UsageError, match="run.shard: must be at least 0"):
        task.tiny(store, tmp_path / "run", "run.shard=-1")


def test_bf16_trains(ranks: SimpleNamespace) -> None:
    assert ranks.codes[8] == [0, 0], ranks.text
    assert losses(ranks.root / "bf16").isfinite().all()


def test_computing_again_changes_no_bit_and_keeps_less(
    task: TrainedTask, store: Store, tmp_path: Path
) -> None:
    def kept_bytes(run_dir: Path, *more: str) -> tuple[str, int]:
        kept = 0

        def pack(value: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += value.nbytes
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            outcome = task.run(store, run_dir, "run.steps=3", *more)
        return outcome.weights, kept

    weights, most = kept_bytes(tmp_path / "kept")
    again, least = kept_bytes(tmp_path / "again", "run.recompute=true")
    assert again == weights
    assert least < most


def test_units_are_blocks_in_their_order() -> None:
    with torch.device("meta"):
        model = Policy(VLAS["vla_tiny"], Geometry(10, 10, 1, 16, (64, 64)))
    backbone = model.backbone
    assert units(model) == [*backbone.vision.blocks, *backbone.decoder.blocks, *model.head.blocks]
