"""The settings of a window: which frames and numbers make a sample (`windows.chunks` makes them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import FLAGS, flag_named
from robot_foundry.normalization.representation import Representation
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.runtime.later import later
from robot_foundry.windows.timing import Timing, timing_problems

SKIP, MASK = "skip", "mask"


@dataclass(frozen=True)
class WindowSpec:
    """Which frames and numbers make a sample. Times are steps (16) or seconds ('0.8s'), see `windows.timing`.

    stream          the action stream whose rows are the targets
    representation  how targets are represented, see `normalization.representation`
    horizon         steps of a chunk; step s is row t + s·stride of the stream
    history         observations; the last is the anchor t, the one before it row t - stride, …
    stride          rows between steps, of observations and of actions alike
    control_hz      the rate that all datasets are resampled to; `stride` then counts its periods. None leaves
                    each dataset its own rate
    flags           by flag (noop, intervention, …): 'skip', such frames are no anchors; 'mask', steps with
                    such targets do not count; or a number, the weight of such anchors in the loss
    cameras         roles of the cameras
    image           (height, width) that images are resized to, stretched where the shape differs; None is
                    the stored size, which then must be the same for a role in all datasets
    swapped_pictures
                    the share of samples that are to show the pictures of another one, whose words are unlike
    """

    stream: str = "next_state"
    representation: str = "relative_tool"
    horizon: int | str = 16
    history: int | str = 2
    stride: int | str = 1
    control_hz: float | None = None
    flags: Mapping[str, float | str] | None = None
    cameras: tuple[str, ...] = ("primary",)
    image: tuple[int, int] | None = None
    swapped_pictures: float = later(0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if self.image is not None:
            object.__setattr__(self, "image", tuple(self.image))
        Representation.parse(self.representation)
        problems = [
            *timing_problems(self.horizon, self.history, self.stride, self.control_hz),
            *_flag_problems(self.flags or {}),
        ]
        if len(set(self.cameras)) != len(self.cameras):
            problems.append(f"a camera role is named twice in {', '.join(self.cameras)}")
        if self.image is not None and (len(self.image) != 2 or min(self.image) < 1):
            problems.append(f"image {self.image} is not (height, width)")
        if not 0 <= self.swapped_pictures <= 1:
            problems.append(f"swapped_pictures must lie in 0 … 1, not {self.swapped_pictures}")
        if problems:
            raise FoundryError(f"window: {'; '.join(problems)}")

    @property
    def as_seen(self) -> WindowSpec:
        """The same with each sample's own pictures, as what is held out is shown."""
        return replace(self, swapped_pictures=0.0)

    @cached_property
    def timing(self) -> Timing:
        return Timing(self.horizon, self.history, self.stride, self.control_hz)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Flags of frames that are no anchors."""
        return tuple(sorted(name for name, use in (self.flags or {}).items() if use == SKIP))

    @property
    def masked(self) -> tuple[str, ...]:
        """Flags of targets that do not count."""
        return tuple(sorted(name for name, use in (self.flags or {}).items() if use == MASK))

    def weights(self, flags_n: NDArray[np.uint32]) -> NDArray[np.float32]:
        """The weight of anchors with these flags [n]: the product of those of its flags."""
        weight_n = np.ones(len(flags_n), np.float32)
        for name, use in (self.flags or {}).items():
            if not isinstance(use, str):
                weight_n[(flags_n & flag_named(name)) != 0] *= np.float32(use)
        return weight_n


def _flag_problems(flags: Mapping[str, float | str]) -> Iterator[str]:
    for name, use in flags.items():
        if name not in FLAGS:
            yield f"there is no flag '{name}'{nearest(name, FLAGS)} (flags: {', '.join(FLAGS)})"
        elif isinstance(use, bool) or not isinstance(use, int | float):
            if use not in (SKIP, MASK):
                near = nearest(str(use), (SKIP, MASK))
                yield f"the flag {name} is given '{use}', which is neither {SKIP}, {MASK} nor a weight{near}"
        elif not 0 < use < float("inf"):
            yield f"the flag {name} has the weight {use}, which is not positive; {MASK} leaves it out"
