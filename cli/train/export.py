"""foundry-train export: the weights of a run as other tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import RUN, dry_run_option, json_option
from robot_foundry.cli.output import emit, size
from robot_foundry.runtime.errors import FoundryError

if TYPE_CHECKING:
    from robot_foundry.trainer.pretrained.exporting import Export


@click.command(name="export")
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--format",
    "kind",
    type=click.Choice(("transformers", "safetensors")),
    default="transformers",
    show_default=True,
    help="A folder that transformers loads, or the weights by the names that they have here.",
)
@dry_run_option
@json_option
def command(run: Path, out: Path, kind: str, dry_run: bool, as_json: bool) -> None:
    """Write the weights of RUN into the new folder OUT.

    RUN is a run, one of its checkpoints or a pointer file; averaged weights are taken where it has them.
    transformers has an architecture for language models whose parts are those of Llama, Qwen or Arcee;
    safetensors are written of any model, with the readable files of its checkpoint.
    """
    from robot_foundry.trainer.pretrained.exporting import check_free
    from robot_foundry.trainer.pretrained.tensor_files import WHOLE

    check_free(out)
    export = _as_transformers(run) if kind == "transformers" else _as_safetensors(run)
    if not dry_run:
        export.write(out)
    weights_bytes, files = 4 * export.num_parameters, [WHOLE, *export.files]
    result = {
        "folder": out,
        "format": kind,
        "architecture": export.architecture,
        "checkpoint": export.checkpoint,
        "weights": "ema" if export.averaged else "model",
        "parameters": export.num_parameters,
        "weights_bytes": weights_bytes,
        "tensors": len(export.shapes),
        "files": files,
        "written": not dry_run,
    }

    def text() -> str:
        averaged = "averaged weights" if export.averaged else "weights"
        what = f"{export.num_parameters:,} parameters, {size(weights_bytes)} in float32"
        return "\n".join(
            [
                f"{'would write' if dry_run else 'written':<14}{out}",
                f"{'model':<14}{export.architecture or 'by our own names'} ({what})",
                f"{'from':<14}{averaged} of {export.checkpoint}",
                f"{'files':<14}{', '.join(files)}",
            ]
        )

    emit(result, as_json=as_json, text=text)


def _as_safetensors(run: Path) -> Export:
    from robot_foundry.trainer.checkpoints import checkpoint
    from robot_foundry.trainer.pretrained.exporting import as_safetensors

    return as_safetensors(checkpoint.find(run))


def _as_transformers(run: Path) -> Export:
    from robot_foundry.trainer.pretrained.exporting import as_transformers
    from robot_foundry.trainer.tasks.llm.trained import TrainedFiles

    try:
        trained = TrainedFiles.find(run)
        config = trained.config
        return as_transformers(
            trained.origin.folder, config.model, trained.tokenizer, config.data.rows.length
        )
    except FoundryError as error:
        error.hint = error.hint or "--format safetensors writes the weights of any model"
        raise
