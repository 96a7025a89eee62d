"""The examples for clusters are what Slurm, Kubernetes and Ray take, and do what their comments say.

Their commands run on two nodes in test_trainer_nodes.py; that of Ray does so here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from foundry_testing import cluster_examples
from foundry_testing.pages import missing_links
from foundry_testing.trained_tasks import LLM

from robot_foundry.trainer.checkpoints import checkpoint

# sbatch(1), OPTIONS: those with a value as the script gives them.
OPTIONS = {
    "job-name": r"\S+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d+(:\d{2}){0,2}",
    "signal": r"([RB]+:)?(SIG)?[A-Z0-9]+(@\d{1,5})?",
    "requeue": "",
    "open-mode": "append|truncate",
    "output": r"\S+",
}


def test_the_slurm_script_has_options_that_sbatch_knows() -> None:
    lines = cluster_examples.SBATCH.read_text().splitlines()
    asked = dict(
        re.fullmatch(r"#SBATCH --([a-z-]+)=?(.*)", line).groups()  # type: ignore[union-attr]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert lines[0] == "#!/bin/bash" and len(asked) == len(OPTIONS)
    assert [name for name in asked if not re.fullmatch(OPTIONS[name], asked[name])] == []
    # Slurm reads them up to the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_the_slurm_script_is_sound_bash() -> None:
    checkers = [["bash", "-n"], *([["shellcheck"]] if shutil.which("shellcheck") else [])]
    for checker in checkers:
        done = subprocess.run([*checker, cluster_examples.SBATCH], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


SRUN = """#!/bin/bash
echo "srun $* on $SRUN_CPUS_PER_TASK cores" >> calls
trap 'echo stopped >> calls; exit 75' USR2
[ "$ENDS" = at-once ] && exit 0
touch begun
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("ends", ["at-once", "when-asked"])
def test_the_slurm_script_hands_usr2_on_and_queues_the_job_again_at_75(tmp_path: Path, ends: str) -> None:
    """With programs in the place of srun and scontrol that write down how they were called."""
    for name, text in {"srun": SRUN, "scontrol": '#!/bin/bash\necho "scontrol $*" >> calls\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ENDS": ends,
        "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "64",
    }  # fmt: skip
    command = ["bash", str(cluster_examples.SBATCH), "vla", "mine.yaml", "name=a b"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as script:
        if ends == "when-asked":
            while not (tmp_path / "begun").exists() and script.poll() is None:
                time.sleep(0.02)
            script.send_signal(signal.SIGUSR2)
        assert script.wait(60) == (0 if ends == "at-once" else 75)
    called = "srun --kill-on-bad-exit=0 foundry-train vla mine.yaml name=a b --nproc 4 on 64 cores"
    after = [] if ends == "at-once" else ["stopped", "scontrol requeue 7"]
    assert (tmp_path / "calls").read_text().splitlines() == [called, *after]


def test_the_kubernetes_example_is_an_indexed_job_whose_pods_find_the_first() -> None:
    """Fields and values of batch/v1 Job and v1 Service, and names that must be those of another place."""
    service, job = cluster_examples.manifests()
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec: dict[str, Any] = job["spec"]
    pod = spec["template"]["spec"]
    name, domain = job["metadata"]["name"], service["metadata"]["name"]
    assert service["spec"] == {
        "clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": name},
    }  # fmt: skip
    assert set(spec) == {
        "completionMode", "completions", "parallelism", "backoffLimit", "podReplacementPolicy",
        "podFailurePolicy", "template",
    }  # fmt: skip
    assert (spec["completionMode"], spec["podReplacementPolicy"]) == ("Indexed", "Failed")
    assert (pod["subdomain"], pod["restartPolicy"]) == (domain, "Never")
    assert pod["terminationGracePeriodSeconds"] >= 60
    [container] = pod["containers"]
    words = container["command"][2].split()
    assert words[words.index("--master") + 1] == f"{name}-0.{domain}:29400"
    nodes = int(words[words.index("--nnodes") + 1])
    assert nodes == spec["completions"] == spec["parallelism"]
    assert int(words[words.index("--nproc") + 1]) == container["resources"]["limits"]["nvidia.com/gpu"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    rules = spec["podFailurePolicy"]["rules"]
    codes = {tuple(rule["onExitCodes"]["values"]): rule["action"] for rule in rules if "onExitCodes" in rule}
    assert codes == {(2,): "FailJob", (75,): "Ignore"}
    for rule in rules:
        assert set(rule) == {"action", "onExitCodes"} or rule == {
            "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}],
        }  # fmt: skip
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == container["name"]
            assert rule["onExitCodes"]["operator"] == "In"


def test_the_page_links_to_what_is_there_and_tells_the_commands_of_the_examples() -> None:
    assert missing_links(cluster_examples.PAGE) == []
    page = (cluster_examples.ROOT / cluster_examples.PAGE).read_text("utf-8")
    for name in ("slurm.sbatch", "kubernetes.yaml", "ray_nodes.py"):
        [command] = re.findall(rf"^(?:sbatch|kubectl|python) .*{name}.*$", page, re.MULTILINE)
        told = (cluster_examples.FOLDER / name).read_text("utf-8")
        assert re.sub(r"run\.dir=\S+", "", command) in re.sub(r"run\.dir=\S+", "", told)


@pytest.mark.soak  # its ranks give way to all else on the machine, as Ray's workers do
def test_two_workers_of_a_ray_cluster_train_one_run(ray_workers: int, tmp_path: Path) -> None:
    import ray

    store = LLM.make_store(tmp_path / "store")
    given = LLM.arguments(store, tmp_path / "run", "run.steps=2")
    program = cluster_examples.FOLDER / "ray_nodes.py"
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, program, "--nnodes", str(ray_workers), *given],
        env={**os.environ, "RAY_ADDRESS": address}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last = checkpoint.latest(tmp_path / "run")
    assert last is not None and last.name == "step-00000002"
    assert (tmp_path / "run" / "logs" / "rank-00001.log").exists()
