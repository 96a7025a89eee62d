"""A language model of 1.2 B and a policy of 1.7 B on one GPU: what a run does a second, beside a bare loop.

    python benchmarks/gpu.py [--turns 3] [--steps 8] [--only MODEL] [--how HOW]... [--json FILE]
    python benchmarks/gpu.py --tiny                                 the same code, on any machine

In bf16, from a store of generated data: rows of 2,048 tokens; eight pictures of
256 x 256 (four cameras, two steps each), of which the machine's cores decode every one. Told are rows or
samples a second of `foundry-train` and of a bare loop over the same model, which take turns; the ratio of
their rates (see `compared/turns.py`); the share of the time that steps waited for data; the largest memory;
and the share of --tflops, which PyTorch counts of a pass, without what is computed again.
Each is run in four ways: eager, compiled, and eager as DDP and FSDP2 treat a rank (`compared/alone.py`).
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from compared import stores
from compared.alone import DDP, FSDP2, PLAIN, alone
from compared.bare import bare_loop
from compared.turns import WARM, in_turns, median_step, ratio
from torch.utils.flop_counter import FlopCounterMode

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.tasks.llm import recipe as llm_recipe
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla import recipe as vla_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

CAMERAS = ("primary", "secondary", "wrist_right", "wrist_left")
LARGE = {
    "llm_1_2b": ("data.rows.length=2048", "data.global_batch=8", "model=llm_1_2b"),
    "vla_1_7b": ("data.global_batch=16", "model=vla_1_7b", "data.window.image=[256, 256]", "data.threads=14"),
}
TINY = {
    "llm_1_2b": ("data.rows.length=64", "data.global_batch=4"),
    "vla_1_7b": ("data.global_batch=4", "data.window.image=[64, 64]"),
}
# By name: by which strategy, and whether compiled.
WAYS = {"eager": (PLAIN, False), "compiled": (PLAIN, True), DDP: (DDP, False), FSDP2: (FSDP2, False)}
VIEWS = ("data.window.history=2", f"data.window.cameras=[{', '.join(CAMERAS)}]")


def resolved(name: str, store: Store, run_dir: Path, settings: tuple[str, ...]) -> Any:
    """One of the two on the store, nothing held out."""
    where = (f"data.store={store.url}", f"run.dir={run_dir}", "data.val_fraction='0'")
    same = ("optim.optimizer=adamw", "run.precision=bf16", "run.save_every=1000000", "run.log_every=4")
    if name == "llm_1_2b":
        asked = ["data.mix=words", *where, *same, "run.tokens=null", *settings]
        return resolve_llm(llm_recipe.read_recipe("llm_tiny", asked))
    asked = ["data.mix=arm", *where, *same, "run.samples=null", *VIEWS, *settings]
    return resolve_vla(vla_recipe.read_recipe("vla_tiny", asked))


def measure(task: Any, device: torch.device, turns: int, steps: int, peak: float) -> dict[str, Any]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    bare = bare_loop(task, device)
    with FlopCounterMode(display=False) as counter:
        bare(1)
    ours, theirs = in_turns(task, {"bare": bare}, steps)
    rate = task.config.global_batch / median_step([step for turn in ours for step in turn], "wall")
    of_bare = [step for turn in theirs["bare"] for step in turn]
    records = [record for record in read_metrics(task.run_dir) if "data_wait" in record]
    flops = counter.get_total_flops() / task.config.global_batch
    return {
        "samples_per_s": rate,
        "bare_samples_per_s": task.config.global_batch / median_step(of_bare, "wall"),
        "ratio": asdict(ratio(ours, theirs["bare"], "wall")),
        "data_wait": records[-1]["data_wait"],
        "utilisation": rate * flops / peak,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tflops", type=float, default=989.0, help="of the GPU, dense, in bf16")
    parser.add_argument("--tiny", action="store_true", help="models of a million parameters, on any device")
    parser.add_argument("--only", choices=LARGE, action="append")
    parser.add_argument("--how", choices=WAYS, action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.error("there is no GPU; --tiny runs the same on any device")
    found: dict[str, Any] = {"torch": torch.__version__, "device": device.type}
    length = f"run.steps={options.turns * (WARM + options.steps)}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        side, frames, documents = (64, 100, 100) if options.tiny else (256, 1500, 3000)
        made = {
            "llm_1_2b": stores.token_store(folder / "tokens", documents),
            "vla_1_7b": stores.robot_store(folder / "robots", side, CAMERAS, frames),
        }
        for name in options.only or LARGE:
            for how in options.how or WAYS:
                strategy, compiled = WAYS[how]
                settings = (
                    *(TINY if options.tiny else LARGE)[name], length, f"run.compile={compiled}".lower(),
                )  # fmt: skip
                task = resolved(name, made[name], folder / f"{name}-{how}", settings)
                with alone(strategy, device):
                    of = measure(task, device, options.turns, options.steps, options.tflops * 1e12)
                found[f"{name}, {how}"] = of
                print(f"{name}, {how}", json.dumps(of), flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
