"""Which arrays are pictures, in which form, and how a row of one becomes uint8 RGB: one rule for all layouts.

uint8 of three or four channels are pictures by their shape; gray ones, and numbers that are not bytes, where
their place or name says so; and of the latter only the range tells what is black and white. What is not
certain is not guessed: the reason names the setting that says it, `content.pixels`.

Legend: N images, H W pixels, C channels.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content, PixelSetting
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.images import MAX_PIXELS

HWC, CHW, HW = "HWC", "CHW", "HW"
ALPHA = "has an alpha channel, which is left out; colours that were multiplied with it stay so"
ROUNDED = "holds numbers between the levels 0 to 255, which are rounded"
UNNAMED = "nothing says that it is a camera's"
SHAPELESS = "its shape does not tell height, width and channels"
SMALLEST_SIDE = 8
BYTES, UNIT = (0.0, 255.0), (0.0, 1.0)
# Floats are rounded by far less than this, and resampling filters overshoot by more.
TOLERANCE = 1e-3
# No picture in 0…1 has a number above this, however it was resampled.
SURELY_BYTES = 2
PICTURE = re.compile(
    r"image|img|rgb|colou?r|camera|cam(?![a-z])|view|pixel|photo|picture|gr[ae]y|eye_in_hand"
)
COLOURS = re.compile(r"rgb|colou?r")
NO_PICTURE = re.compile(r"depth|dispar|segment|mask|semantic|point_?cloud|heat_?map|optical_?flow")
NO_PICTURE_WORDS = frozenset(("seg", "segm", "normal", "normals", "label", "labels", "xyz"))
# What is told of cameras and pictures, or computed from them, and has their names.
ABOUT_PICTURES = frozenset(
    ("intrinsic", "intrinsics", "extrinsic", "extrinsics", "pose", "embedding", "embeddings", "feature",
     "features", "id", "name", "names", "serial", "type", "timestamp", "timestamps")
)  # fmt: skip


@dataclass(frozen=True)
class Pixels:
    """The form of an array of pictures [N, …].

    `axes` are those of one picture. `black_white` are the numbers that become 0 and 255; None if they are
    bytes as they are, or if only the numbers can tell (`is_open`). `is_stated` says that the spec names the
    array, so that it is refused rather than left out. `rounds` says that its numbers were looked at, and lie
    between the levels of bytes.
    """

    axes: str
    height: int
    width: int
    channels: int
    dtype: str
    black_white: tuple[float, float] | None = None
    is_stated: bool = False
    rounds: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether a row is uint8 RGB [H, W, 3] as it is."""
        return self.axes == HWC and self.channels == 3 and self.dtype == "uint8" and self.black_white is None

    @property
    def is_open(self) -> bool:
        return self.black_white is None and self.dtype != "uint8"

    @property
    def has_alpha(self) -> bool:
        return self.channels == 4

    @property
    def in_words(self) -> str | None:
        """The form in words; None for the usual one."""
        if self.is_usual:
            return None
        black, white = self.black_white or BYTES
        return f"{self.dtype} {self.axes} of {self.channels}, {black:g} to {white:g}"

    def settled(self, path: str, rows: Iterable[NDArray[Any]]) -> Pixels | str:
        """The form by the numbers of all rows, or why it is not certain.

        Refused for a number that is not finite, and for an array that the spec names and that is not certain.
        """
        if not self.is_open:
            return self
        least, greatest, is_whole = np.inf, -np.inf, True
        for n, row in enumerate(rows):
            _check_finite(row, path, n)
            least, greatest = min(least, float(row.min())), max(greatest, float(row.max()))
            is_whole = is_whole and bool((row == np.rint(row)).all())
        black_white = self._by_range(least, greatest, is_whole)
        if black_white is not None:
            return replace(self, black_white=black_white, rounds=black_white == BYTES and not is_whole)
        reason = unsure(
            path, f"its {self.dtype} from {least:.6g} to {greatest:.6g} do not tell what is white"
        )
        if self.is_stated:
            raise Refused(f"its array '{path}': {reason}")
        return reason

    def _by_range(self, least: float, greatest: float, is_whole: bool) -> tuple[float, float] | None:
        is_float = np.dtype(self.dtype).kind == "f"
        # 16 bits may hold 8, 10, 12 or 16 of a camera; single channels of integers are distances or labels.
        if least < -TOLERANCE or self.dtype in ("uint16", "bool") or not (is_float or self.channels > 1):
            return None
        # Nothing but zeros and ones may be a mask, and the darkest levels of bytes.
        if is_float and greatest <= UNIT[1] + TOLERANCE and not is_whole:
            return UNIT
        return BYTES if greatest <= 0 or SURELY_BYTES < greatest <= BYTES[1] + TOLERANCE else None

    def rgb(self, row: NDArray[Any], path: str, n: int) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3] of row `n`. Refused for numbers that are not finite.

        Numbers are scaled to 0…255, and rounded half to even; what lies beyond is clipped.
        """
        pixels = np.moveaxis(row, 0, -1) if self.axes == CHW else row[..., None] if self.axes == HW else row
        pixels_HWC = pixels[..., :3]
        if self.black_white is not None:
            _check_finite(pixels_HWC, path, n)
            black, white = self.black_white
            levels_HWC = (pixels_HWC.astype(np.float64) - black) * (255.0 / (white - black))
            pixels_HWC = np.rint(np.clip(levels_HWC, 0.0, 255.0)).astype(np.uint8)
        return np.broadcast_to(pixels_HWC, (self.height, self.width, 3))


def pixels_of(
    path: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    content: Content,
    *,
    is_stated: bool = False,
    is_place: bool = False,
    reads: str | None = "",
) -> Pixels | str | None:
    """The form of an array [N, …] as far as its header tells; why it is not certain; or None for no pictures.

    `is_stated` says that the spec names just this array as pictures, `is_place` that it lies where they do,
    and `reads` is as of `unsure`.
    """
    setting = _setting(path, content)
    is_stated = is_stated or setting is not None
    form = _by_shape(shape, dtype, setting or PixelSetting(), is_stated)
    if form is None and setting is not None:
        raise Refused(
            f"content.pixels names '{path}', and {dtype} of shape {tuple(shape)} is no array of pictures"
        )
    if form is not None and is_stated:
        return form
    is_picture = _by_name(path)
    if form is None:
        may_be = dtype == np.uint8 and len(shape) > 3 and (is_place or is_picture)
        return (
            unsure(path, SHAPELESS, "axes: HWC, CHW or HW", reads)
            if may_be and is_picture is not False
            else None
        )
    if is_picture is False:
        return unsure(path, "its name is that of a depth map or a mask", reads=reads)
    if is_place or is_picture or (form.channels > 1 and form.dtype == "uint8"):
        return form
    return unsure(path, UNNAMED, reads=reads) if form.channels > 1 else None


def is_named_picture(path: str) -> bool:
    """Whether names say that pictures lie there."""
    return _by_name(path) is True


def is_lost_picture(path: str) -> bool:
    """Whether what is not read is missed as pictures by its name, in whatever form it is."""
    return is_named_picture(path) and ABOUT_PICTURES.isdisjoint(re.findall(r"[a-z]+", path.lower()))


def is_shaped_picture(path: str, row: Sequence[int]) -> bool:
    """Whether rows of this shape may be pictures in colour, unless names say that they are none."""
    form = _by_shape((1, *row), np.dtype(np.uint8), PixelSetting(), is_stated=False)
    return form is not None and form.channels > 1 and _by_name(path) is not False


def unsure(path: str, why: str, setting: str = "range: [BLACK, WHITE]", reads: str | None = "") -> str:
    """What is told of an array that is not taken for pictures though it may be.

    `reads` is what the spec must say besides the setting so that it is; None where nothing makes it one.
    """
    skips = f"`--set 'content.skip=[{path}]'` leaves them out"
    if reads is None:
        return f"may hold images, and {why}: {skips}"
    settings = f"{reads} --set 'content.pixels={{{path}: {{{setting}}}}}'".strip()
    return f"may hold images, and {why}: `{settings}` reads them, {skips}"


def check_settings(paths: Iterable[str], content: Content) -> None:
    """Refused for a setting that names no array: a typo would be silent otherwise."""
    names = sorted(paths)
    for pattern in content.pixels:
        if not fnmatch.filter(names, pattern):
            raise Refused(f"it has no array '{pattern}', which content.pixels names{nearest(pattern, names)}")


def is_set(path: str, content: Content) -> bool:
    """Whether the spec says what the array of pictures holds."""
    return _setting(path, content) is not None


def _setting(path: str, content: Content) -> PixelSetting | None:
    matching = (setting for name, setting in content.pixels.items() if fnmatch.fnmatchcase(path, name))
    return next(matching, None)


def _by_shape(
    shape: Sequence[int], dtype: np.dtype[Any], setting: PixelSetting, is_stated: bool
) -> Pixels | None:
    """With sides of 8 and more, no array of four axes has its channels both first and last.

    Smaller ones, and such whose sides are 1, 3 or 4, are pictures if the setting says which axes are which.
    """
    if dtype.kind not in "buif" or len(shape) not in (3, 4):
        return None
    sides = tuple(int(size) for size in shape[1:])
    forms = {HW: (*sides, 1)} if len(sides) == 2 else {HWC: sides, CHW: (*sides[1:], sides[0])}
    for axes, (height, width, channels) in forms.items():
        smallest = SMALLEST_SIDE if setting.axes is None else 1
        fits = min(height, width) >= smallest and channels in (1, 3, 4)
        if fits and height * width <= MAX_PIXELS and setting.axes in (None, axes):
            return Pixels(axes, height, width, channels, dtype.name, setting.black_white, is_stated)
    return None


def _by_name(path: str) -> bool | None:
    """Whether names say that it holds pictures, or that it does not; None if they say neither."""
    *above, last = path.lower().split("/")
    if _says_no(last):
        return False
    if COLOURS.search(last):
        return True
    if any(map(_says_no, above)):
        return False
    return True if PICTURE.search(path.lower()) else None


def _says_no(name: str) -> bool:
    return bool(NO_PICTURE.search(name)) or not NO_PICTURE_WORDS.isdisjoint(re.findall(r"[a-z]+", name))


def _check_finite(row: NDArray[Any], path: str, n: int) -> None:
    if row.dtype.kind == "f" and not np.isfinite(row).all():
        raise Refused(f"its image {n} of '{path}' holds NaN or infinity")
