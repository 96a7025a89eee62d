"""Checks of distributions: what normalisation would clip, and rows that hold nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from robot_foundry.checks import remedies
from robot_foundry.checks.finding import Finding
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.statistics import Statistics

# By construction 2 % lie outside the 1 … 99 % band; beyond 1.5 bands a gaussian has 0.05 %.
CLIPPED_SHARE = 0.01
# Sources leave out a few steps in a hundred, as DROID does those that were skipped; a tenth is a fault.
INVALID_SHARE = 0.1


def spread(statistics: Mapping[str, Statistics]) -> Iterator[Finding]:
    """What normalisation would clip, and rows that hold nothing."""
    for column, of_column in statistics.items():
        normalizer = Normalizer.fit(of_column)
        low, high = normalizer.percentiles
        for dim, scaling in zip(of_column.space, normalizer.scalings, strict=True):
            if scaling.clipped > CLIPPED_SHARE:
                yield Finding(
                    "outside_band",
                    f"{column} {dim.name}",
                    f"{scaling.clipped:.1%} of {dim.name} of {column} lies beyond {normalizer.clip:g} times "
                    f"its band of {low:g} … {high:g} % and would be clipped",
                    scaling.clipped,
                    remedies.DISTRIBUTION,
                )
        # All dims of a row are invalid together.
        bad, total = max(
            ((d.num_nan + d.num_posinf + d.num_neginf, d.count) for d in of_column.digests), default=(0, 0)
        )
        if bad > INVALID_SHARE * (bad + total):
            yield Finding(
                "invalid_rows",
                column,
                f"{bad / (bad + total):.1%} of the rows of {column} are invalid",
                bad / (bad + total),
                remedies.INVALID_KEYS,
            )
