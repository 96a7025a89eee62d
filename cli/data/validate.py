"""foundry-data validate: whether a version is whole, and its data plausible."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from robot_foundry.catalog.kind import all_kinds
from robot_foundry.catalog.validation.validate import Validation, validate
from robot_foundry.checks.finding import Finding
from robot_foundry.cli.options import json_option, store_option, workers_option
from robot_foundry.cli.output import counted, emit, note
from robot_foundry.runtime.errors import EXIT_FINDINGS, EXIT_OK, UsageError, nearest
from robot_foundry.runtime.overrides import set_options


@click.command("validate")
@click.argument("ref")
@click.option("--deep", is_flag=True, help="Also read every byte of every tar and decode every image.")
@workers_option
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="CHECK[:WHERE]",
    help="A doubt about the data that you judged fine: still told, it does not count. May be repeated.",
)
@store_option
@json_option
def command(ref: str, deep: bool, workers: int, ignored: tuple[str, ...], store: str, as_json: bool) -> int:
    """Compare a version with its manifest, and its actions with its motions (docs/checks.md).

    Of a mixture every component is validated. Exit code 0: nothing was found; 3: something was.
    """
    _check_names(ignored)
    done = validate(ref, store=store, deep=deep, workers=workers, quiet=False)
    result = {"ref": ref, "deep": deep, "versions": [_json(one, ignored) for one in done]}
    emit(result, as_json=as_json, text=lambda: _text(done, ignored))
    doubts = [finding for one in done for finding in one.doubts]
    for name in ignored:
        if not any(_is_ignored(finding, (name,)) for finding in doubts):
            note(f"Warning: --ignore '{name}' is of nothing that was found")
    standing = dict.fromkeys(_full_name(finding) for finding in doubts if not _is_ignored(finding, ignored))
    if standing:
        options = " ".join(f"--ignore '{name}'" for name in (*ignored, *standing))
        note(f"Hint: where the data are as they should be: foundry-data validate {ref} {options}")
    return EXIT_FINDINGS if standing or any(one.damage for one in done) else EXIT_OK


def _check_names(names: tuple[str, ...]) -> None:
    checks = list(dict.fromkeys(check for kind in all_kinds() for check in kind.doubts))
    for name in names:
        check = name.partition(":")[0]
        if check not in checks:
            raise UsageError(
                f"--ignore '{name}': there is no check '{check}' of the data{nearest(check, checks)}",
                hint=f"one of {', '.join(checks)}; damage cannot be ignored",
            )


def _full_name(finding: Finding) -> str:
    return f"{finding.check}:{finding.where}"


def _is_ignored(finding: Finding, ignored: tuple[str, ...]) -> bool:
    return finding.check in ignored or _full_name(finding) in ignored


def _json(one: Validation, ignored: tuple[str, ...]) -> dict[str, Any]:
    return {
        "version": str(one.version),
        "version_id": one.version.version_id,
        "checked": dict(one.checked),
        "damage": [finding.to_json() for finding in one.damage],
        "doubts": [{**f.to_json(), "ignored": _is_ignored(f, ignored)} for f in one.doubts],
        "following": {where: asdict(how) for where, how in one.following.items()},
    }


def _text(done: list[Validation], ignored: tuple[str, ...]) -> str:
    lines = []
    for one in done:
        looked = ", ".join(_looked_at(name, n) for name, n in one.checked.items() if n)
        outcome = "nothing found"
        if one.findings:
            outcome = f"{counted(len(one.damage), 'finding')} of damage, {len(one.doubts)} of doubtful data"
        lines.append(f"{one.version}: {outcome} ({looked or 'not readable'})")
        lines += [line for finding in one.damage for line in _lines(finding, one)]
        for doubt in one.doubts:
            if _is_ignored(doubt, ignored):
                lines.append(f"  [{doubt.check}, ignored] {doubt.message}")
            else:
                lines += _lines(doubt, one)
        lines += [f"  {line}" for line in one.lines]
    return "\n".join(lines)


def _lines(finding: Finding, one: Validation) -> list[str]:
    lines = [f"  [{finding.check}] {finding.message}"]
    if finding.examples:
        lines.append(f"    {finding.examples}")
    lines.append(f"    next: {finding.remedy}")
    if finding.overrides:
        is_content = any(override.startswith("content.") for override in finding.overrides)
        # Content is in the tars already, so only another ingest changes it.
        command = f"ingest … --as {one.version.dataset}" if is_content else f"remap {one.version}"
        lines.append(f"    next: foundry-data {command} {set_options(finding.overrides)}")
    return lines


def _looked_at(name: str, number: int) -> str:
    """('images_decoded', 2) → '2 images decoded'."""
    noun, _, done = name.partition("_")
    return f"{counted(number, noun.removesuffix('s'))} {done}".rstrip()
