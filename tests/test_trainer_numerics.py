"""What a step does to the weights: skipped steps, averages, optimisers, mixed robots, counts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing.trainer_runs import make_store, noise, records, run, tensors, tiny

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.meters import Meters
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import OptimConfig, Optimizers, parameter_groups
from robot_foundry.trainer.ranks.numerics import numerics, slow_precision
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.tasks.vla.inputs import InputMaker, build_inputs
from robot_foundry.trainer.tasks.vla.policy_spaces import mixture_spaces
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.scales import fit_scales
from robot_foundry.windows.chunk_statistics import representation_statistics

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


# --- optimisers -------------------------------------------------------------------------------------------


class Toy(torch.nn.Module):
    """Names as in a real model: a block's matrix and norm in the backbone, an embedding, an output."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Module()
        block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        self.backbone.blocks = torch.nn.ModuleList([block])
        self.backbone.embedding = torch.nn.Embedding(3, 4)
        self.out = torch.nn.Linear(4, 2)
        for i, parameter in enumerate(self.parameters()):
            parameter.data = noise(*parameter.shape, seed=i)
            parameter.grad = noise(*parameter.shape, seed=100 + i)


def test_matrices_decay_and_muon_takes_those_in_blocks() -> None:
    model = Toy()
    names = {parameter: name for name, parameter in model.named_parameters()}
    config = OptimConfig(optimizer="muon", lr=1.0, muon_lr=2.0, weight_decay=0.1, backbone_lr_scale=0.5)
    adamw, muon = (
        {tuple(names[p] for p in group["params"]): (group["peak"], group["weight_decay"]) for group in groups}
        for groups in parameter_groups(model, config)
    )
    assert muon == {("backbone.blocks.0.0.weight",): (1.0, 0.1)}
    vectors = ("backbone.blocks.0.0.bias", "backbone.blocks.0.1.weight", "backbone.blocks.0.1.bias")
    assert adamw == {
        (*vectors, "backbone.embedding.weight"): (0.5, 0.0),
        ("out.weight",): (1.0, 0.1),
        ("out.bias",): (1.0, 0.0),
    }


def test_adamw_is_that_of_torch() -> None:
    ours, theirs = Toy(), Toy()
    optimizers = Optimizers(ours, OptimConfig(lr=0.1, weight_decay=0.0))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.05, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(3):
        optimizers.step(torch.tensor(True), 0.5)
        reference.step()
    assert optimizers.lr == 0.05
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(optimizer: str) -> None:
    model = Toy()
    optimizers = Optimizers(model, OptimConfig(optimizer=optimizer, weight_decay=0.1))
    optimizers.step(torch.tensor(True), 1.0)

    def bits() -> list[bytes]:
        state = [tensor for _, tensor in optimizers.tensors()]
        return [tensor.detach().numpy().tobytes() for tensor in (*model.parameters(), *state)]

    before = bits()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad[..., 0] = torch.nan
    optimizers.step(torch.tensor(False), 1.0)
    assert bits() == before
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = noise(*parameter.shape, seed=100 + i)
    optimizers.step(torch.tensor(True), 1.0)
    assert all(a != b for a, b in zip(bits(), before, strict=True))


def test_the_average_follows_its_formula() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = Ema(model, power=0.75, maximum=0.5)
    expected = 0.0
    for step in range(6):
        torch.nn.init.constant_(model.weight, step + 1.0)
        ema.update(step, torch.tensor(True))
        decay = min(0.5, 1 - (step + 2) ** -0.75)
        expected = decay * expected + (1 - decay) * (step + 1.0)
    assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_a_step_that_is_not_finite_leaves_the_average_alone() -> None:
    model = torch.nn.Linear(3, 3)
    skipping, plain = (Ema(model, power=0.75, maximum=0.9) for _ in range(2))
    for step, finite in enumerate((True, False, True, False)):
        for parameter in model.parameters():
            parameter.data = noise(*parameter.shape, seed=step)
        skipping.update(step, torch.tensor(finite))
        if finite:
            plain.update(step, torch.tensor(True))
    assert all(torch.equal(skipping.weights[name], plain.weights[name]) for name in plain.weights)


# --- steps of a run ---------------------------------------------------------------------------------------


def _spoil(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Make the loss of some optimiser steps infinite, as a spike would."""
    from robot_foundry.trainer import loop

    real, seen = loop.gradients, []

    def gradients(parts: Any, plan: Any, batch: Any, counts: Any) -> Any:
        seen.append(batch.step)
        if batch.step not in bad:
            return real(parts, plan, batch, counts)

        def spoiled(inputs: Any) -> Any:
            weight = torch.full_like(inputs.targets.weight_B, torch.inf)
            return replace(inputs, targets=replace(inputs.targets, weight_B=weight))

        return real(parts, plan, replace(batch, inputs=tuple(map(spoiled, batch.inputs))), counts)

    monkeypatch.setattr(loop, "gradients", gradients)


def test_a_spoiled_step_is_skipped_and_counted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, {0})
    outcome = run(store, tmp_path, "run.steps=2", "optim.ema_max=0")
    assert [r["skipped"] for r in records(tmp_path) if "skipped" in r] == [1, 1]
    assert records(tmp_path)[0]["loss"] is None
    assert checkpoint.read_json(outcome.checkpoint, "state.json")["skipped"] == 1
    # Where the output is zero only the output learns: with step 0 skipped, all else is as initialised.
    one = run(store, tmp_path / "one", "run.steps=1", "optim.ema_max=0")
    ours, first = tensors(outcome.checkpoint), tensors(one.checkpoint)
    blocks = [name for name in ours if name.startswith("model/") and ".blocks." in name]
    assert all(torch.equal(ours[name], first[name]) for name in blocks)
    assert all(torch.isfinite(tensor).all() for tensor in ours.values())


def test_too_many_spoiled_steps_in_a_row_end_the_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, {1, 2, 3})
    with pytest.raises(FoundryError, match="the last 3 steps before step 4 had a gradient"):
        run(store, tmp_path, "run.max_skipped=3")


def test_a_streak_that_ended_before_the_record_ends_the_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, {1, 2, 3})
    with pytest.raises(FoundryError, match="3 steps in a row before step 6 had a gradient"):
        run(store, tmp_path, "run.max_skipped=3", "run.log_every=6", "run.save_every=6")
    assert run(store, tmp_path / "more", "run.max_skipped=4", "run.log_every=6").skipped == 3


def test_a_streak_is_exact_over_records_and_restarts() -> None:
    def meters(skipped: int = 0, streak: int = 0) -> Meters:
        return Meters(ALONE, skipped=skipped, streak=streak, max_streak=4)

    def steps(meters: Meters, finite: str) -> None:
        for one in finite:
            meters.step(
                samples=1, counts={}, sizes={}, norm=torch.tensor(1.0), taken=torch.tensor(one == ".")
            )

    first = meters()
    steps(first, "xxx.xx")  # "x" is a step that is not finite
    first.record(6)
    second = meters(**first.state())
    steps(second, "x.xxx.")
    second.record(12)  # three in a row, twice
    third = meters(**second.state())
    assert third.state() == {"skipped": 9, "streak": 0}
    steps(second, "xx")
    second.record(14)
    steps(second, "xx.")
    with pytest.raises(FoundryError, match="4 steps in a row before step 17"):
        second.record(17)


def test_a_model_that_counts_otherwise_than_its_batch_is_caught() -> None:
    meters = Meters(ALONE, skipped=0, streak=0, max_streak=5)
    meters.losses({"action": (torch.tensor(3.0), torch.tensor(7))})
    meters.step(samples=1, counts={"action": 8}, sizes={}, norm=torch.tensor(1.0), taken=torch.tensor(True))
    with pytest.raises(FoundryError, match="counted 7 of 'action', the batches 8"):
        meters.record(1)


def test_bf16_keeps_the_weights_in_fp32_and_trains(store: Store, tmp_path: Path) -> None:
    outcome = run(store, tmp_path, "run.steps=2", "run.precision=bf16")
    assert {tensor.dtype for tensor in tensors(outcome.checkpoint).values()} == {torch.float32}
    full = run(store, tmp_path / "fp32", "run.steps=2")
    assert outcome.loss == pytest.approx(full.loss, rel=0.02) and outcome.loss != full.loss


def test_bf16_that_is_slower_than_fp32_is_told_with_what_was_measured() -> None:
    """By a clock that fp32 is read from first, four products each, of which the first is not counted."""
    cpu, fp32 = torch.device("cpu"), (9.0, 1.0, 1.0, 2.0)

    def told(*bf16: float) -> tuple[str, ...]:
        ticks = iter([tick for seconds in (*fp32, *bf16) for tick in (0.0, seconds)])
        return slow_precision(cpu, "bf16", lambda: next(ticks))

    (line,) = told(99.0, 30.0, 25.0, 40.0)
    assert "multiplies matrices 25 times as slowly as fp32 on this CPU" in line
    assert told(9.0, 1.0, 1.0, 1.0) == ()
    assert slow_precision(cpu, "fp32") == slow_precision(torch.device("meta"), "bf16") == ()


def test_training_lowers_the_loss_it_is_measured_by(store: Store, tmp_path: Path) -> None:
    run(store, tmp_path, "run.steps=60", "run.save_every=60", "run.log_every=20", "optim.lr=0.01")
    losses = [record["loss"] for record in records(tmp_path) if "loss" in record]
    assert losses[-1] < 0.8 * losses[0]


# --- mixtures of robots -----------------------------------------------------------------------------------

MIXED = "data.mix=seven=1,six=1"


def test_robots_with_other_joints_train_together(store: Store, tmp_path: Path) -> None:
    """The union holds 7 + 6 joints of their own; each robot's rows count its own dims alone."""
    config = tiny(store, tmp_path, MIXED)
    job = resolve_vla(config)
    spaces = job.spaces
    assert (len(spaces.state), [len(d.action) for d in spaces.datasets]) == (10 + 13, [16 + 1, 15 + 1])
    outcome = run(store, tmp_path, MIXED)
    assert 0 < outcome.loss < 5
    weights = tensors(outcome.checkpoint)
    assert weights["model/head.action_out.weight"].shape[0] == 23


def _one_batch(store: Store, config: Any) -> tuple[Any, Any, Any]:
    job = resolve_vla(config)
    scales = fit_scales(job.opened, config, job.spaces)
    loader = load(job.mixture, config.data.window, seed=0, global_batch=8, store=store, threads=0)
    return job, scales, loader.batch(0)


@pytest.mark.parametrize("normalization", ["merged", "per_dataset"])
def test_a_row_is_the_same_whatever_shares_its_batch(
    store: Store, tmp_path: Path, normalization: str
) -> None:
    config = tiny(store, tmp_path, MIXED, f"data.normalization={normalization}")
    job, scales, batch = _one_batch(store, config)
    assert len(scales.action) == (1 if normalization == "merged" else 2)
    prepare = InputMaker.of(config, job.spaces, scales, job.words)
    whole = prepare(batch)
    assert whole.targets.mask_BTA.sum() == batch.counts["action"]
    for row in range(len(batch)):
        part = prepare(batch.rows(slice(row, row + 1)))
        assert torch.equal(part.targets.value_BTA[0], whole.targets.value_BTA[row])
        assert torch.equal(part.state_BHD[0], whole.state_BHD[row])
        assert torch.equal(part.draws.noise_BNTA[0], whole.draws.noise_BNTA[row])


def test_scales_are_each_datasets_own_when_asked(store: Store, tmp_path: Path) -> None:
    config = tiny(store, tmp_path, MIXED, "data.normalization=per_dataset")
    job, scales, batch = _one_batch(store, config)
    _, statistics = representation_statistics(as_mixture(store, "six"), horizon=4)
    alone = Normalizer.fit(statistics)
    inputs = build_inputs(batch, scales=scales, words=ByteTokenizer(8), roles=("primary",), targets=True)
    rows = batch.dataset_B == job.spaces.dataset("six")
    at = alone.space.indices_in(job.spaces.action, "six")
    found = inputs.targets.value_BTA[rows].numpy()[..., at]
    expected = alone.normalize(batch.action_BTA[rows][..., at])
    counted = batch.step_mask_BT[rows]
    assert counted.any() and np.allclose(found[counted], expected[counted], atol=1e-6)
    merged = fit_scales(job.opened, tiny(store, tmp_path, MIXED), job.spaces)
    assert merged.action[0].scalings != scales.action[0].scalings != scales.action[1].scalings


def test_a_camera_that_one_robot_lacks_is_masked_for_it(store: Store, tmp_path: Path) -> None:
    config = tiny(store, tmp_path, MIXED)
    job, scales, batch = _one_batch(store, config)
    inputs = build_inputs(batch, scales=scales, words=ByteTokenizer(8), roles=("primary",), targets=False)
    six = batch.dataset_B == job.spaces.dataset("six")
    assert inputs.view_mask_BV[:, 0].tolist() == (~six).tolist() and six.any() and not six.all()


def test_spaces_survive_their_file(store: Store, tmp_path: Path) -> None:
    config = tiny(store, tmp_path, MIXED)
    job = resolve_vla(config)
    spaces = mixture_spaces(job.opened, config)
    assert type(spaces).from_json(spaces.to_json()) == spaces
    with pytest.raises(FoundryError, match="was not trained on 'sevn', did you mean 'seven'"):
        spaces.dataset("sevn")
    with pytest.raises(FoundryError, match="trained on 2 datasets"):
        spaces.dataset(None)


# --- strict -----------------------------------------------------------------------------------------------


def _flags() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        getattr(torch.backends.mkldnn, "deterministic", True),
    )


def test_strict_sets_every_flag_and_gives_all_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.set_float32_matmul_precision("high")
    before = _flags()
    with numerics("strict"):
        assert _flags() == (True, False, True, False, False, "highest", True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        assert os.environ["NCCL_ALGO"] and os.environ["TORCHINDUCTOR_DETERMINISTIC"] == "1"
    assert _flags() == before
    with numerics("fast"):
        assert _flags() == before
    torch.set_float32_matmul_precision("highest")


def test_strict_refuses_an_operation_without_a_reproducible_kernel() -> None:
    """`put_` has none, on any device: indices may come twice."""

    def put() -> float:
        values = torch.zeros(2)
        return float(values.put_(torch.tensor([0]), torch.ones(1))[0])

    with (
        pytest.raises(FoundryError, match="put_ has no kernel that gives the same bits") as caught,
        numerics("strict"),
    ):
        put()
    assert "run.determinism=fast" in (caught.value.hint or "")
    with numerics("fast"):
        assert put() == 1.0


def test_strict_refuses_an_environment_that_cannot_comply(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_MAX_AUTOTUNE", "1")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(UsageError, match="does not let be kept:(\n  .*){2}$") as caught:
        run(store, tmp_path)
    assert "run.determinism=fast" in (caught.value.hint or "")
