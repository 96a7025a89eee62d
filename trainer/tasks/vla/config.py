"""The resolved configuration of a training run, and what must hold between its fields.

`recipe.py` reads YAML and the command line into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from robot_foundry.catalog.selection import SPLIT_BY
from robot_foundry.loader.substituted import MAX_SUBSTITUTED
from robot_foundry.runtime.errors import nearest
from robot_foundry.trainer.models.attention import MLP_KINDS
from robot_foundry.trainer.models.flow import DENSITIES
from robot_foundry.trainer.models.tokenizer import VOCABULARY
from robot_foundry.trainer.models.vit import POSITIONS, STEMS, ViTConfig
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.windows.chunk_statistics import WEIGHTINGS
from robot_foundry.windows.window import WindowSpec

NORMALIZATIONS = ("merged", "per_dataset")
SCOPES = ("pooled", "per_offset")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "trapezoid", "constant")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")
DETERMINISMS = ("strict", "fast")
KEEP, REFIT = "keep", "refit"


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    mix: str | None = None  # a reference (lift, lift@v3) or weights (sim=0.6,real=0.4)
    store: str | None = None  # folder or URL; default: $FOUNDRY_STORE, else ./store
    split_by: str | None = None  # held out: `episode` (the default) whole ones, `time` the end of each
    val_fraction: str | None = None  # held out, by default 1/10; a stored mixture says both itself
    window: WindowSpec = field(default_factory=WindowSpec)
    global_batch: int = 32  # samples an optimiser step, over all ranks and microbatches
    threads: int = 1  # decoding threads a rank
    normalization: str = "merged"  # merged: one scale for the mixture | per_dataset
    normalization_scope: str = "pooled"  # pooled: one scale for all steps of a chunk | per_offset
    normalization_weights: str = "count"  # count: every frame once | mixture: as often as it is drawn
    percentiles: tuple[float, float] = (1.0, 99.0)  # mapped to -1 and 1
    clip: float = 1.5  # normalised targets are clipped at ±clip


@dataclass(frozen=True)
class InitConfig:
    """Where the first weights come from. Without `weights` they are random, keyed by the seed."""

    weights: str | None = None  # a run, checkpoint folder or pointer file; averaged weights if it has them
    only: tuple[str, ...] = ()  # names of parameters, or how they begin (backbone, head.blocks); () is all
    normalizer: str = REFIT  # refit: statistics of this mixture | keep: those of the run that `weights` names


@dataclass(frozen=True)
class OptimConfig:
    """How weights move."""

    optimizer: str = "adamw"  # adamw | muon: Muon for hidden matrices, AdamW for the rest
    lr: float = 3e-4  # peak of AdamW
    muon_lr: float = 0.02  # peak of Muon
    backbone_lr_scale: float = 1.0  # factor on both in the vision-language backbone
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-8  # of matrices; vectors and embeddings do not decay
    clip: float = 1.0  # on the norm of the whole gradient
    schedule: str = "cosine"  # cosine: to zero at the last step | trapezoid: in its last quarter | constant
    warmup: float = 0.03  # share of all steps
    ema_power: float = 0.75  # decay at step n is min(ema_max, 1 - (1 + n)^-ema_power)
    ema_max: float = 0.999  # 0 keeps no average


@dataclass(frozen=True)
class RunConfig:
    """How long, where, and what is written. Intervals are in optimiser steps."""

    dir: str | None = None  # default: runs/<name>-<hash of what decides the weights>
    steps: int | None = None  # give this or `samples`
    samples: int | None = None
    accumulate: int = 1  # microbatches a step and rank
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "fp32"  # fp32 | bf16: autocast; weights stay fp32
    determinism: str = "strict"  # strict: the same bits in every run | fast
    log_every: int = 10
    save_every: int = 500
    keep_last: int = 3
    keep_every: int | None = None  # checkpoints at multiples of it are never deleted
    eval_every: int | None = None  # held-out loss; always once at the end
    eval_samples: int = 256
    max_skipped: int = 20  # non-finite steps in a row that end the run
    max_substituted: float = MAX_SUBSTITUTED  # share of damaged samples that ends the run; 100 are let pass


@dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "vla"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: VLAConfig = field(default_factory=VLAConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        if self.run.steps is not None:
            return self.run.steps
        assert self.run.samples is not None
        return -(-self.run.samples // self.data.global_batch)


def problems(config: Config) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    yield from _data_problems(config.data)
    yield from _model_problems(config.model, config.data.window.image)
    yield from _init_problems(config.init)
    yield from _optim_problems(config.optim)
    yield from _run_problems(config.run, config.data.global_batch)


def _choice(path: str, value: str, known: tuple[str, ...]) -> Iterator[str]:
    if value not in known:
        yield f"{path}: '{value}' is none of {', '.join(known)}{nearest(value, known)}"


def _at_least(least: int, section: str, config: object, *names: str) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            yield f"{section}.{name}: must be at least {least}, not {value}"


def _multiple(path: str, value: int, of: int, what: str) -> Iterator[str]:
    if of > 0 and value % of:
        yield f"{path}: {value} is no multiple of {what} ({of})"


def _data_problems(data: DataConfig) -> Iterator[str]:
    if not data.mix:
        yield "data.mix: is missing; give a dataset (data.mix=lift) or weights (data.mix=sim=0.6,real=0.4)"
    window = data.window
    yield from _at_least(1, "data", data, "global_batch", "threads")
    if data.split_by is not None:
        yield from _choice("data.split_by", data.split_by, SPLIT_BY)
    yield from _choice("data.normalization", data.normalization, NORMALIZATIONS)
    yield from _choice("data.normalization_scope", data.normalization_scope, SCOPES)
    yield from _choice("data.normalization_weights", data.normalization_weights, WEIGHTINGS)
    if not window.cameras:
        yield "data.window.cameras: name at least one camera role"
    if window.image is None:
        yield "data.window.image: is missing; give [height, width] in pixels"
    low, high = data.percentiles
    if not 0 <= low < high <= 100:
        yield f"data.percentiles: two rising numbers in 0 … 100 are needed, not {low}, {high}"
    if not 1 <= data.clip < inf:
        yield f"data.clip: must be at least 1 and finite, not {data.clip}"


def _model_problems(model: VLAConfig, image: tuple[int, int] | None) -> Iterator[str]:
    backbone, decoder = model.backbone, model.backbone.decoder
    yield from _vit_problems(backbone.vision)
    yield from _at_least(1, "model.backbone", backbone, "shuffle")
    for side, pixels in zip(("height", "width"), image or (), strict=image is not None):
        cell = backbone.vision.patch * backbone.shuffle
        yield from _multiple(
            f"data.window.image {side}", pixels, cell, "model.backbone.vision.patch × shuffle"
        )
    path = "model.backbone.decoder"
    yield from _transformer_problems(path, decoder)
    yield from _at_least(1, path, decoder, "kv_heads")
    yield from _multiple(f"{path}.heads", decoder.heads, decoder.kv_heads, "kv_heads")
    yield from _at_least(VOCABULARY, path, decoder, "vocabulary")
    if decoder.heads > 0 and decoder.width % decoder.heads == 0:
        yield from _multiple(
            f"{path}: the width of a head", decoder.width // decoder.heads, 2, "rotary positions"
        )
    yield from _transformer_problems("model.head", model.head)
    yield from _at_least(1, "model", model, "taps", "tap_width", "text_length", "draws")
    if model.taps > decoder.depth:
        yield f"model.taps: {model.taps} layers cannot be read from a decoder of depth {decoder.depth}"
    yield from _choice("model.density", model.density, DENSITIES)
    if model.state_noise < 0:
        yield f"model.state_noise: must not be negative, not {model.state_noise}"


def _transformer_problems(path: str, config: object) -> Iterator[str]:
    yield from _at_least(1, path, config, "width", "depth", "heads", "mlp_hidden")
    yield from _choice(f"{path}.mlp", config.mlp, MLP_KINDS)  # type: ignore[attr-defined]
    yield from _multiple(f"{path}.width", config.width, config.heads, "heads")  # type: ignore[attr-defined]


def _vit_problems(vision: ViTConfig) -> Iterator[str]:
    path = "model.backbone.vision"
    yield from _transformer_problems(path, vision)
    yield from _at_least(1, path, vision, "patch")
    yield from _choice(f"{path}.stem", vision.stem, STEMS)
    yield from _choice(f"{path}.position", vision.position, POSITIONS)
    if vision.position == "sincos":
        yield from _multiple(f"{path}.width", vision.width, 4, "what sincos positions need")
    if vision.stem == "conv" and vision.patch > 1:
        if vision.patch & (vision.patch - 1):
            yield f"{path}.patch: a conv stem needs a power of two, not {vision.patch}"
        else:
            yield from _multiple(f"{path}.width", vision.width, vision.patch // 2, "what its conv stem needs")


def _init_problems(init: InitConfig) -> Iterator[str]:
    yield from _choice("init.normalizer", init.normalizer, (KEEP, REFIT))
    if init.weights is None and init != InitConfig():
        yield "init.weights: is missing; init.only and init.normalizer need a run to start from"


def _optim_problems(optim: OptimConfig) -> Iterator[str]:
    yield from _choice("optim.optimizer", optim.optimizer, OPTIMIZERS)
    yield from _choice("optim.schedule", optim.schedule, SCHEDULES)
    for name in ("lr", "muon_lr", "backbone_lr_scale", "clip", "ema_power"):
        if not getattr(optim, name) > 0:
            yield f"optim.{name}: must be positive, not {getattr(optim, name)}"
    for name, values in (("warmup", [optim.warmup]), ("ema_max", [optim.ema_max]), ("betas", optim.betas)):
        if any(not 0 <= value < 1 for value in values):
            yield f"optim.{name}: must lie in [0, 1), not {', '.join(map(str, values))}"
    if optim.weight_decay < 0:
        yield f"optim.weight_decay: must not be negative, not {optim.weight_decay}"


def _run_problems(run: RunConfig, global_batch: int) -> Iterator[str]:
    if (run.steps is None) == (run.samples is None):
        yield "run: give the length as either run.steps or run.samples"
    yield from _at_least(
        1, "run", run, "steps", "samples", "accumulate", "log_every", "save_every", "keep_last", "keep_every",
        "eval_every", "eval_samples", "max_skipped",
    )  # fmt: skip
    if not 0 <= run.max_substituted <= 1:
        yield f"run.max_substituted: must lie in [0, 1], not {run.max_substituted}"
    yield from _multiple("data.global_batch", global_batch, run.accumulate, "run.accumulate")
    yield from _choice("run.device", run.device, DEVICES)
    yield from _choice("run.precision", run.precision, PRECISIONS)
    yield from _choice("run.determinism", run.determinism, DETERMINISMS)
