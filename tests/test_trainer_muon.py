"""Muon against torch's own, which computes the same in bfloat16, and against singular values."""

from __future__ import annotations

import pytest
import torch

from robot_foundry.trainer.optim.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (24, 6), (6, 24)])
def test_an_update_is_nearly_orthogonal_and_keeps_the_directions(shape: tuple[int, int]) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    update = orthogonal(gradient)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.6 and values.max() < 1.3
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    turned = left.T @ update @ right.T
    off_diagonal = turned - torch.diag(turned.diagonal())
    assert off_diagonal.abs().max() < 1e-4


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_steps_equal_those_of_torch_up_to_its_precision() -> None:
    start = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1),
    )
    for step in range(5):
        gradient = torch.randn(16, 8, generator=torch.Generator().manual_seed(2 + step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_convolution_is_the_matrix_of_its_filters() -> None:
    filters = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    convolution, matrix = (torch.nn.Parameter(x.clone()) for x in (filters, filters.flatten(1)))
    for parameter in (convolution, matrix):
        optimizer = Muon([parameter], lr=0.1)
        parameter.grad = parameter.detach().cos()
        optimizer.step()
    assert torch.equal(convolution.flatten(1), matrix)
    assert not torch.equal(matrix, filters.flatten(1))
