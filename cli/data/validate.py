"""foundry-data validate: whether a version is whole, and its data plausible."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from robot_foundry.catalog.validation import Validation, validate
from robot_foundry.cli.options import json_option, store_option
from robot_foundry.cli.output import emit
from robot_foundry.normalization.finding import Finding
from robot_foundry.runtime.errors import EXIT_FINDINGS, EXIT_OK


@click.command("validate")
@click.argument("ref")
@click.option("--deep", is_flag=True, help="Also read every byte of every tar and decode every image.")
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes; 0 is inline."
)
@store_option
@json_option
def command(ref: str, deep: bool, workers: int, store: str, as_json: bool) -> int:
    """Compare a version with its manifest, and its actions with its motions (docs/checks.md).

    Of a mixture every component is validated. Exit code 0: nothing was found; 3: something was.
    """
    done = validate(ref, store=store, deep=deep, workers=workers, quiet=False)
    result = {"ref": ref, "deep": deep, "versions": [_json(one) for one in done]}
    emit(result, as_json=as_json, text=lambda: _text(done))
    return EXIT_FINDINGS if any(one.findings for one in done) else EXIT_OK


def _json(one: Validation) -> dict[str, Any]:
    return {
        "version": str(one.version),
        "version_id": one.version.version_id,
        "checked": dict(one.checked),
        "damage": [finding.to_json() for finding in one.damage],
        "doubts": [finding.to_json() for finding in one.doubts],
        "following": {where: asdict(how) for where, how in one.following.items()},
    }


def _text(done: list[Validation]) -> str:
    lines = []
    for one in done:
        looked = ", ".join(_counted(n, name) for name, n in one.checked.items() if n)
        outcome = "nothing found"
        if one.findings:
            outcome = f"{_counted(len(one.damage), 'findings')} of damage, {len(one.doubts)} of doubtful data"
        lines.append(f"{one.version}: {outcome} ({looked or 'not readable'})")
        lines += [line for finding in one.findings for line in _lines(finding, one)]
        lines += [
            f"  {where}: followed {how.lag} frames after the next one, by {how.gain:.2g} of what it asks "
            f"(correlation {how.correlation:.2f})"
            for where, how in one.following.items()
            if not where.startswith("action.next_state")
        ]
    return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    noun = noun.replace("_", " ")
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def _lines(finding: Finding, one: Validation) -> list[str]:
    lines = [f"  [{finding.check}] {finding.message}"]
    if finding.episodes:
        more = "" if finding.num_episodes <= len(finding.episodes) else f" of {finding.num_episodes:,}"
        lines.append(f"    episodes: {', '.join(finding.episodes)}{more}")
    lines.append(f"    next: {finding.remedy}")
    if finding.overrides:
        settings = " ".join(f"--set {override}" for override in finding.overrides)
        lines.append(f"    next: foundry-data remap {one.version} {settings}")
    return lines
