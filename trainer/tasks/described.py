"""The readable files of a checkpoint whose model has a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot_foundry.runtime.files import read_utf8
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml

CONFIG, TOKENIZER = "config.yaml", "tokenizer.json"


def files(config: object, tokenizer: Tokenizer) -> dict[str, str]:
    """Their texts, by file name."""
    text = json.dumps(tokenizer.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    return {CONFIG: write_yaml(resolved(config)), TOKENIZER: text}


def read_values(folder: Path) -> dict[str, Any]:
    """What the config.yaml of a checkpoint says."""
    return read_yaml(read_utf8(folder / CONFIG), str(folder / CONFIG))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint."""
    return tokenizers.from_json(checkpoint.read_json(folder, TOKENIZER), str(folder / TOKENIZER))
