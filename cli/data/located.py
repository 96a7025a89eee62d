"""Which specs a user means, and where their data lie: places far away are read only if the user says so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.output import counted, note, size
from robot_foundry.runtime.errors import UsageError

if TYPE_CHECKING:
    from robot_foundry.ingest.spec.spec import SourceSpec


def specs_of(text: str) -> list[str]:
    """One name or path, several with commas between, or those of a named mixture (`@oxe_magic_soup`)."""
    from robot_foundry.ingest.spec.mixture_files import MARK, load_mixture
    from robot_foundry.ingest.spec.spec_files import specs_of as packaged

    if text.startswith(MARK):
        named = load_mixture(text)
        return packaged(named.weights, named.name)
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(
            f"'{text}' names a spec twice or none", hint="foundry-data ingest oxe/viola,oxe/toto"
        )
    return names


def located(specs: Sequence[SourceSpec], *, ask: bool) -> list[str]:
    """The place that each spec names, after one question for all that is far away."""
    from robot_foundry.ingest.spec.locations import locate
    from robot_foundry.runtime.files import is_remote

    places, num_bytes = [], 0
    for spec in specs:
        place, source = locate(spec)
        note(f"{spec.name} is at {place}: {counted(len(source.files), 'file')}, {size(source.num_bytes)}")
        places.append(place)
        num_bytes += source.num_bytes if is_remote(place) else 0
    far = [place for place in places if is_remote(place)]
    if ask and far:
        where = far[0] if len(far) == 1 else f"{len(far)} places"
        if not sys.stdin.isatty():
            raise UsageError(f"reading {size(num_bytes)} from {where} needs --yes")
        question = "Read it?" if len(far) == 1 else f"Read {size(num_bytes)} from {where}?"
        click.confirm(question, abort=True, err=True)
    return places
