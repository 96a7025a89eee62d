"""First weights are a function of the seed and each parameter's name, whoever makes the model and where."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.sizes.presets import VLAS
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.outcome import weights_digest
from robot_foundry.trainer.ranks.launch import run_ranks

# Written down by hand for widths 96, 128 and 128, depths 2, 4 and 3, and 10 dims, each with its mask.
STD = {
    r"backbone\.vision\.stem\.0\.weight": (2 / (3 * 9)) ** 0.5,
    r"backbone\.vision\.stem\.2\.weight": (2 / (24 * 9)) ** 0.5,
    r"backbone\.vision\.stem\.4\.weight": (2 / (48 * 9)) ** 0.5,
    r"backbone\.vision\.blocks\.\d\.attention\.(query|key|value)\.weight": 96**-0.5,
    r"backbone\.vision\.blocks\.\d\.attention\.out\.weight": 96**-0.5 / 2,
    r"backbone\.vision\.blocks\.\d\.mlp\.up\.weight": 96**-0.5,
    r"backbone\.vision\.blocks\.\d\.mlp\.down\.weight": 384**-0.5 / 2,
    r"backbone\.projector\.weight": 384**-0.5,
    r"backbone\.decoder\.embedding\.weight": 128**-0.5,
    r"backbone\.decoder\.blocks\.\d\.attention\.(query|key|value)\.weight": 128**-0.5,
    r"backbone\.decoder\.blocks\.\d\.attention\.out\.weight": 128**-0.5 / 8**0.5,
    r"backbone\.decoder\.blocks\.\d\.mlp\.up\.weight": 128**-0.5,
    r"backbone\.decoder\.blocks\.\d\.mlp\.down\.weight": 512**-0.5 / 8**0.5,
    r"head\.condition_in\.weight": 512**-0.5,
    r"head\.(state|action)_in\.weight": 20**-0.5,
    r"head\.(state|action)_position": 0.5,
    r"head\.time_mlp\.0\.weight": 256**-0.5,
    r"head\.time_mlp\.2\.weight": 128**-0.5,
    r"head\.blocks\.\d\.attention\.(query|key|value)\.weight": 128**-0.5,
    r"head\.blocks\.\d\.attention\.out\.weight": 128**-0.5 / 6**0.5,
    r"head\.blocks\.\d\.mlp\.up\.weight": 128**-0.5,
    r"head\.blocks\.\d\.mlp\.down\.weight": 512**-0.5 / 6**0.5,
}
SIZES = Geometry(10, 10, 1, 16, (64, 64))
SEED = 7


def tiny() -> VLA:
    return VLA(VLAS["vla_tiny"], SIZES)


@pytest.fixture(scope="module")
def model() -> VLA:
    return initialise(allocated(tiny, "cpu"), SEED)


def test_every_parameter_has_its_published_distribution(model: VLA) -> None:
    drawn = 0
    for name, parameter in model.named_parameters():
        (std, *more) = [std for pattern, std in STD.items() if re.fullmatch(pattern, name)] or [None]
        assert not more
        if std is None:
            constant = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            assert (parameter == constant).all(), name
            continue
        drawn += 1
        # By a law of its own for each: the chance of a false alarm over all of them is below 1e-4.
        assert stats.kstest(parameter.detach().flatten().numpy() / std, "norm").pvalue > 1e-6, name
    assert drawn == 3 + 2 * 6 + 1 + 1 + 4 * 6 + 7 + 3 * 6
    assert (model.head.action_out.weight == 0).all() and (model.head.time_modulation.weight == 0).all()


def test_the_meta_device_changes_no_bit(model: VLA) -> None:
    direct = initialise(tiny(), SEED)
    for here, there in zip(direct.parameters(), model.parameters(), strict=True):
        assert torch.equal(here, there)
    buffers = dict(direct.named_buffers())
    assert buffers.keys() == {"backbone.vision.mean", "backbone.vision.std", "backbone.vision.position"}
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


def test_neither_order_nor_neighbours_change_a_parameter() -> None:
    def pair(*names: str) -> torch.nn.ModuleDict:
        return initialise(torch.nn.ModuleDict({name: torch.nn.Linear(3, 5) for name in names}), SEED)

    one, other, more = (dict(pair(*names).named_parameters()) for names in ("ab", "ba", "cbda"))
    assert list(one) != list(other)
    assert all(torch.equal(one[name], other[name]) and torch.equal(one[name], more[name]) for name in one)
    assert not torch.equal(one["a.weight"], one["b.weight"])


def test_depth_scales_residual_outputs_and_changes_nothing_else() -> None:
    config = {"width": 16, "heads": 2, "kv_heads": 1, "mlp_hidden": 32, "vocabulary": 300}
    shallow, deep = (initialise(Decoder(DecoderConfig(depth=depth, **config)), SEED) for depth in (2, 8))
    deeper = dict(deep.named_parameters())
    for name, parameter in shallow.named_parameters():
        factor = 2.0 if name.endswith(("attention.out.weight", "mlp.down.weight")) else 1.0
        assert torch.allclose(parameter, factor * deeper[name], rtol=1e-6, atol=0)


SCRIPT = """
import os, sys
from pathlib import Path
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.sizes.presets import VLAS
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.outcome import weights_digest
from robot_foundry.trainer.ranks.ranks import joined

with joined("cpu") as ranks:
    model = initialise(ranks.place(lambda: VLA(VLAS["vla_tiny"], Geometry(10, 10, 1, 16, (64, 64)))), 7)
    before = weights_digest(model)
    ranks.wrap(model)
    Path(sys.argv[1], os.environ["RANK"]).write_text(f"{before} {weights_digest(model)}")
"""


def test_ranks_begin_with_the_weights_of_one_process(model: VLA, tmp_path: Path) -> None:
    assert run_ranks([sys.executable, "-c", SCRIPT, str(tmp_path)], 2) == 0
    expected = weights_digest(model)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [f"{expected} {expected}"] * 2
