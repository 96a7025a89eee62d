"""Rollouts beside those from which something was taken: which belong together, and what that shows.

A report here is one of `rollout.json`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from robot_foundry.evaluation.comparison.differences import Difference, paired_difference, paired_interval
from robot_foundry.evaluation.rollouts.spec import BLANK, CONTROLS, EXECUTE, RANDOM, SHUFFLED
from robot_foundry.evaluation.scorecards.rows import Control, by_gain, by_interval, pair

POLICY = "policy"  # the condition of a rollout from which nothing was taken
# How a control is asked for.
FLAGS = {RANDOM: "--random", BLANK: "--blank", SHUFFLED: "--shuffle-instructions"}
# What a policy shows that does better than the control, and with what the control was left.
SHOWN = {
    BLANK: ("looks", "with blank pictures"),
    SHUFFLED: ("reads", "with the words of other scenes"),
    RANDOM: ("does better than chance", "by random motion"),
}
WORDS_OF = " --words-of TASK"
# What must be equal for two rollouts to differ in their condition alone; scenes of any seed are of one kind.
OF_SCENES = ("execute", "max_steps")
OF_POLICIES = (*OF_SCENES, "size", "dataset", "weights_id")


def is_whole(rollout: Mapping[str, Any]) -> bool:
    """Whether a report is of a policy from which nothing was taken, however late its answers come."""
    return not taken(rollout)


def taken(rollout: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of CONTROLS a report is."""
    parts = rollout["condition"].split("-")
    return tuple(name for name in CONTROLS if name in parts)


def is_control(other: Mapping[str, Any], of: Mapping[str, Any]) -> bool:
    """Whether a report is of the same task with answers as late, and with something taken.

    Random motion has no chunks to continue or to average, so it stands beside those that are as well.
    """
    alike = all(other[name] == of[name] for name in ("world", "task", "variant"))
    late = other.get("delay", 0) == of.get("delay", 0)
    continued = other.get("rtc", False) == of.get("rtc", False)
    averaged = other.get("ensemble") == of.get("ensemble")
    return alike and late and ((continued and averaged) or RANDOM in taken(other)) and not is_whole(other)


def control_of(policy: Mapping[str, Any], control: Mapping[str, Any]) -> Control:
    """A control beside its rollout: by the difference on the same scenes, where both ran some, else by the
    intervals of both."""
    own, interval = pair(policy["interval_95"]), pair(control["interval_95"])
    assert own is not None and interval is not None
    name = control["condition"].removeprefix(f"{POLICY}-")
    if unlike := [key for key in _alike(policy, control) if policy.get(key) != control.get(key)]:
        why = f"measured with another {', '.join(unlike)}"
        return Control(name, control["rate"], interval, None, why)
    if (difference := on_the_same(policy, control)) is not None:
        return by_gain(name, control["rate"], interval, difference[1:], difference[0])
    return by_interval(name, control["rate"], interval, own)


def _alike(policy: Mapping[str, Any], control: Mapping[str, Any]) -> tuple[str, ...]:
    if control["run"] is not None:
        return OF_POLICIES
    # Random motion goes on as long as it does without averaging, where a policy is asked at every step.
    return OF_SCENES if policy.get("ensemble") is None else ("max_steps",)


def on_the_same(policy: Mapping[str, Any], control: Mapping[str, Any]) -> Difference | None:
    """The difference of the rates over the scenes that both ran; None unless one ran all of the other's."""
    firsts, seconds = (
        {scene["seed"]: scene["outcome"] == "success" for scene in report.get("scenes", ())}
        for report in (policy, control)
    )
    shared = [seed for seed in firsts if seed in seconds]
    whole = len(shared) == min(policy["trials"], control["trials"])
    if not shared or not whole or _counts(firsts) != _told(policy) or _counts(seconds) != _told(control):
        return None
    return paired_difference([firsts[seed] for seed in shared], [seconds[seed] for seed in shared])


def _counts(scenes: Mapping[int, bool]) -> tuple[int, int]:
    return sum(scenes.values()), len(scenes)


def _told(report: Mapping[str, Any]) -> tuple[int, int]:
    return round(report["rate"] * report["trials"]), report["trials"]


def sentences(
    policy: Mapping[str, Any], others: Iterable[Mapping[str, Any]], run: str, world: str | None = None
) -> Iterator[str]:
    """What a reader of the rate must know of what it would be without pictures, without words and by chance:
    each control with the difference, what the policy does not show, and what was not measured.

    `world` is what --world was told, where that is not the world's name but a file."""
    shown: set[str] = set()
    for other in others:
        shown.update(taken(other))
        yield sentence(policy, other)
    if missing := [name for name in CONTROLS if name not in shown]:
        yield f"whether it {_listed([SHOWN[name][0] for name in missing])} was not measured; do so with"
        told = policy if world is None else {**policy, "world": world}
        more = WORDS_OF if SHUFFLED in missing and only_words(policy) is not None else ""
        yield f"  {command(told, run)} --controls {','.join(missing)}{more}"
        if more:
            yield f"  where TASK is another task: all scenes of this one say '{only_words(policy)}'"


def sentence(policy: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """One control beside the rate, and whether the policy shows that it needs what was taken."""
    control, names = control_of(policy, other), taken(other)
    without = " and ".join(SHOWN[name][1] for name in names)
    what = _listed([SHOWN[name][0] for name in names])
    against = f"{without} {_of(other)} against {_of(policy)}"
    if control.difference is not None and control.gain is not None:
        against += f", difference {told_points((control.difference, *control.gain))}"
    if control.is_beaten is None:
        return f"{control.name}: {against}; not comparable: {control.basis}"
    if control.is_beaten:
        return f"{control.name}: it {what}: {against}"
    too_few = "; so few scenes show no difference at all" if _is_too_few(policy, other) else ""
    return f"{control.name}: this policy does not show that it {what}: {against}{too_few}"


def _is_too_few(policy: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether even success on all scenes against none would not be told apart on the same scenes."""
    scenes = min(policy["trials"], other["trials"])
    return paired_interval(scenes, 0, scenes)[0] <= 0


def told_points(difference: Difference) -> str:
    """(0.05, -0.12, 0.22) → "+5 points [-12, +22]"."""
    value, low, high = (100 * part for part in difference)
    return f"{value:+.0f} points [{low:+.0f}, {high:+.0f}]"


def command(policy: Mapping[str, Any], run: str) -> str:
    """The command that ran a rollout from which nothing was taken."""
    settings = ("world", "task", "variant", *OF_SCENES, "episodes", "seed", "size")
    given = [(name, policy[name]) for name in settings if policy[name] is not None]
    given += [("delay", policy["delay"])] if policy.get("delay") else []
    given += [(name, policy[name]) for name in ("ensemble", "dataset") if policy.get(name) is not None]
    given += [("device", policy["device"])] if policy.get("device", "cpu") != "cpu" else []
    options = [text for name, value in given for text in (f"--{name.replace('_', '-')}", str(value))]
    options += ["--rtc"] if policy.get("rtc") else []
    return shlex.join(["foundry-eval", "rollout", run, *options])


def missing_controls(
    policy: Mapping[str, Any], others: Sequence[Mapping[str, Any]], run: str
) -> Iterator[str]:
    """A command for each control that is not there."""
    there = {name for other in others if is_control(other, policy) for name in taken(other)}
    for name, flag in FLAGS.items():
        if name not in there:
            bare = _bare(policy) if name == RANDOM else policy
            more = WORDS_OF if name == SHUFFLED and only_words(policy) is not None else ""
            yield f"{command(bare, run)} {flag}{more}"


def only_words(report: Mapping[str, Any]) -> str | None:
    """The instruction of all its scenes, where they are several and have the same."""
    asked = [scene["asked"] for scene in report.get("scenes", ()) if "asked" in scene]
    return asked[0] if len(asked) > 1 and len(set(asked)) == 1 else None


def _bare(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Its settings for random motion (see `RolloutSpec.control`)."""
    averaged = policy.get("ensemble") is not None
    execute = max(EXECUTE, policy["delay"]) if averaged else policy["execute"]
    return {**policy, "rtc": False, "ensemble": None, "execute": execute}


def _of(report: Mapping[str, Any]) -> str:
    return f"{report['successes']}/{report['trials']}"


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
