"""Training: samples a second and thread of the packaged recipes, the time of a step, and chunks a second.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--steps 8] [--json FILE]

One robot arm (10 dims), random pictures and 20-byte instructions, no loading. Time is CPU time, the least of
several steps, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from robot_foundry.trainer.models.initial import allocated, initialise
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Geometry, Inputs, Targets
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import Optimizers
from robot_foundry.trainer.recipes.form import PACKAGED
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.draws import build_draws
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

DIMS = 10
TEXT = "touch the yellow can"


def random_inputs(config: VLATaskConfig, batch: int) -> Inputs:
    window, rng = config.data.window, np.random.default_rng(0)
    assert window.image is not None
    views = len(window.cameras) * window.history
    tokens, obs = ByteTokenizer(config.model.text_length).rows([TEXT] * batch)
    draws = build_draws(
        np.arange(batch), 0, draws=config.model.draws, density=config.model.density, state_noise=0.05,
        state_shape=(window.history, DIMS), action_shape=(window.horizon, DIMS),
    )  # fmt: skip
    pixels = rng.integers(0, 256, (batch, views, *window.image, 3), dtype=np.uint8)
    return Inputs(
        torch.from_numpy(pixels),
        torch.ones(batch, views, dtype=torch.bool),
        torch.from_numpy(tokens),
        torch.from_numpy(obs),
        torch.randn(batch, window.history, DIMS),
        torch.ones(batch, window.history, DIMS, dtype=torch.bool),
        Targets(
            torch.randn(batch, window.horizon, DIMS),
            torch.ones(batch, window.horizon, DIMS, dtype=torch.bool),
            torch.ones(batch),
        ),
        draws,
    )


def least(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def measure(config: VLATaskConfig, steps: int) -> dict[str, float]:
    window, batch = config.data.window, config.data.global_batch
    assert window.image is not None
    sizes = Geometry(DIMS, DIMS, window.history, window.horizon, window.image)
    model = initialise(allocated(lambda: VLA(config.model, sizes), "cpu"), seed=0)
    optimizers = Optimizers(model, config.optim)
    ema = Ema(model, power=config.optim.ema_power, maximum=config.optim.ema_max)
    inputs, one = random_inputs(config, batch), random_inputs(config, 1)
    finite = torch.tensor(True)

    def gradient() -> None:
        optimizers.zero_grad()
        total, count = model(inputs)["action"]
        (total / count).backward()

    @torch.inference_mode()
    def chunks(seen: Inputs) -> None:
        assert seen.targets is not None
        model.sample(seen, torch.randn_like(seen.targets.value_BTA), seen.targets.mask_BTA)

    gradient_s = least(gradient, steps)
    update_s = least(lambda: optimizers.step(finite, 1e-3), steps)
    update_s += least(lambda: ema.update(0, finite), steps)
    return {
        "batch": batch,
        "draws": config.model.draws,
        "parameters": sum(p.numel() for p in model.parameters()),
        "samples_per_s": batch / (gradient_s + update_s),
        "gradient_ms": 1000 * gradient_s,
        "update_ms": 1000 * update_s,
        "one_chunk_ms": 1000 * least(lambda: chunks(one), steps),
        "chunks_per_s": batch / least(lambda: chunks(inputs), steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"threads": torch.get_num_threads(), "torch": torch.__version__, "recipes": {}}
    for path in sorted(PACKAGED.glob("vla_*.yaml")):
        found["recipes"][path.stem] = measure(read_recipe(path, ["data.mix=none"]), options.steps)
        print(path.stem, json.dumps(found["recipes"][path.stem]))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
