"""What is known of a source layout without its reader, which may bring in large packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from robot_foundry.ingest.robot.spec.spec import LayoutOptions
from robot_foundry.ingest.spec.section import Section

# The kind of version that a source of episodes makes.
ROBOT = "robot"


@dataclass(frozen=True)
class OptionsSection:
    """The section of `content`, of the layout's name, that no other layout understands.

    `read` reads it. `others` says, after the name of another layout, why that one needs none.
    """

    read: Callable[[Section], LayoutOptions]
    others: str


@dataclass(frozen=True)
class DeclaredLayout:
    """A layout as specs name it, and what of a spec it understands.

    `reader` is `<module>:<class>`, `kind` that of the version that it makes and
    `container` the format of its files. `has_images` is False if it never has any.

    Of `content` it reads `pixels` if `has_image_arrays`, and `extra_row` if `has_own_lengths`: its arrays
    carry lengths of their own, where rows of others answer to each other one by one. `options` are its own.
    """

    name: str
    reader: str
    container: str
    kind: str
    has_images: bool = True
    has_image_arrays: bool = True
    has_own_lengths: bool = True
    options: OptionsSection | None = None

    def reader_class(self) -> type:
        """The class of the reader, imported when it is asked for."""
        module, _, name = self.reader.partition(":")
        reader: type = getattr(import_module(module), name)
        return reader
