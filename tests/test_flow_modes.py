"""A target of two modes: the flow keeps both, a regression says what is right for neither.

Chunks are +1 everywhere or −1 everywhere, as often. Shapes: B chunks, T steps, A dims.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robot_foundry.trainer.models.flow import FlowConfig, FlowHead, interpolate, sample, time_of
from robot_foundry.trainer.models.flow_guidance import Guide, guided, overlap_weights
from robot_foundry.trainer.models.layers.initial import initialise

B, T, A = 128, 4, 2
STEPS = 200
MASK = torch.ones(B, T, A, dtype=torch.bool)
CONDITION, STATE, KNOWN = torch.ones(B, 1, 4), torch.zeros(B, 1, 1), torch.ones(B, 1, 1, dtype=torch.bool)
Loss = Callable[[FlowHead, Tensor, torch.Generator], Tensor]


def answer(head: FlowHead, x_BTA: Tensor, t_B1: Tensor) -> Tensor:
    return head(x_BTA, t_B1, head.prefix(CONDITION, STATE, KNOWN), MASK)


def flow_loss(head: FlowHead, action: Tensor, random: torch.Generator) -> Tensor:
    t = torch.from_numpy(time_of(torch.rand(B, 1, generator=random).numpy(), "beta"))
    x_t, velocity = interpolate(action, torch.randn(B, T, A, generator=random), t)
    return (answer(head, x_t, t) - velocity).square().mean()


def l1_loss(head: FlowHead, action: Tensor, random: torch.Generator) -> Tensor:
    return (answer(head, torch.zeros(B, T, A), torch.zeros(B, 1)) - action).abs().mean()


def trained(loss: Loss) -> FlowHead:
    config = FlowConfig(width=32, depth=2, heads=2, mlp="relu", mlp_hidden=64)
    head = FlowHead(config, condition=4, state_dims=1, history=1, action_dims=A, horizon=T)
    head, random = initialise(head, seed=0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    # The rate falls to nothing, so that the last steps do not decide how many samples land at each mode.
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    for _ in range(STEPS):
        mode = torch.randperm(B, generator=random)[:, None, None] % 2 * 2.0 - 1
        optimizer.zero_grad()
        loss(head, mode.expand(B, T, A), random).backward()
        optimizer.step()
        decay.step()
    return head


@pytest.fixture(scope="module")
def flow() -> FlowHead:
    return trained(flow_loss)


def drawn(head: FlowHead, seed: int, guide: Guide | None = None) -> Tensor:
    def velocity(x_BTA: Tensor, t: float) -> Tensor:
        return answer(head, x_BTA, torch.full((B, 1), t))

    noise = torch.randn(B, T, A, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return sample(velocity if guide is None else guided(velocity, guide), noise, MASK)


def modes(chunk_BTA: Tensor) -> tuple[float, Tensor]:
    """The share of chunks that are near one mode throughout, and which one each is nearer to."""
    side_B = chunk_BTA.mean(dim=(1, 2)).sign()
    near_B = (chunk_BTA - side_B[:, None, None]).abs().amax(dim=(1, 2)) < 0.35
    return float(near_B.float().mean()), side_B


def test_the_flow_keeps_both_modes_and_the_regression_neither(flow: FlowHead) -> None:
    near, side_B = modes(drawn(flow, 1))
    upper = float((side_B > 0).float().mean())
    print(f"flow: {near:.0%} near a mode, {upper:.0%} near the upper one")
    assert near >= 0.9 and 0.35 < upper < 0.65
    regressed = answer(trained(l1_loss), torch.zeros(B, T, A), torch.zeros(B, 1)).detach()
    print(f"regression: {float(regressed.abs().max()):.2f} from the middle at most")
    assert regressed.abs().max() < 0.5  # anywhere between the modes its loss is the same


def test_a_chunk_that_is_continued_stays_in_its_mode(flow: FlowHead) -> None:
    """With fresh noise every other chunk would change its mind."""
    old, fresh = drawn(flow, 1), drawn(flow, 2)
    weight = torch.from_numpy(overlap_weights(T, 1, 2))[None, :, None].expand(B, T, A)
    target = torch.cat((old[:, 2:], old[:, -1:].expand(B, 2, A)), dim=1)
    continued = drawn(flow, 2, Guide(target, weight))
    renewed, kept = (float((modes(chunk)[1] == modes(old)[1]).float().mean()) for chunk in (fresh, continued))
    near = modes(continued)[0]
    print(f"in the old mode: {renewed:.0%} anew, {kept:.0%} continued, of which {near:.0%} are near it")
    assert 0.3 < renewed < 0.7 and kept >= 0.9 and near >= 0.8
