"""A click group that imports a command's module only when that command runs, so that --help is instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from robot_foundry.runtime.errors import FoundryError, UsageError, nearest


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives, `module:attribute`, and its line in the group's help."""

    target: str
    help: str

    def load(self, name: str) -> click.Command:
        """Import the command; `FoundryError` if its module or a package that it needs is not installed."""
        module_name, attribute = self.target.split(":")
        try:
            command = getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            raise FoundryError(
                f"the command {name!r} needs the module {error.name}, which is not installed",
                hint="pip install --force-reinstall robot-foundry",
            ) from error
        assert isinstance(command, click.Command), self.target
        return command


class LazyGroup(click.Group):
    """A group made of `LazyCommand`s, listed in the order given."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.lazy[cmd_name].load(cmd_name) if cmd_name in self.lazy else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not name.startswith("-"):
            raise UsageError(
                f"{ctx.command_path} has no command {name!r}{nearest(name, self.lazy)}",
                hint=f"{ctx.command_path} --help lists them",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy.items()])
