"""What values of a recipe are held to, each as lines that name the key and say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from robot_foundry.runtime.errors import nearest


def choice(path: str, value: str, options: tuple[str, ...]) -> Iterator[str]:
    """A line unless `value` is one of the options."""
    if value not in options:
        yield f"{path}: '{value}' is none of {', '.join(options)}{nearest(value, options)}"


def at_least(least: int, section: str, config: object, *names: str) -> Iterator[str]:
    """A line for each of these fields that is given and less."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            yield f"{section}.{name}: must be at least {least}, not {value}"


def multiple(path: str, value: int, of: int, what: str) -> Iterator[str]:
    """A line unless `value` is a multiple of `of`, which is `what`."""
    if of > 0 and value % of:
        yield f"{path}: {value} is no multiple of {what} ({of})"
