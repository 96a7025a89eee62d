"""Options that several commands share, so that they read and behave alike everywhere."""

from __future__ import annotations

import re

import click

DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")

store_option = click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    default="./store",
    show_default=True,
    metavar="FOLDER|URL",
    help="Where datasets live.",
)


def _device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if DEVICE.fullmatch(value) is None:
        raise click.BadParameter(f"'{value}' is none of cpu, cuda, cuda:0, cuda:1, …")
    if value != "cpu":
        import torch

        there = torch.cuda.device_count()
        if int(value.partition(":")[2] or 0) >= there:
            raise click.BadParameter(f"'{value}' is not there: this machine has {there} CUDA devices")
    return value


device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="cpu|cuda[:N]", callback=_device
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; read what that needs and write nothing."
)
