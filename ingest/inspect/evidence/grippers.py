"""Which end of a gripper's range is open: by what a width tells, by motion, by how recordings begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.follow import SIGN, sign_of
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM, TODO, Guess, Run, least
from robot_foundry.ingest.inspect.survey import Series

Array = NDArray[np.float64]
# (closed, open, confidence, why)
Told = tuple[float, float, str, str]

# The share of the range that counts as being at an end, and of the episodes that must begin there, and how
# many.
AT_END, MOST, FEWEST = 0.25, 0.8, 3
# How far a hand that holds something stops from being closed, and how near it comes to being open, of its
# range.
SHORT, REACHED = 0.08, 0.03


def with_ends(found: Mapping[str, Guess], series: Mapping[str, Series]) -> dict[str, Guess]:
    """The guesses with the ends of grippers that something tells."""
    known = dict(found)
    for name, guess in found.items():
        if guess.run.kind == names.GRIPPER and "ends" in guess.run.settings:
            run = guess.run
            episodes = [rows[:, run.start] for rows in series[guess.key].episodes]
            called = guess.key if not series[guess.key].columns else series[guess.key].columns[run.start]
            known[name] = replace(guess, run=ended(run, _by_name(run, called) or _by_use(run, episodes)))
    return known


def command_ends(run: Run, asked: Sequence[Array], state: Guess | None, series: Mapping[str, Series]) -> Run:
    """The ends of a command: those of the opening that follows it, else where recordings begin."""
    if "ends" not in run.settings:
        return run
    if state is not None:
        rows = [r[:, state.run.start : state.run.stop] for r in series[state.key].episodes]
        opening = [r[:, :1] - r[:, 1:2] if r.shape[1] == 2 else r for r in rows]
        r = sign_of(asked, opening)
        if state.run.form not in ("fingers", "width"):
            closed, opened = state.run.settings.get("closed", TODO), state.run.settings.get("open", TODO)
            r = 0.0 if TODO in (closed, opened) else r if opened > closed else -r
        ends = run.settings["ends"]
        if abs(r) >= SIGN and ends is not None:
            opened, closed = (ends[1], ends[0]) if r > 0 else (ends[0], ends[1])
            why = f"'{state.key}' opens as it {'rises' if r > 0 else 'falls'} (correlation {abs(r):.2f})"
            return ended(run, (closed, opened, least(HIGH, state.run.confidence), why))
    return ended(
        run, None if run.settings["ends"] is None else _by_beginning(run, [rows[:, 0] for rows in asked])
    )


def ended(run: Run, told: Told | None) -> Run:
    """The run with (closed, open, confidence, why), or with both left to the user."""
    settings = {name: value for name, value in run.settings.items() if name != "ends"}
    if told is None:
        return replace(run, settings=settings, confidence=LOW).with_evidence(
            "nothing tells which end is open"
        )
    closed, opened, confidence, why = told
    return replace(
        run,
        settings={**settings, "closed": closed, "open": opened},
        confidence=least(confidence, run.confidence),
        evidence=(*run.evidence, why),
    )


def _by_name(run: Run, called: str) -> Told | None:
    """What a name such as `opening` says of the ends."""
    upwards = names.opens_upwards(called.rpartition("/")[2])
    if upwards is None or run.settings["ends"] is None:
        return None
    low, high = run.settings["ends"]
    closed, opened = (low, high) if upwards else (high, low)
    return closed, opened, MEDIUM, f"open at {opened:g} by its name, '{called}'"


def _by_use(run: Run, episodes: Sequence[Array]) -> Told | None:
    """Where recordings begin, and where the hand stops on what it holds; nothing where the two disagree."""
    if run.settings["ends"] is None:
        return None
    begins, holds = _by_beginning(run, episodes), _by_holding(run, episodes)
    if begins is None or holds is None:
        return begins or holds
    closed, opened, _, why = begins
    return (closed, opened, MEDIUM, f"{why}; {holds[3]}") if closed == holds[0] else None


def _by_holding(run: Run, episodes: Sequence[Array]) -> Told | None:
    """The end that is not reached is where it would be closed with nothing between the fingers."""
    low, high = run.settings["ends"]
    values = np.concatenate(_finite(episodes))
    span = high - low
    below, above = (float(values.min()) - low) / span, (high - float(values.max())) / span
    for closed, opened, short, reached in ((low, high, below, above), (high, low, above, below)):
        if short > SHORT and reached < REACHED:
            return (
                closed,
                opened,
                LOW,
                f"it stops {short:.0%} short of {closed:g}, as on something between the fingers",
            )
    return None


def _by_beginning(run: Run, episodes: Sequence[Array]) -> Told | None:
    """Where most episodes begin, before anything is held; None where they begin at either end, or between."""
    told = [values for values in _finite(episodes) if len(values)]
    if len(told) < FEWEST:
        return None
    low, high = run.settings["ends"]
    room = AT_END * (high - low)
    first = np.array([values[0] for values in told])
    moved = any(np.ptp(values) > room for values in told)
    for opened, closed in ((high, low), (low, high)):
        share = float((np.abs(first - opened) <= room).mean())
        if share >= MOST and moved:
            why = f"{share:.0%} of the episodes begin at {opened:g}, as most do with an open hand"
            return closed, opened, LOW, why
    return None


def _finite(episodes: Sequence[Array]) -> list[Array]:
    return [values[np.isfinite(values)] for values in episodes]
