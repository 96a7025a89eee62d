"""A task that knows neither robots nor datasets is trained, resumed, evaluated and refused as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError, NothingSelected
from robot_foundry.runtime.keyed import generator
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.optim.optimizers import OptimConfig
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.settings import RunConfig
from robot_foundry.trainer.streams import Preparation, Prepared

ROWS, WIDTH = 8, 3


@dataclass(frozen=True)
class Rows:
    """Numbers of a step, of which those of every other row also have a sign to be told."""

    step: int
    x_BW: Tensor

    @property
    def counts(self) -> dict[str, int]:
        return {"sum": len(self.x_BW), "sign": len(self.x_BW[::2])}

    @property
    def sizes(self) -> dict[str, float]:
        return {"numbers": float(self.x_BW.numel())}

    def __len__(self) -> int:
        return len(self.x_BW)

    def rows(self, rows: slice) -> Rows:
        return Rows(self.step, self.x_BW[rows])


@dataclass(frozen=True)
class Numbers:
    x_BW: Tensor

    def to(self, device: torch.device) -> Numbers:
        return Numbers(self.x_BW.to(device))

    def pin_memory(self) -> Numbers:
        return Numbers(self.x_BW.pin_memory())


class Model(nn.Module):
    """Learns the sum of its numbers, and whether it is positive: two losses of unlike counts."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, 2)

    def forward(self, inputs: Numbers) -> dict[str, tuple[Tensor, Tensor]]:
        total_B = inputs.x_BW.sum(1)
        value_B, logit_B = self.out(inputs.x_BW).unbind(1)
        square = (value_B - total_B).square().sum()
        entropy = nn.functional.binary_cross_entropy_with_logits(
            logit_B[::2], (total_B[::2] > 0).float(), reduction="sum"
        )
        return {
            "sum": (square, torch.tensor(len(total_B))),
            "sign": (entropy, torch.tensor(len(total_B[::2]))),
        }


class Stream:
    substitutions = ()

    def __init__(self, split: str, prepare: Preparation) -> None:
        self.split, self.prepare, self.b = split, prepare, 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Prepared]:
        return self

    def __next__(self) -> Prepared:
        self.b += 1
        return self.batch(self.b - 1)

    def batch(self, b: int) -> Prepared:
        numbers = generator("numbers", self.split, b).standard_normal((ROWS, WIDTH), dtype="float32")
        return self.prepare(Rows(b, torch.from_numpy(numbers)))

    def state_dict(self) -> dict[str, Any]:
        return {"b": self.b, "mixture_id": self.split}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.b = state["b"]


@dataclass(frozen=True)
class Config:
    run: RunConfig
    name: str = "numbers"
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=0.05, schedule="constant", warmup=0.0))
    global_batch: int = ROWS
    sign_weight: float = 1.0


@dataclass(frozen=True)
class Task:
    """Both protocols at once: it measures nothing that would make it another."""

    config: Config
    run_dir: Path
    scale: float | None = None
    origin: None = None

    @property
    def num_steps(self) -> int:
        return self.config.run.num_steps(ROWS)

    @property
    def loss_weights(self) -> dict[str, float]:
        return {"sign": self.config.sign_weight}

    @property
    def identity(self) -> dict[str, Any]:
        return {"seed": self.config.seed, "lr": self.config.optim.lr}

    def completed(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        return dict(identity)

    def measure(self, *, quiet: bool) -> dict[str, Any]:
        return {"scale": 2.0}

    def measures_in(self, folder: Path) -> dict[str, Any]:
        return checkpoint.read_json(folder, "scale.json")

    def measured(self, measures: Mapping[str, Any]) -> Task:
        return replace(self, scale=measures["scale"])

    def build_model(self) -> nn.Module:
        return Model()

    def take_origin(self, model: nn.Module) -> tuple[str, ...]:
        return ()

    def equip(self, model: nn.Module, ranks: Ranks) -> AbstractContextManager[tuple[str, ...]]:
        return nullcontext(())

    @property
    def digest(self) -> dict[str, str]:
        return {"scale": str(self.scale)}

    def warnings(self) -> list[str]:
        return []

    def open_stream(self, split: str, ranks: Ranks) -> Stream:
        if split == "held_out" and self.config.run.eval_every is None:
            raise NothingSelected("there are no numbers to hold out")
        accumulate = self.config.run.accumulate if split == "train" else 1
        return Stream(split, Preparation(lambda rows: Numbers(rows.x_BW * self.scale), accumulate=accumulate))

    @property
    def datasets(self) -> dict[str, tuple[str, ...]]:
        return {}

    @property
    def held_out_samples(self) -> int:
        return self.config.run.eval_samples

    def figures(self, sums: HeldOutSums) -> dict[str, float]:
        """Among them the squared error of each of the numbers, of which a row has several."""
        assert sums.counts["sum"] == 2 * sums.counts["sign"] == self.held_out_samples
        return {"square": sums.losses["sum"] / sums.sizes["numbers"], "numbers": sums.sizes["numbers"]}

    def files(self) -> dict[str, str]:
        return {"scale.json": json.dumps({"scale": self.scale})}

    def lineage(self, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"begun": before.get("begun", "here")}


def task(run_dir: Path, steps: int, lr: float = 0.05, **run: Any) -> Task:
    config = Config(RunConfig(steps=steps, log_every=1, eval_every=20, eval_samples=16, **run))
    return Task(replace(config, optim=replace(config.optim, lr=lr)), run_dir)


def test_it_learns_all_of_its_losses(tmp_path: Path) -> None:
    outcome = run_task(task(tmp_path, 80), quiet=True)
    records = read_metrics(tmp_path)
    losses = [record for record in records if "loss" in record]
    for name in ("loss/sum", "loss/sign"):
        assert losses[-1][name] < 0.2 * losses[0][name]
    assert all(r["loss"] == pytest.approx(r["loss/sum"] + r["loss/sign"]) for r in losses)
    held_out = [record for record in records if "held_out" in record]
    assert [record["step"] for record in held_out] == [20, 40, 60, 80]
    assert held_out[-1]["held_out/sum"] < held_out[0]["held_out/sum"]
    assert outcome.held_out_loss == held_out[-1]["held_out"]
    assert outcome.figures == {"square": pytest.approx(held_out[-1]["held_out/sum"] / WIDTH), "numbers": 48}
    assert losses[-1]["numbers_per_s"] == pytest.approx(WIDTH * losses[-1]["samples_per_s"])
    assert outcome.rates.keys() == {"samples_per_s", "numbers_per_s"}
    assert checkpoint.read_json(outcome.checkpoint, "scale.json") == {"scale": 2.0}


def test_its_first_loss_is_that_of_its_first_weights(tmp_path: Path) -> None:
    """Of weights drawn with std 1/√3 and a bias of 0, over the numbers of step 0."""
    run_task(task(tmp_path, 1), quiet=True)
    weight = generator("init", 0, "out.weight").standard_normal((2, WIDTH), dtype="float32") * WIDTH**-0.5
    x = 2 * generator("numbers", "train", 0).standard_normal((ROWS, WIDTH), dtype="float32")
    expected = ((x @ weight[0] - x.sum(1)) ** 2).mean()
    assert read_metrics(tmp_path)[0]["loss/sum"] == pytest.approx(float(expected), rel=1e-5)


def test_the_gradient_is_that_of_losses_by_their_weights(tmp_path: Path) -> None:
    weighted = task(tmp_path, 1)
    run_task(replace(weighted, config=replace(weighted.config, sign_weight=3.0)), quiet=True)
    model = initialise(Model(), 0)
    numbers = generator("numbers", "train", 0).standard_normal((ROWS, WIDTH), dtype="float32")
    (square, n), (entropy, m) = model(Numbers(2 * torch.from_numpy(numbers))).values()
    (square / n + 3 * entropy / m).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    record = read_metrics(tmp_path)[0]
    assert record["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert record["loss"] == pytest.approx(record["loss/sum"] + 3 * record["loss/sign"])


def test_it_goes_on_with_the_bits_of_a_run_never_stopped(tmp_path: Path) -> None:
    whole = run_task(task(tmp_path / "whole", 9), quiet=True)
    run_task(task(tmp_path / "parts", 4), quiet=True)
    parts = run_task(task(tmp_path / "parts", 9), quiet=True)
    assert (parts.resumed_from, parts.weights) == (4, whole.weights)
    assert checkpoint.read_json(parts.checkpoint, "lineage.json")["begun"] == "here"
    with pytest.raises(FoundryError, match="cannot be resumed: lr is 0.05 there and 0.1 here"):
        run_task(task(tmp_path / "parts", 12, lr=0.1), quiet=True)


def test_microbatches_change_no_gradient(tmp_path: Path) -> None:
    """Four of two rows, in which each loss has other counts than in eight rows at once."""
    whole, parts = (run_task(task(tmp_path / str(n), 5, accumulate=n), quiet=True) for n in (1, 4))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-4)
    with pytest.raises(FoundryError, match="the 8 samples of a rank do not divide into run.accumulate=3"):
        run_task(task(tmp_path / "3", 5, accumulate=3), quiet=True)


def test_a_run_without_held_out_samples_says_so(tmp_path: Path) -> None:
    silent = task(tmp_path, 1)
    config = replace(silent.config, run=replace(silent.config.run, eval_every=None))
    with pytest.warns(UserWarning, match="no held-out loss: there are no numbers to hold out"):
        outcome = run_task(replace(silent, config=config), quiet=True)
    assert outcome.held_out_loss is None
