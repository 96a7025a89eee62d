"""What docs/text.md and examples/corpus/README.md say runs, and is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from foundry_testing.tokens import write_tokens

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.loader.tokens.rows import RowSpec

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "text.md").read_text("utf-8")
# What a whole corpus and a whole run would take: of what begins so, less.
LESS = {
    "python examples/corpus/make.py corpus.jsonl": "--megabytes 0.5",
    "foundry-train llm data.mix=corpus-bpe8k run.dir=": "run.steps=4 data.rows.length=64 run.eval_samples=16",
}


@pytest.mark.parametrize("page", ["docs/text.md", "examples/corpus/README.md"])
def test_every_command_and_program_of_the_page_runs(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if name != "FOUNDRY_STORE"} | {"PATH": path}
    blocks = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    for language, text in blocks:
        commands = [["bash", "-c", shortened(line)] for line in text.splitlines()]
        for command in commands if language == "bash" else [[sys.executable, "-c", text]]:
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def shortened(command: str) -> str:
    return " ".join([command, *(less for begin, less in LESS.items() if command.startswith(begin))])


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


def test_every_page_and_heading_that_the_page_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, heading = target.partition("#")
        text = (ROOT / "docs" / file).read_text("utf-8") if file else PAGE
        named = [
            re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
            for h in re.findall(r"^#+ (.*)$", text, re.M)
        ]
        assert not heading or heading in named, target
