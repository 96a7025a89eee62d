"""How long the groups of a version are, of kinds whose shards have a table with a row for each."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Distribution, Distributions
from robot_foundry.catalog.selection import Selection
from robot_foundry.normalization.digest import Digest


def lengths_of(
    opened: OpenVersion, selection: Selection | None, table: str, of: str, columns: Mapping[str, str]
) -> Distributions:
    """Of a group, which `of` names, the lengths in `columns` of the table, by unit."""
    leaves: dict[str, list[Digest]] = {unit: [] for unit in columns}
    for rows in opened.group_tables(table, selection):
        for unit, column in columns.items():
            leaves[unit].append(Digest.of(rows[column].to_numpy()))
    return Distributions(
        [Distribution(of, unit, unit, Digest.merge_all(digests)) for unit, digests in leaves.items()]
    )
