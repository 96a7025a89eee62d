"""What a check says: one sentence, where, a number, and what would mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from robot_foundry.checks.evidence import Tally


@dataclass(frozen=True)
class Finding:
    """One thing that is probably wrong.

    `check` is the name in docs/checks.md, `where` the column and dim, `value` the number that was judged, if
    one was. `remedy` says what to do, `overrides` are KEY=VALUE settings of a spec that would mend it, where
    they can be told. `episodes` are examples of the `num_episodes` episodes that look wrong by themselves
    (none: only all together do), worst first; `frame` is the worst one of the first, where single frames are
    wrong.
    """

    check: str
    where: str
    message: str
    value: float | None
    remedy: str
    overrides: tuple[str, ...] = ()
    episodes: tuple[str, ...] = ()
    num_episodes: int = 0
    frame: int | None = None

    def to_json(self) -> dict[str, Any]:
        # Four digits: sums of floats differ in their last bits between processors.
        value = None if self.value is None else float(f"{self.value:.4g}")
        return {
            **asdict(self),
            "value": value,
            "overrides": list(self.overrides),
            "episodes": list(self.episodes),
        }

    @property
    def examples(self) -> str:
        """'episodes: a, b of 12', empty where none looks wrong by itself."""
        if not self.episodes:
            return ""
        more = "" if self.num_episodes <= len(self.episodes) else f" of {self.num_episodes:,}"
        return f"episodes: {', '.join(self.episodes)}{more}"

    def __str__(self) -> str:
        return self.message


def with_examples(finding: Finding, tally: Tally) -> Finding:
    """The finding with the episodes that the tally names, as `<key>` or `<key>#<frame>`."""
    named = [key.partition("#") for _, key in tally.worst]
    episodes = tuple(dict.fromkeys(episode for episode, _, _ in named))
    frame = int(named[0][2]) if named and named[0][2] else None
    return replace(finding, episodes=episodes, num_episodes=tally.episodes, frame=frame)


def worst_frame(tally: Tally) -> str:
    """'frame 17 of demo-2': the worst of a tally that names frames."""
    episode, _, frame = tally.worst[0][1].partition("#")
    return f"frame {frame} of {episode}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
