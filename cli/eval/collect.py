"""foundry-eval collect: demonstrations in a world, or pictures of its scenes."""

from __future__ import annotations

import click

from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.evaluation.worlds.registry import DEMONSTRATORS

COMMANDS = {
    "scenes": LazyCommand(
        "robot_foundry.cli.eval.collect_scenes:command",
        "Pictures of scenes with captions, questions and answers.",
    ),
    **{
        world: LazyCommand(
            "robot_foundry.cli.eval.collect_episodes:command",
            f"Demonstrations of the scripted expert of the world '{world}'.",
        )
        for world in DEMONSTRATORS
    },
}


@click.group("collect", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Record demonstrations of a world's scripted expert, or render pictures of its scenes with words."""
