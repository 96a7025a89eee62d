"""The option of commands that use a model: where it computes."""

from __future__ import annotations

import re

import click

DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")


def _device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if DEVICE.fullmatch(value) is None:
        raise click.BadParameter(f"'{value}' is none of cpu, cuda, cuda:0, cuda:1, …")
    if value != "cpu":
        from robot_foundry.trainer.ranks.machine import num_cuda_devices

        there = num_cuda_devices()
        if int(value.partition(":")[2] or 0) >= there:
            raise click.BadParameter(f"'{value}' is not there: this machine has {there} CUDA devices")
    return value


device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="cpu|cuda[:N]", callback=_device
)
