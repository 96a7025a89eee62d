"""foundry-eval latency: how long a policy takes to answer."""

from __future__ import annotations

from pathlib import Path

import click

from robot_foundry.cli.devices import device_option
from robot_foundry.cli.options import RUN, json_option
from robot_foundry.cli.output import emit


@click.command(name="latency")
@click.argument("run", type=RUN)
@click.option("--dataset", help="As which of its datasets' robots.  [default: the first]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Observations a call.")
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True, help="How often to ask.")
@click.option("--rtc", is_flag=True, help="Real-time chunking: each call continues the chunks before.")
@device_option
@json_option
def command(
    run: Path, dataset: str | None, batch: int, calls: int, rtc: bool, device: str, as_json: bool
) -> None:
    """Measure how long the policy RUN takes from pictures and words to a chunk of actions.

    RUN is a run's folder, a checkpoint or a pointer file. Pictures are noise; what they show changes nothing.
    On a CPU one thread computes unless OMP_NUM_THREADS says otherwise.
    """
    from robot_foundry.policy.latency import latency
    from robot_foundry.policy.policy import Policy

    policy = Policy.load(run, device)
    found = latency(policy, dataset=dataset, batch=batch, calls=calls, rtc=rtc, quiet=False)
    covers = "" if found.covers_ms is None else f"; a chunk is {found.covers_ms:,.0f} ms of motion"
    emit(
        {"run": str(run), "device": device, "rtc": rtc, **found.to_json()},
        as_json=as_json,
        text=f"{found.dataset}, {batch} at once, {calls} calls{', continued' * rtc} on {device}: "
        f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms, longest {found.longest_ms:.1f} ms{covers}",
    )
