"""How a scene is shown: a variant by name, and what is changed of it.

    sim                                    without shadows, reflections and multisampling: fast
    shadows                                as Meta-World renders
    sim+primary=corner3@45                 another camera, 45 degrees high
    sim+secondary=topview+wrist_right=off  one camera more, and one less

A variant is one word, so whoever records or evaluates keeps with its name how the scene was shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from robot_foundry.runtime.errors import UsageError, nearest

ROLES = ("primary", "secondary", "wrist_right")
CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")
OFF = "off"
WIDEST = 150.0


@dataclass(frozen=True)
class View:
    """A camera of the model; `fovy` is its vertical field of view in degrees, None that of the model."""

    camera: str
    fovy: float | None = None


@dataclass(frozen=True)
class Look:
    """What a variant is: whether light casts shadows and is reflected, and the views by camera role."""

    shadows: bool
    views: Mapping[str, View]


# At the model's own field of view (45 degrees) the goal of `reach` is one or two of 64 pixels.
_VIEWS = MappingProxyType({"primary": View("corner", 24.0), "wrist_right": View("gripperPOV")})
VARIANTS: Mapping[str, Look] = MappingProxyType({"sim": Look(False, _VIEWS), "shadows": Look(True, _VIEWS)})


def get_look(variant: str) -> Look:
    """The look that a variant names; UsageError names the nearest variant, role or camera otherwise."""
    name, *changes = variant.split("+")
    if name not in VARIANTS:
        raise UsageError(
            f"Meta-World has no variant '{name}'{nearest(name, VARIANTS)}",
            hint=f"variants: {', '.join(VARIANTS)}, and changes such as sim+primary=corner3@45",
        )
    look = VARIANTS[name]
    views = dict(look.views)
    for change in changes:
        role, view = _parse(change)
        views.pop(role, None)
        if view is not None:
            views[role] = view
    ordered = {role: views[role] for role in ROLES if role in views}
    return replace(look, views=MappingProxyType(ordered))


def _parse(change: str) -> tuple[str, View | None]:
    found = re.fullmatch(r"(\w+)=(\w+)(?:@(\d+(?:\.\d+)?))?", change)
    if found is None:
        raise UsageError(
            f"a variant is changed by role=camera or role=camera@degrees, not by '{change}'",
            hint="sim+primary=corner3@45",
        )
    role, camera, degrees = found.groups()
    for label, word, words in (("camera role", role, ROLES), ("camera", camera, (*CAMERAS, OFF))):
        if word not in words:
            raise UsageError(
                f"Meta-World has no {label} '{word}'{nearest(word, words)}",
                hint=f"there are {', '.join(words)}",
            )
    if degrees is not None and not 1.0 <= float(degrees) <= WIDEST:
        raise UsageError(f"a field of view is 1 to {WIDEST:.0f} degrees, got {degrees}")
    if camera == OFF:
        return role, None
    return role, View(camera, None if degrees is None else float(degrees))
