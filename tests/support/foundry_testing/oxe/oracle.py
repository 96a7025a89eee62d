"""What the numbers of each dataset mean, by the sources that docs/oxe.md names.

Tables of expressions. None of it reads a spec or the mapping of the package.
"""

from __future__ import annotations

from foundry_testing.oxe import of_franka, of_others
from foundry_testing.oxe.expressions import Table

ORACLE = {**of_franka.tables(), **of_others.tables()}


def oracle_of(name: str) -> Table:
    """By the dataset's name, whose usual ending may be left out."""
    return ORACLE[name.removesuffix("_converted_externally_to_rlds")]
