"""What is known of a public dataset beside how it is read: for people, and no part of what a version is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import REQUIRED

# How far a spec was compared with the dataset: with files of it, with the features that it publishes, or not
# beyond what the tables of others say.
VERIFIED = ("data", "features", "table")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class About:
    """`episodes`, `hours` and `gigabytes` are as published, None where nobody tells; so `licence` unknown."""

    robot: str
    verified: str
    episodes: int | None = None
    hours: float | None = None
    gigabytes: float | None = None
    licence: str = UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_about(section: checks.Section) -> About:
    """Problems are reported to the section."""
    count = checks.optional(checks.integer(1, 10**9))
    about = About(
        robot=section.take("robot", checks.text, REQUIRED) or UNKNOWN,
        verified=section.take("verified", checks.choice(VERIFIED), REQUIRED) or VERIFIED[-1],
        episodes=section.take("episodes", count, None),
        hours=section.take("hours", checks.optional(checks.positive), None),
        gigabytes=section.take("gigabytes", checks.optional(checks.positive), None),
        licence=section.take("licence", checks.text, UNKNOWN),
    )
    section.close()
    return about
