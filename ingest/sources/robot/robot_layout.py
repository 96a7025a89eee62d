"""What is known of a layout of robot data, and what of a spec it understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robot_foundry.ingest.robot.spec.spec import LayoutOptions
from robot_foundry.ingest.sources.declared import DeclaredLayout
from robot_foundry.ingest.spec.section import Section


@dataclass(frozen=True)
class OptionsSection:
    """The section of `content`, of the layout's name, that no other layout understands.

    `read` reads it. `others` says, after the name of another layout, why that one needs none; `page` of the
    documentation lists its keys.
    """

    read: Callable[[Section], LayoutOptions]
    others: str
    page: str


@dataclass(frozen=True)
class RobotLayout(DeclaredLayout):
    """A layout of episodes. `has_images` is False if it never has any.

    Of `content` it reads `pixels` if `has_image_arrays`, and `extra_row` if `has_own_lengths`: its arrays
    carry lengths of their own, where rows of others answer to each other one by one. If `names_columns` its
    sources say what their columns are called (`ingest.robot.named`). `options` are its own.
    """

    has_images: bool = True
    has_image_arrays: bool = True
    has_own_lengths: bool = True
    names_columns: bool = False
    options: OptionsSection | None = None
