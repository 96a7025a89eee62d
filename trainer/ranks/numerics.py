"""How a run computes: precision, and whether every run gives the same bits."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from robot_foundry.runtime.errors import FoundryError, UsageError

PRECISIONS = ("fp32", "bf16")
DETERMINISMS = ("strict", "fast")

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_SAME_BITS = (":4096:8", ":16:8")  # cuBLAS, "Results Reproducibility"
# Set where the user has not, before the libraries read them: cuBLAS when it makes its first handle, NCCL its
# first communicator, and Inductor when it is imported. NVLS adds in a switch, in the order in which parts
# come; Inductor is not to measure which of its kernels is the fastest.
_ENVIRONMENT = {_CUBLAS: _SAME_BITS[0], "NCCL_ALGO": "^NVLS,NVLSTree", "TORCHINDUCTOR_DETERMINISTIC": "1"}
_BY_TIME = (  # kernels chosen by how fast they were, which another run may find otherwise
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCHINDUCTOR_MAX_AUTOTUNE_GEMM",
    "TORCHINDUCTOR_MAX_AUTOTUNE_POINTWISE",
    "TORCHINDUCTOR_COORDINATE_DESCENT_TUNING",
    "PYTORCH_TUNABLEOP_ENABLED",
)
_TF32 = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
_FPMATH = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
_SIDE = 192
_SLOWER = 2.0  # bf16 takes so many times as long, or nothing is said
_NO_KERNEL = " does not have a deterministic implementation"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """`bf16` computes in it where that is safe; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def slow_precision(
    device: torch.device, precision: str, clock: Callable[[], float] = time.perf_counter
) -> tuple[str, ...]:
    """A sentence where a CPU multiplies matrices more slowly in bf16 than in fp32, as many do.

    Found by multiplying some, which takes less than a tenth of a second.
    """
    if precision != "bf16" or device.type != "cpu":
        return ()
    seconds = {dtype: _seconds(dtype, clock) for dtype in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    if ratio < _SLOWER:
        return ()
    return (
        f"run.precision=bf16 multiplies matrices {ratio:.0f} times as slowly as fp32 on this CPU; "
        "run.precision=fp32 is the faster one here",
    )


def _seconds(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Of one product of matrices, the shortest of three; the first warms up."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    taken = []
    for _ in range(4):
        begin = clock()
        _ = matrix @ matrix
        taken.append(clock() - begin)
    return min(taken[1:])


@contextlib.contextmanager
def numerics(determinism: str, device: str = "auto") -> Iterator[None]:
    """`strict` admits only operations that give the same bits in every run, and fp32 that is fp32.

    UsageError, with a line for each, where the environment asks for what cannot comply; FoundryError where an
    operation has no kernel that does.
    """
    if determinism != "strict":
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    problems = [*refusals(os.environ, on_gpu=on_gpu, began=torch.cuda.is_initialized())]
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise UsageError(
            f"run.determinism is strict, which this environment does not let be kept:{lines}",
            hint="unset what is named, or choose run.determinism=fast",
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with contextlib.ExitStack() as stack:
        for holder, name, value in _settings():
            stack.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, value)
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        # Attention asks this: backward passes of its flash and memory-efficient kernels then add in one
        # order, and that of cuDNN, which has no such order, is not taken.
        stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        torch.use_deterministic_algorithms(True)
        try:
            yield
        except RuntimeError as error:
            what, found, _ = str(error).partition(_NO_KERNEL)
            if not found:
                raise
            raise FoundryError(
                f"{what} has no kernel that gives the same bits in every run, as run.determinism=strict asks",
                hint="run.determinism=fast takes the one that there is",
            ) from error


def refusals(environment: Mapping[str, str], *, on_gpu: bool, began: bool) -> Iterator[str]:
    """A sentence for each variable with which a run is not reproducible, or not as precise as it says.

    `began`: CUDA was used in this process already.
    """
    for name in _BY_TIME:
        if environment.get(name) == "1":
            yield f"{name}=1 chooses kernels by their speed, which is not the same in every run"
    for name in _FPMATH:
        if environment.get(name, "STRICT").upper() != "STRICT":
            yield f"{name}={environment[name]} lets oneDNN round what run.precision says is fp32"
    if not on_gpu:
        return
    workspace = environment.get(_CUBLAS)
    if workspace is None and began:
        yield f"{_CUBLAS} is not set, and CUDA was used already: set it to {_SAME_BITS[0]} beforehand"
    elif workspace not in (None, *_SAME_BITS):
        yield f"{_CUBLAS}={workspace}: cuBLAS gives the same bits with {' or '.join(_SAME_BITS)} alone"
    for name in _TF32:
        if environment.get(name) == "1":
            yield f"{name}=1 computes in TF32 what run.precision says is fp32"
    algorithms = environment.get("NCCL_ALGO", "")
    if algorithms and ("nvls" in algorithms.lower()) != algorithms.startswith("^"):
        yield f"NCCL_ALGO={algorithms} lets NCCL sum by NVLS, in no fixed order: leave that out"


def _settings() -> Iterator[tuple[Any, str, Any]]:
    """Object, attribute and value of what PyTorch is to do inside."""
    # It costs time, and all memory is written before it is read.
    yield torch.utils.deterministic, "fill_uninitialized_memory", False
    yield torch.backends.cudnn, "deterministic", True
    yield torch.backends.cudnn, "benchmark", False
    yield torch.backends.cudnn, "allow_tf32", False
    if hasattr(torch.backends.mkldnn, "deterministic"):  # from 2.7
        yield torch.backends.mkldnn, "deterministic", True
