"""The commands of the examples for clusters, as they are run there, but of a run of one's own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "cluster"
SBATCH, KUBERNETES = FOLDER / "slurm.sbatch", FOLDER / "kubernetes.yaml"


def slurm_arguments(given: Sequence[str]) -> list[str]:
    """Those of foundry-train in a task of the Slurm script that is given these, on machines without GPUs."""
    [line] = re.findall(r"^srun .* foundry-train (.*) &$", SBATCH.read_text(), re.MULTILINE)
    words = shlex.split(line.replace('"${SLURM_GPUS_ON_NODE:-1}"', "1").replace('"$@"', "GIVEN"))
    return [word for each in words for word in (given if each == "GIVEN" else [each])]


def manifests() -> list[Any]:
    """The parts of the Kubernetes example: the service and the job."""
    return list(YAML(typ="safe").load_all(KUBERNETES.read_text()))


def pod_arguments(given: Sequence[str], index: int) -> list[str]:
    """Those of foundry-train in this pod, with another run, one rank, and the first node on this machine."""
    command = manifests()[1]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["sh", "-c"]
    program, *words = shlex.split(command[2].removeprefix("exec "))
    assert program == "foundry-train"
    own = {
        "8": "1",
        "$JOB_COMPLETION_INDEX": str(index),
        "foundry-0.foundry:29400": "127.0.0.1:{port}",
    }
    at = next(i for i, word in enumerate(words) if word.startswith("--"))
    return [*given, *(own.get(word, word) for word in words[at:])]
