"""Bits a byte of held-out text, with an interval, beside those of a code that sees no context.

The control is the entropy of single tokens (Shannon 1948), by their frequencies in the very text that is
asked about: what any model reaches, at best, that does not look at what stands before a token.
Legend: n rows, B rows of a batch, S tokens of a row, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.intervals import bootstrap_mean
from robot_foundry.evaluation.row_losses import losses_by_row
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.tasks.llm.inputs import text_inputs, until
from robot_foundry.trainer.tasks.llm.trained import Trained
from robot_foundry.trainer.tasks.mixtures import counts_of

ROWS = 16  # at a time


@dataclass(frozen=True)
class ScoredRows:
    """Of each row [n] the nats that its tokens cost the model, and how many bytes they stand for; `token_n`
    are the tokens of each, in any order."""

    nats_n: NDArray[np.float64]
    bytes_n: NDArray[np.float64]
    token_n: tuple[NDArray[np.int32], ...]

    def alone_n(self) -> NDArray[np.float64]:
        """Nats [n] of the same tokens by their frequencies in all rows."""
        count_V = np.bincount(np.concatenate(self.token_n))
        with np.errstate(divide="ignore"):
            nats_V = -np.log(count_V / count_V.sum())
        return np.array([nats_V[tokens].sum() for tokens in self.token_n])


def text_report(
    trained: Trained, store: Store, *, split: str = "val", rows: int = 512, seed: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """What rows of the run's own mixture cost its model: `real` with its interval, `alone` without context.

    Of one dataset no row is taken twice, so that enough rows are all that the split has. Intervals are of
    2,000 bootstraps over rows; a document that two rows share makes them depend a little.
    """
    lineage = checkpoint.read_json(trained.folder, "lineage.json")
    opened = as_mixture(OpenVersions(store), Mixture.from_json(lineage["mixture"]), split=split)
    counts = counts_of(opened, trained.config.data.rows, split=split)
    taken = min(rows, counts[0]) if len(counts) == 1 else rows
    scored = _scored(trained, opened, split, taken, seed, quiet)
    real_n, alone_n = (nats_n / math.log(2) for nats_n in (scored.nats_n, scored.alone_n()))
    real, *interval = bootstrap_mean(real_n, scored.bytes_n, seed=seed)
    gain, *of_gain = bootstrap_mean(alone_n - real_n, scored.bytes_n, seed=seed)
    is_one = taken < 2  # one row says nothing of others
    return {
        "split": split,
        "rows": taken,
        "bytes": float(scored.bytes_n.sum()),
        "tokens": sum(map(len, scored.token_n)),
        "seed": seed,
        "mixture_id": opened.mixture.id,
        "data": {part.name: {"version": part.component.version} for part in opened.parts},
        "bits_per_byte": {"real": real, "alone": float(alone_n.sum() / scored.bytes_n.sum())},
        "real_95": None if is_one else interval,
        "gain": {"mean": gain, "interval_95": None if is_one else of_gain},
    }


def _scored(
    trained: Trained, opened: OpenMixture, split: str, taken: int, seed: int, quiet: bool
) -> ScoredRows:
    nats: list[float] = []
    num_bytes: list[float] = []
    tokens: list[NDArray[np.int32]] = []
    spec = trained.config.data.rows
    loader = load(opened, spec, seed=seed, global_batch=ROWS, split=split, threads=0)
    with loader, Progress(taken, "rows", "text", quiet=quiet) as progress:
        for b in range(-(-taken // ROWS)):
            batch: TokenBatch = until(loader.batch(b), taken)
            for row, cost in _rows(trained, batch):
                nats.append(cost)
                num_bytes.append(float(batch.bytes_B[row]))
                tokens.append(batch.target_BS[row][batch.segment_BS[row] >= 0])
            progress.advance(min(ROWS, taken - b * ROWS))
    return ScoredRows(np.array(nats), np.array(num_bytes), tuple(tokens))


@torch.inference_mode()
def _rows(trained: Trained, batch: TokenBatch) -> Iterator[tuple[int, float]]:
    """The number in the batch, and the nats, of each row that has tokens."""
    model = trained.model
    inputs = text_inputs(batch).to(model.output_weight.device)
    real_BS = inputs.segment_BS >= 0
    sum_B, count_B = losses_by_row(model.hidden(inputs), inputs.target_BS, real_BS, model.output_weight)
    for row in np.flatnonzero(count_B).tolist():
        yield row, float(sum_B[row])
