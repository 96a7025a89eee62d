"""What docs/text.md and examples/corpus/README.md say runs, and is so."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from foundry_testing.pages import ROOT, fences, run_page
from foundry_testing.tokens import write_tokens

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.loader.tokens.rows import RowSpec

PAGE = (ROOT / "docs" / "text.md").read_text("utf-8")
# What a whole corpus and a whole run would take: of what begins so, less.
CORPUS = {"python examples/corpus/make.py corpus.jsonl": "--megabytes 0.5"}
SHORT = "run.steps=4 data.rows.length=64 run.eval_samples=16"
LESS = {
    "docs/text.md": CORPUS | {"foundry-train llm data.mix=corpus-bpe8k run.dir=": SHORT},
    "examples/corpus/README.md": CORPUS,
}


@pytest.mark.parametrize("page", ["docs/text.md", "examples/corpus/README.md"])
def test_every_command_and_program_of_the_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_page(page, tmp_path, LESS[page], monkeypatch) == fences(page)


def drawn(name: str) -> list[str]:
    """The symbols behind a name in the picture of packed rows."""
    (line,) = re.findall(rf"^    {name} +((?:\S )*\S)(?: {{3}}|$)", PAGE, re.MULTILINE)
    return line.split(" ")


def test_packed_rows_are_those_of_the_picture() -> None:
    store = Store(f"memory://picture-{uuid4().hex}")
    texts = "".join(drawn("block")).split("⏎")[:-1]
    end = write_tokens(store, "t", [texts]).tokenizer.end

    def shown(symbol_S: np.ndarray, real_S: np.ndarray) -> list[str]:
        named = ["⏎" if symbol == end else chr(symbol) for symbol in symbol_S.tolist()]
        return [name if real else "-" for name, real in zip(named, real_S.tolist(), strict=True)]

    loader = load("t", RowSpec(length=6), seed=0, global_batch=3, store=store)
    batch = next(iter(loader))
    assert isinstance(batch, TokenBatch)
    real_BS = batch.segment_BS >= 0
    rows = [shown(batch.target_BS[b], real_BS[b]) for b in range(3)]
    assert sorted(rows) == sorted(drawn(f"row {number}") for number in range(3))
    one = rows.index(drawn("row 1"))
    assert drawn("targets") == rows[one]
    assert drawn("inputs") == shown(batch.token_BS[one], real_BS[one])
    assert drawn("segments") == [str(number) for number in batch.segment_BS[one].tolist()]
    assert drawn("positions") == [str(number) for number in batch.position_BS[one].tolist()]
