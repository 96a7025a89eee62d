"""What Slurm tells the tasks that one srun started (srun(1), OUTPUT ENVIRONMENT VARIABLES)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """This is task `index` of `tasks`, of which the first is on `host`; `port` is the same for all."""

    tasks: int
    index: int
    host: str
    port: int


def step(environment: Mapping[str, str]) -> Step | None:
    """The job step that this process is a task of; None where there is none, or it is the only task.

    SLURM_NTASKS is set in a batch script as well, where no other task runs; SLURM_STEP_NUM_TASKS is not.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if tasks == 1:
        return None
    hosts = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    job, number = (int(environment.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    # Below 32768, where Linux begins to give ports to whoever asks for any.
    return Step(
        tasks, int(environment["SLURM_PROCID"]), first_host(hosts), 20000 + (7 * job + number) % 10000
    )


def first_host(hosts: str) -> str:
    """'gpu-[003-005,7],login1' → 'gpu-003', as `scontrol show hostnames` lists it first."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])
