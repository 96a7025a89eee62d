"""What ranks exchange and hold, in closed form, against what real ranks did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foundry_testing.counted_ranks import count
from foundry_testing.trained_tasks import LLM

from robot_foundry.trainer.memory import state_bytes
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.sizes.communication import GROUP, strategies, traffic
from robot_foundry.trainer.optim.optimizers import OptimConfig

ALONE, DDP, SHARED, FULL = range(4)
# Dimensions that do not divide by two are padded.
ODD = "model.decoder={width: 18, depth: 2, heads: 3, kv_heads: 1, mlp: relu, mlp_hidden: 33, vocabulary: 320}"
PLAIN = (ODD, "optim.optimizer=adamw", "run.steps=3", "run.save_every=100", "run.log_every=100")
MUON = (*PLAIN, "optim.optimizer=muon", "run.precision=bf16", "run.accumulate=2", "optim.max_sigmas=6")
CASES = {
    ALONE: (1, PLAIN),
    DDP: (2, PLAIN),
    SHARED: (2, (*PLAIN, "run.shard=0")),
    FULL: (2, (*MUON, "run.shard=0")),
}
FLAGS = 8 * 3  # counts of one loss, a stop, replaced samples


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("counted")
    store = LLM.make_store(folder / "store")
    cases = [
        {"size": size, "arguments": LLM.arguments(store, folder / f"run-{case}", *settings)}
        for case, (size, settings) in CASES.items()
    ]
    return count(cases, folder)


@pytest.fixture(scope="module")
def model() -> llm.LLM:
    decoder = DecoderConfig(width=18, depth=2, heads=3, kv_heads=1, mlp="relu", mlp_hidden=33, vocabulary=320)
    with torch.device("meta"):
        return llm.LLM(llm.LLMConfig(decoder))


def test_ddp_sums_all_gradients_once(counted: list[dict[str, Any]], model: llm.LLM) -> None:
    found = traffic(model, OptimConfig(), "fp32", 2, 1)
    assert counted[DDP]["exchanged"]["gloo:all_reduce"] == found.summed + FLAGS
    assert "gloo:all_gather" not in counted[DDP]["exchanged"]
    assert found.sent_each_step == found.summed and found.sent_each_microbatch == 0


def test_shared_weights_are_gathered_twice_and_their_gradients_scattered(
    counted: list[dict[str, Any]], model: llm.LLM
) -> None:
    found, real = traffic(model, OptimConfig(), "fp32", 2, 2), counted[SHARED]["exchanged"]
    assert real["gloo:all_gather"] == found.weights / 2  # the share that each rank puts in
    # gloo scatters a sum by making it whole on each rank.
    assert real["gloo:all_reduce"] == found.scattered + found.norms + FLAGS


def test_muon_gathers_momenta_and_bf16_halves_the_weights_of_units(
    counted: list[dict[str, Any]], model: llm.LLM
) -> None:
    found = traffic(model, OptimConfig(optimizer="muon"), "bf16", 2, 2)
    real = counted[FULL]["exchanged"]
    assert found.momenta > 0
    assert real["gloo:all_gather"] == (2 * found.weights + found.momenta) / 2  # two microbatches
    loss = 4  # its sum over ranks, by which spikes are known
    assert real["gloo:all_reduce"] == found.scattered + found.norms + FLAGS + loss


def test_ranks_hold_what_is_told(counted: list[dict[str, Any]], model: llm.LLM) -> None:
    state = state_bytes(model, OptimConfig(), "fp32")
    told = {name: getattr(state, name) for name in ("weights", "gradients", "optimizer", "average")}
    assert counted[ALONE]["held"] == counted[DDP]["held"] == told
    for name, whole in told.items():
        # An odd first dimension gives one rank a row more.
        assert whole / 2 <= counted[SHARED]["held"][name] <= whole / 2 * 1.05, name


def test_what_a_rank_sends_by_hand(model: llm.LLM) -> None:
    """Rings, by hand; with more GPUs than a machine has, also groups of one."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    ddp, grouped, shared = strategies(model, OptimConfig(), "fp32", 2 * GROUP)
    assert [one.gpus for one in (ddp, grouped, shared)] == [2 * GROUP] * 3
    assert (ddp.shared, grouped.shared, shared.shared) == (1, GROUP, 2 * GROUP)
    assert ddp.sent_each_step == round(2 * 4 * numbers * 15 / 16)
    assert grouped.summed == grouped.scattered // GROUP
    within = (grouped.scattered + 2 * grouped.norms) * 7 / 8
    assert grouped.sent_each_step == round(within + 2 * grouped.summed * 1 / 2)
    assert shared.sent_each_microbatch == round(shared.weights * 15 / 16)
    assert [one.shared for one in strategies(model, OptimConfig(), "fp32", 4)] == [1, 4]
