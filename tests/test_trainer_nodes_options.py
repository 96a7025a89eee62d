"""How many launchers train together, by options or by Slurm; what is incomplete or contradicts is told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.ranks.logs import log_path, open_log, tail
from robot_foundry.trainer.ranks.nodes import Nodes, chosen, meet
from robot_foundry.trainer.ranks.numerics import refusals
from robot_foundry.trainer.ranks.slurm import first_host, step
from robot_foundry.trainer.tasks.llm.recipe import read_recipe

STEP = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NODELIST": "gpu[003-006]",
    "SLURM_JOB_ID": "81",
    "SLURM_STEP_ID": "3",
}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        ((1,), {}, None),
        ((8,), {}, Nodes()),
        ((8, 1), {}, Nodes()),
        ((8, 4, 3, "gpu1:99"), {}, Nodes(4, 3, "gpu1", 99)),
        ((8, 4, 0, "gpu1"), {}, Nodes(4, 0, "gpu1", 29400)),
        ((1, 2, 1, "[fd00::1]:99"), {}, Nodes(2, 1, "fd00::1", 99)),
        ((1, 2, 0, "127.0.0.1:0"), {}, Nodes(2, 0, "127.0.0.1", 0)),
        ((8,), STEP, Nodes(4, 2, "gpu003", 20570)),
        ((8, 4), STEP, Nodes(4, 2, "gpu003", 20570)),
        ((8, None, None, "ib7:5"), STEP, Nodes(4, 2, "ib7", 5)),
        ((8,), {**STEP, "SLURM_STEP_NUM_TASKS": "1"}, Nodes()),  # `srun --pty bash`, say
        ((1,), {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # a batch script: nobody else is there
        ((1,), TORCHRUN, None),
        ((8, 2, 0, "a:1"), {**TORCHRUN, "FOUNDRY_LAUNCHER": "7"}, None),
        ((8,), {**TORCHRUN, **STEP, "FOUNDRY_LAUNCHER": "7"}, None),
    ],
)
def test_options_and_environments_say_who_meets(
    asked: tuple[Any, ...], environment: dict[str, str], expected: Nodes | None
) -> None:
    assert chosen(*asked, environment=environment) == expected


@pytest.mark.parametrize(
    ("asked", "environment", "told"),
    [
        ((8, 2), {}, "--nnodes 2 needs --node-rank 0 … 1 and --master HOST:PORT"),
        ((8, 2, 1), {}, "--nnodes 2 needs --node-rank 0 … 1 and --master HOST:PORT"),
        ((8, None, 1, "a:1"), {}, "--nproc and --node-rank and --master without --nnodes"),
        ((8, 1, 1, "a:1"), {}, "--node-rank 1, but there is one node"),
        ((8, 2, 2, "a:1"), {}, "--node-rank 2 is none of 0 … 1"),
        ((8, 2, 0, "a:b"), {}, "--master a:b is not HOST:PORT"),
        ((8, 2, 0, ":1"), {}, "--master :1 is not HOST:PORT"),
        ((8, 2, 1, "a:0"), {}, "a port of 0 lets the first node choose one"),
        ((8, 2), STEP, "--nnodes 2, but srun started 4 tasks"),
        ((8,), TORCHRUN, "--nproc beside RANK=1, WORLD_SIZE=2, MASTER_ADDR=a, MASTER_PORT=1 in the"),
        ((1, 2, 0, "a:1"), TORCHRUN, "--nnodes and --node-rank and --master beside RANK=1"),
        ((1,), {"WORLD_SIZE": "2"}, "WORLD_SIZE=2 in the environment, as torchrun sets it, but RANK must be"),
        ((1,), {"RANK": "2", "WORLD_SIZE": "2"}, "but RANK must be one of 0 … WORLD_SIZE - 1"),
        ((1,), {"RANK": "0", "WORLD_SIZE": "2"}, "but without MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_what_is_incomplete_or_contradicts_is_refused(
    asked: tuple[Any, ...], environment: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(*asked, environment=environment)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu-[003-005,7],login1", "gpu-003"),
        ("r[2-3]n[10,12]-ib", "r2n10-ib"),
        ("[7-9]", "7"),
    ],
)
def test_the_first_host_of_a_list_of_slurm(hosts: str, first: str) -> None:
    assert first_host(hosts) == first
    found = step({**STEP, "SLURM_STEP_NODELIST": hosts})
    assert found is not None and found.host == first


def test_nodes_that_do_not_come_or_come_twice_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        one.listen()
        with pytest.raises(
            FoundryError, match=f"port {port} of this machine, which is the first of 2, is taken"
        ):
            meet(Nodes(2, 0, "127.0.0.1", port), 1, meeting_s=0)
    with pytest.raises(FoundryError, match=f"nobody answers at 127.0.0.1:{port}, where the first of 2 nodes"):
        meet(Nodes(2, 1, "127.0.0.1", port), 1, meeting_s=0)
    with pytest.raises(FoundryError, match="node 1, 2 of 3 did not come to 127.0.0.1:[0-9]+ within 0 min"):
        meet(Nodes(3, 0, "127.0.0.1", 0), 1, meeting_s=0)
    assert "node 0 of 3: --master 127.0.0.1:" in capfd.readouterr().err


def test_a_log_goes_on_and_its_tail_is_of_the_last_start(tmp_path: Path) -> None:
    for text in (b"old\n", b"".join(b"line %d\n" % i for i in range(30))):
        with open_log(tmp_path, 3, 4, "host") as log:
            log.write(text)
    path = log_path(tmp_path, 3)
    assert path.name == "rank-00003.log"
    assert path.read_text().startswith("== rank 3 of 4 on host\nold\n== rank 3 of 4 on host\nline 0\n")
    assert tail(path).splitlines() == [f"line {i}" for i in range(10, 30)]


# --- strict -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, None),
        ({"CUBLAS_WORKSPACE_CONFIG": ":16:8", "NCCL_ALGO": "Ring", "NVIDIA_TF32_OVERRIDE": "0"}, None),
        ({"NCCL_ALGO": "^NVLS"}, None),
        (
            {"CUBLAS_WORKSPACE_CONFIG": ":0:0"},
            "CUBLAS_WORKSPACE_CONFIG=:0:0: cuBLAS gives",
        ),
        ({"NCCL_ALGO": "Ring,NVLS"}, "NCCL_ALGO=Ring,NVLS lets NCCL sum by NVLS"),
        ({"NCCL_ALGO": "^Tree"}, "NCCL_ALGO=^Tree lets NCCL sum by NVLS"),
        ({"NVIDIA_TF32_OVERRIDE": "1"}, "NVIDIA_TF32_OVERRIDE=1 computes in TF32"),
        ({"TORCHINDUCTOR_MAX_AUTOTUNE": "1"}, "TORCHINDUCTOR_MAX_AUTOTUNE=1 chooses kernels by their speed"),
        ({"PYTORCH_TUNABLEOP_ENABLED": "1"}, "PYTORCH_TUNABLEOP_ENABLED=1 chooses kernels by their speed"),
        ({"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}, "ONEDNN_DEFAULT_FPMATH_MODE=BF16 lets oneDNN round"),
    ],
)
def test_strict_names_each_variable_that_cannot_comply(environment: dict[str, str], told: str | None) -> None:
    found = list(refusals(environment, on_gpu=True, began=False))
    assert [line.startswith(told) for line in found if told] == ([True] if told else [])
    assert bool(found) == (told is not None)


def test_strict_must_come_before_cuda_begins() -> None:
    assert list(refusals({}, on_gpu=False, began=False)) == []
    [line] = refusals({}, on_gpu=True, began=True)
    assert (
        line == "CUBLAS_WORKSPACE_CONFIG is not set, and CUDA was used already: set it to :4096:8 beforehand"
    )


@pytest.mark.parametrize("seconds", ["0", ".inf", ".nan"])
def test_a_patience_has_an_end(seconds: str) -> None:
    with pytest.raises(UsageError, match="run.patience: seconds, more than 0, not"):
        read_recipe(None, ["data.mix=lift", f"run.patience={seconds}"])
