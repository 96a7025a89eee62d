"""Training: what steps of the packaged recipes take on this machine.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--only NAME]... [--turns 5] [--steps 8] [--json FILE]

llm, vlm, vla  `foundry-train` with its smallest recipe from a store, with all that a run does at each step,
               beside a bare loop over the same model in this process: batches that lie ready, forward,
               backward, clip, step of the same optimisers.
nanogpt        tokens a second of `foundry-train llm` beside nanoGPT's loop restated (`compared/nanogpt.py`),
               with models of equal matrices and equal batches, in fp32 and in bf16.
saves          what a checkpoint costs: the longest step from one that saves to the next, and all time above
               the median step in between, in median steps.
policies       samples a second and thread, the time of a step, and chunks a second of each recipe of a
               policy, of one robot arm (10 dims), random pictures and 20-byte instructions, no loading. CPU
               time, the least of several steps.

Loops take turns of --steps steps. A ratio is that of the median steps of a turn; told are the median of the
turns and, in brackets, their middle half: by the clock at the wall, and by the CPU time of all threads of the
process, which other work on the machine moves less. A run's CPU time has reading and decoding in it, for
which a bare loop has no need and which threads of their own do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compared import nanogpt, stores
from compared.bare import bare_loop, ready
from compared.turns import WARM, Loop, Turn, in_turns, median_step, ratio, timed_steps

from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Geometry, Inputs, Targets
from robot_foundry.trainer.optim.average import Ema
from robot_foundry.trainer.optim.optimizers import Optimizers
from robot_foundry.trainer.recipes.form import PACKAGED
from robot_foundry.trainer.tasks.llm import recipe as llm_recipe
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.draws import build_draws
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vlm import recipe as vlm_recipe
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm

CPU = torch.device("cpu")
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


def resolved(name: str, folder: Path, *settings: str) -> Any:
    """The smallest recipe of a task on a store of its own, nothing held out."""
    side, store = 64, folder / f"{name}-store"
    match name:
        case "llm":
            made, mix = stores.token_store(store), "words"
            reader, resolve = llm_recipe.read_recipe, resolve_llm
        case "vlm":
            made, mix = stores.pair_store(store, side), "pictures"
            reader, resolve = vlm_recipe.read_recipe, resolve_vlm
        case _:
            made, mix = stores.robot_store(store, side, ("primary",)), "arm"
            reader, resolve = read_recipe, resolve_vla
    asked = [f"data.mix={mix}", f"data.store={made.url}", f"run.dir={folder / name}", "data.val_fraction='0'"]
    return resolve(reader(f"{name}_tiny", [*asked, "run.samples=null", "run.save_every=1000000", *settings]))


def compared(task: Any, others: dict[str, Loop], steps: int) -> dict[str, Any]:
    """Milliseconds of a step of the run and of each other loop, and the ratios of their rates."""
    ours, theirs = in_turns(task, others, steps)
    found: dict[str, Any] = {"step_ms": milliseconds(ours)}
    for name, turns in theirs.items():
        found[f"{name}_step_ms"] = milliseconds(turns)
        found |= {f"to_{name}_{clock}": asdict(ratio(ours, turns, clock)) for clock in ("wall", "cpu")}
    return found


def milliseconds(turns: Sequence[Turn]) -> float:
    return 1000 * float(np.median([median_step(turn, "wall") for turn in turns]))


def measure_task(name: str, folder: Path, turns: int, steps: int) -> dict[str, Any]:
    """See the module's own words; a vocabulary of 8,192 for text, whatever the tokenizer has."""
    wide = {"llm": ("model.decoder.vocabulary=8192",)}.get(name, ())
    task = resolved(name, folder, f"run.steps={turns * (WARM + steps)}", "run.tokens=null", *wide)
    found = {"batch": task.config.global_batch, "precision": task.config.run.precision}
    return found | compared(task, {"bare": bare_loop(task, CPU)}, steps)


def measure_nanogpt(folder: Path, precision: str, turns: int, steps: int) -> dict[str, Any]:
    """A decoder with a perceptron as nanoGPT's, whose other parts are ours; AdamW alone, no average."""
    shape = nanogpt.Shape(width=256, depth=6, heads=8, vocabulary=8192, length=256, rows=8)
    decoder = f"model.decoder={{width: {shape.width}, depth: {shape.depth}, heads: {shape.heads}, "
    decoder += f"kv_heads: {shape.heads}, mlp: gelu, mlp_hidden: {4 * shape.width}, vocabulary: 8192}}"
    task = resolved(
        "llm", folder, decoder, f"data.rows.length={shape.length}", f"data.global_batch={shape.rows}",
        "optim.optimizer=adamw", "optim.weight_decay=0.1", "optim.ema_max=0", f"run.precision={precision}",
        "run.tokens=null", f"run.steps={turns * (WARM + steps)}", "run.log_every=10",
    )  # fmt: skip
    ids = folder / "ids.bin"
    tokens = torch.cat([inputs.token_BS.flatten() for batch in ready(task, CPU) for inputs in batch.inputs])
    tokens.numpy().astype(np.uint16).tofile(ids)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in task.build_model().parameters())
    found = compared(task, {"nanogpt": nanogpt.nanogpt_loop(ids, shape, precision, CPU)}, steps)
    of_a_step = 1000 * shape.rows * shape.length
    return {
        "parameters": parameters,
        "nanogpt_parameters": nanogpt.count_parameters(shape),
        "tokens_per_s": of_a_step / found["step_ms"],
        "nanogpt_tokens_per_s": of_a_step / found["nanogpt_step_ms"],
        **found,
    }


def measure_saves(folder: Path, turns: int, steps: int) -> dict[str, Any]:
    """Of `turns` checkpoints, each of which has `steps` steps to be written in, which the next one ends."""
    settings = (f"run.steps={(turns + 2) * steps}", f"run.save_every={steps}", "run.tokens=null")
    every = [step.wall for step in timed_steps(resolved("llm", folder, *settings))]
    median = float(np.median(every))
    # The first one makes folders, the last one is waited for.
    since = [every[at - 1 : at - 1 + steps] for at in range(2 * steps, (turns + 2) * steps, steps)]
    return {
        "step_ms": 1000 * median,
        "longest": float(np.median([max(of) / median for of in since])),
        "above": float(np.median([sum(max(step / median - 1, 0.0) for step in of) for of in since])),
    }


def policies(steps: int) -> dict[str, Any]:
    paths = sorted(PACKAGED.glob("vla_*.yaml"))
    return {path.stem: measure(read_recipe(path, ["data.mix=none"]), steps) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("llm", "vlm", "vla", "nanogpt", "saves", "policies")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=names, action="append")
    options = parser.parse_args()
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    size = options.turns, options.steps
    for name in options.only or names:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            match name:
                case "nanogpt":
                    for precision in ("fp32", "bf16"):
                        of = measure_nanogpt(folder / precision, precision, *size)
                        found[f"nanogpt, {precision}"] = of
                case "saves":
                    found[name] = measure_saves(folder, *size)
                case "policies":
                    found |= policies(options.steps)
                case _:
                    found[name] = measure_task(name, folder, *size)
    print("\n".join(told(found)))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def told(found: dict[str, Any]) -> list[str]:
    """A line for each figure that is compared, all others as they are."""
    lines = []
    for name, of in found.items():
        if not isinstance(of, dict):
            lines.append(f"{name}: {of}")
            continue
        for key, value in of.items():
            if isinstance(value, dict):
                text = f"{value['median']:.3f} ({value['low']:.3f} … {value['high']:.3f})"
            else:
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"{name:14} {key:22} {text}")
    return lines


if __name__ == "__main__":
    main()
