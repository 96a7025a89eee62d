"""The commands of the examples for clusters, as they are run there, but of a run of one's own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[3]
FOLDER, PAGE = ROOT / "examples" / "cluster", "docs/clusters.md"
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


def page_command(begin: str, given: Sequence[str], port: str) -> list[str]:
    """The command of the page that begins so, with another run, one rank a node, and all on this machine."""
    lines = re.findall(r"```bash\n(.*?)```", (ROOT / PAGE).read_text("utf-8"), re.DOTALL)[0].splitlines()
    [line] = [line for line in lines if line.startswith(begin)]
    words = shlex.split(line.replace("vla my_recipe.yaml run.dir=runs/a", "GIVEN"), comments=True)
    own = {"8": "1", "node001": "127.0.0.1", "node001:29400": f"127.0.0.1:{port}"}
    return [own.get(w, w) for each in words for w in (given if each == "GIVEN" else [each])]
