"""Weights & Biases, for runs that ask for it: `run.wandb: PROJECT`, with the extra `wandb`.

A run of ours is one run there, however often it is resumed: its id is made once and kept in RUN/wandb.json.
W&B takes no step twice, so records that come again after a restart, which are the same, are not sent again.
How one logs in is W&B's own affair (WANDB_API_KEY, WANDB_MODE=offline, `wandb login`); nothing of it is read
or written here, and neither are the places of data, which may hold keys.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.metering.sinks import Record

ID = "wandb.json"


@dataclass(frozen=True)
class WandbSettings:
    """Where records go beside the run's folder."""

    wandb: str | None = None  # a project of Weights & Biases, or ENTITY/PROJECT


def check_installed(settings: WandbSettings) -> None:
    """FoundryError where the extra is missing: before a run starts, as that is no fault of its way."""
    if settings.wandb is None:
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise FoundryError(
            f"run.wandb needs the package wandb ({error})", hint="pip install 'robot-foundry[wandb]'"
        ) from error


class WeightsBiases:
    """A run there. `config` is what the run's recipe comes to."""

    def __init__(self, project: str, run_dir: Path, config: Mapping[str, Any]) -> None:
        import wandb

        entity, _, name = project.rpartition("/")
        self._run = wandb.init(
            project=name,
            entity=entity or None,
            id=_run_id(run_dir),
            name=run_dir.name,
            dir=str(run_dir),
            config=without_places(config),
            resume="allow",
            # Of the process nothing is looked at: neither its output, nor code and command line.
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True, silent=True),
        )
        self._sent = int(self._run.step)  # W&B's own count: one more than the last step that it has

    def write(self, record: Record) -> None:
        if record["step"] < self._sent:
            return
        values = {name: value for name, value in record.items() if name != "step" and value is not None}
        self._run.log(values, step=int(record["step"]))

    def close(self) -> None:
        self._run.finish()


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without where its data lie, at any depth."""
    return {
        name: without_places(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name != "store"
    }


def _run_id(run_dir: Path) -> str:
    """The id of the run there, made where there is none."""
    path = run_dir / ID
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    made = secrets.token_hex(8)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps({"id": made}) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return made
