"""What shares a batch with a sample, and what is masked in it, changes nothing of it.

Features, actions and loss of a sample are compared alone and among others, to 1e-6 of their size.
Shapes: B samples, V views, H moments, T steps, D state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import make
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Draws, Inputs, Targets
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

V, H, D, T, A, N = 4, 2, 5, 4, 6, 2
STEPS = 3
FEW = settings(deadline=None, max_examples=12)


@dataclass(frozen=True)
class Sample:
    """One sample: its words, which of its views, state dims, action dims and steps are there, and a seed."""

    text: str
    views: tuple[bool, ...]
    state: tuple[bool, ...]
    dims: tuple[bool, ...]
    steps: int  # the chunk goes past the episode's end after so many
    seed: int


def flags(number: int) -> st.SearchStrategy[tuple[bool, ...]]:
    return st.tuples(*[st.booleans()] * number)


SAMPLES = st.builds(
    Sample,
    text=st.text("abc déf", max_size=15),
    views=flags(V),
    state=flags(D),
    dims=flags(A),
    steps=st.integers(0, T),
    seed=st.integers(0, 99),
)


def inputs_of(samples: Sequence[Sample], garbage: float = 0.0) -> Inputs:
    """The batch of some samples; what is not there holds `garbage`."""
    tokens, obs = ByteTokenizer(16).rows([sample.text for sample in samples])
    draw = [np.random.default_rng(sample.seed) for sample in samples]

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in draw]))

    view_BV = torch.tensor([sample.views for sample in samples])
    pixels = torch.from_numpy(np.stack([rng.integers(0, 256, (V, 16, 16, 3), np.uint8) for rng in draw]))
    state_mask = torch.tensor([sample.state for sample in samples])[:, None].expand(-1, H, -1)
    step_BT = torch.arange(T) < torch.tensor([[sample.steps] for sample in samples])
    mask = step_BT[:, :, None] & torch.tensor([sample.dims for sample in samples])[:, None]
    time = torch.from_numpy(np.stack([rng.random(N, np.float32) for rng in draw]))
    return Inputs(
        torch.where(view_BV[:, :, None, None, None], pixels, int(garbage != 0) * 99),
        view_BV,
        torch.from_numpy(tokens),
        torch.from_numpy(obs),
        torch.where(state_mask, normal(H, D), garbage),
        state_mask,
        Targets(torch.where(mask, normal(T, A), garbage), mask, torch.ones(len(samples))),
        Draws(torch.where(mask[:, None], normal(N, T, A), garbage), time, 0.05 * normal(H, D)),
    )


@dataclass(frozen=True)
class Seen:
    """What a model makes of each sample of a batch."""

    features: torch.Tensor
    actions: torch.Tensor
    loss: torch.Tensor

    def differences(self, row: int, other: Seen, other_row: int) -> dict[str, float]:
        """The greatest of each kind, as a share of the greatest number where that is above 1."""
        found = {}
        for name in ("features", "actions", "loss"):
            ours, theirs = getattr(self, name)[row], getattr(other, name)[other_row]
            found[name] = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1))
        return found


def seen_by(model: VLA, inputs: Inputs) -> Seen:
    assert inputs.targets is not None and inputs.draws is not None
    rows, losses = len(inputs.token_BS), []
    with torch.no_grad():
        features = model.condition(inputs)
        noise = inputs.draws.noise_BNTA[:, 0]
        actions = model.sample(inputs, noise, inputs.targets.mask_BTA, STEPS)
        for row in range(rows):
            alone = replace(inputs.targets, weight_B=torch.eye(rows)[row])
            total, _ = model(replace(inputs, targets=alone))["action"]
            losses.append(total / inputs.targets.mask_BTA[row].sum().clamp_min(1))
    return Seen(features, actions, torch.stack(losses))


def gradients(model: VLA, inputs: Inputs) -> list[torch.Tensor]:
    model.zero_grad()
    model(inputs)["action"][0].backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.fixture(scope="module", params=["flow", "l1"])
def model(request: pytest.FixtureRequest) -> VLA:
    """A shrunk model whose zero-initialised parts have been moved, so that everything matters."""
    built = make(
        read_recipe(None, [*TINY, "data.mix=none", f"model.objective={request.param}"]).model, seed=0
    )
    with torch.no_grad():
        for i, parameter in enumerate(built.parameters()):
            parameter += 0.03 * trainer_runs.noise(*parameter.shape, seed=i)
    return built


@given(sample=SAMPLES, mates=st.lists(SAMPLES, min_size=1, max_size=3))
@FEW
def test_a_sample_is_the_same_alone_and_among_others(model: VLA, sample: Sample, mates: list[Sample]) -> None:
    """Whatever they say, lack, or how long they are; wherever it stands among them."""
    alone = seen_by(model, inputs_of([sample]))
    for at in (0, len(mates)):
        among = seen_by(model, inputs_of([*mates[:at], sample, *mates[at:]]))
        found = among.differences(at, alone, 0)
        assert max(found.values()) <= 1e-6, found


@given(samples=st.lists(SAMPLES, min_size=1, max_size=2), garbage=st.sampled_from([1e6, np.nan, -np.inf]))
@FEW
def test_what_is_not_there_may_hold_anything(model: VLA, samples: list[Sample], garbage: float) -> None:
    """Bit for bit: absent views, state and action dims, steps past the end of an episode or of a chunk."""
    clean, dirty = inputs_of(samples), inputs_of(samples, garbage)
    one, other = seen_by(model, clean), seen_by(model, dirty)
    for name in ("features", "actions", "loss"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    pairs = zip(gradients(model, clean), gradients(model, dirty), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


NOTHING = Sample("", (False,) * V, (False,) * D, (False,) * A, 0, 1)


@pytest.mark.parametrize(
    "masked",
    [NOTHING, replace(NOTHING, views=(True,) * V, state=(True,) * D, text="lift", dims=(True,) * A)],
    ids=["all", "steps"],
)
def test_a_sample_of_which_nothing_counts_has_no_gradient(model: VLA, masked: Sample) -> None:
    """Exactly zero alone; beside another it leaves that one's gradient as it is."""
    total, count = model(inputs_of([masked] * 2))["action"]
    assert total == 0 and count == 0
    alone = gradients(model, inputs_of([masked] * 2))
    assert len(alone) > 30 and not any(gradient.any() for gradient in alone)
    real = Sample("push", (True, False, True, True), (True,) * D, (True,) * A, 3, 5)
    wanted, found = gradients(model, inputs_of([real])), gradients(model, inputs_of([masked, real]))
    assert any(gradient.any() for gradient in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6 * float(theirs.abs().max().clamp_min(1)))
