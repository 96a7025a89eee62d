"""What devices can do at best, so that what a run does may be told as a share of it.

Dense figures of the makers' data sheets, in FLOPs a second: those with structured sparsity are twice as much.
bf16 is on matrix units with sums in fp32. fp32 is without them, as matrices are multiplied in full precision
unless PyTorch is told otherwise. Names are those that the driver gives, and whole: a card of a laptop or for
another market is another card. A device that is not here has no peak: nothing is guessed.
"""

from __future__ import annotations

import re

import torch

_T = 1e12
# By name: fp32, bf16; None where a data sheet does not say.
_PEAKS: tuple[tuple[str, float | None, float | None], ...] = (
    # NVIDIA A100 Tensor Core GPU data sheet (2021)
    (r"(?:NVIDIA )?A100-(?:SXM4|PCIE)-\d+GB|NVIDIA A100 80GB PCIe", 19.5 * _T, 312 * _T),
    # NVIDIA H100 Tensor Core GPU data sheet (2023): SXM, PCIe, NVL (each of its two)
    (r"NVIDIA H100 80GB HBM3", 67 * _T, 989.4 * _T),
    (r"NVIDIA H100 PCIe", 51 * _T, 756 * _T),
    (r"NVIDIA H100 NVL", 60 * _T, 835 * _T),
    # NVIDIA H200 Tensor Core GPU data sheet (2024): SXM, NVL
    (r"NVIDIA H200", 67 * _T, 989.4 * _T),
    (r"NVIDIA H200 NVL", 60 * _T, 835.5 * _T),
    # NVIDIA GH200 Grace Hopper Superchip data sheet (2023)
    (r"NVIDIA GH200 \d+GB", 67 * _T, 989.4 * _T),
    # NVIDIA Blackwell architecture technical brief (2024): HGX B200, a GPU
    (r"NVIDIA B200", None, 2250 * _T),
    # NVIDIA L40S and L4 data sheets (2023)
    (r"NVIDIA L40S", 91.6 * _T, 362.05 * _T),
    (r"NVIDIA L4", 30.3 * _T, 121 * _T),
    # NVIDIA A10, A30, A40 and RTX A6000 data sheets (2020, 2021)
    (r"NVIDIA A10", 31.2 * _T, 125 * _T),
    (r"NVIDIA A30", 10.3 * _T, 165 * _T),
    (r"NVIDIA A40", 37.4 * _T, 149.7 * _T),
    (r"NVIDIA RTX A6000", 38.7 * _T, 154.8 * _T),
    # NVIDIA Ada GPU architecture white paper (2022), appendix A; its sums of bf16 are in fp32
    (r"NVIDIA GeForce RTX 4090", 82.6 * _T, 165.2 * _T),
    # NVIDIA Ampere GA102 GPU architecture white paper (2020), appendix A
    (r"NVIDIA GeForce RTX 3090", 35.6 * _T, 71 * _T),
    # NVIDIA Tesla V100 data sheet (2018): it has no bf16
    (r"(?:NVIDIA )?(?:Tesla )?V100-SXM2-\d+GB", 15.7 * _T, None),
)


def peak_of(device: torch.device, precision: str) -> float | None:
    """`peak_flops` of the device itself."""
    if device.type != "cuda":
        return None
    return peak_flops(torch.cuda.get_device_name(device), precision)


def peak_flops(device: str, precision: str) -> float | None:
    """FLOPs a second of a device by its name, in `precision` fp32 or bf16; None where it is not known."""
    for pattern, fp32, bf16 in _PEAKS:
        if re.fullmatch(pattern, device):
            return bf16 if precision == "bf16" else fp32
    return None
