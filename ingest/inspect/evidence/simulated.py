"""States of MuJoCo in one array, as raw demonstrations of robosuite have them: time, positions, speeds.

A file says neither how many numbers of each there are nor whose. The first robot comes first: a number a
joint, then the fingers, two numbers of opposite signs. That the numbers before these are its joints, their
speeds tell, which stand behind all positions in the same order. Other numbers are of objects.

Legend: N frames, d columns.
"""

from __future__ import annotations

from robot_foundry.checks.series import shifted
from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.columns import FEWEST_ROWS, fingers
from robot_foundry.ingest.inspect.evidence.guess import HIGH, MEDIUM, Run
from robot_foundry.ingest.inspect.evidence.rotations import pooled
from robot_foundry.ingest.inspect.survey import Series

# The name of the array; the number of its first column that is no time; and arms of fewer joints are none.
STATES, FIRST, FEWEST_JOINTS = "states", 1, 4
# Steps over one frame and the speeds of it correlate so where they are of the same joints.
MOVES, SURE = 0.5, 0.9


def runs_of_states(series: Series) -> list[Run]:
    """Joints, fingers and speeds of the first robot; none where no fingers come after such joints."""
    rows_Md = series.rows
    if len(rows_Md) < FEWEST_ROWS:
        return []
    for stop in range(FIRST + FEWEST_JOINTS, series.width // 2 + 1):
        hand = fingers(rows_Md[:, stop : stop + 2], stop)
        if hand is not None and (found := _speeds(series, stop)) is not None:
            start, r = found
            why = f"columns before the fingers', which move as columns {start} to {start + stop - FIRST} say"
            sure = HIGH if r >= SURE else MEDIUM
            joints = Run(names.JOINT, FIRST, stop, "value", {}, sure, (f"{why} (correlation {r:.2f})",))
            why = f"columns {FIRST} to {stop} move so (correlation {r:.2f})"
            speeds = Run(names.JOINT_VELOCITY, start, start + joints.width, "value", {}, sure, (why,))
            return [joints, hand, speeds]
    return []


def _speeds(series: Series, stop: int) -> tuple[int, float] | None:
    """Where so many columns begin by which those before the fingers move, and the correlation."""
    width = stop - FIRST
    steps = [shifted(rows[:, FIRST:stop], 1) - rows[:, FIRST:stop] for rows in series.episodes]
    best: tuple[float, int] | None = None
    for start in range(stop + 2, series.width - width + 1):
        r = pooled([rows[:, start : start + width] for rows in series.episodes], steps)
        best = max(best or (MOVES, -1), (r, start))
    return None if best is None or best[1] < 0 else (best[1], best[0])
