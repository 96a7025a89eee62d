"""Overrides of a spec as a shell takes them, so that what is advised can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def set_option(override: str) -> str:
    """`--set key=value`, in quotes where the shell would read it otherwise."""
    return f"--set {shlex.quote(override)}"


def set_options(overrides: Iterable[str]) -> str:
    """Several, with spaces between them."""
    return " ".join(map(set_option, overrides))
