"""Scaling to and from the range a network learns in, dimension by dimension.

Normalised is (x - centre) / scale, clipped. `rule` says how centre and scale came about:

    percentiles, wide percentiles, point mass, range     see bands.py: none is decided by a single frame
    identity      unchanged: rotations, whose columns must stay unit vectors
    constant      hardly more than rounding: 0 when normalised, and back to the constant
    no data       0 both ways

Works on NumPy arrays and torch tensors alike, in their own dtype and device, with the same numbers: only
elementwise subtraction, multiplication and clipping. Shape suffixes: D = dims of the space (for scalings of
each step T × D), T = steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.bands import extreme_band, least_spread, levels_of, robust_band
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.space import ActionSpace, Dim
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError

_FORMAT = 1
_FAR = 10.0  # scales from the centre: of 1e6 values gaussian ones go to 2, Laplacian ones to 4


@dataclass(frozen=True)
class Scaling:
    """How one dimension is scaled.

    `clipped` is the share of the fitted data beyond the clip, `levels` the number of distinct values where
    they are so few that the dimension is discrete. `outlier` is the least or the greatest value, the one
    further out, where it is beyond all that the scale is made for.
    """

    centre: float
    scale: float
    rule: str
    clipped: float = 0.0
    levels: int | None = None
    outlier: float | None = None


_NO_DATA = Scaling(0.0, 0.0, "no data")


@dataclass(frozen=True)
class Normalizer:
    """The scalings of a space, one for each of its dimensions.

    With `offsets`, one tuple of scalings for each step of a chunk, these are used for x (..., T, D) in place
    of `scalings`, which then are those of all steps together.
    """

    space: ActionSpace
    scalings: tuple[Scaling, ...]
    clip: float = 1.5
    percentiles: tuple[float, float] = (1.0, 99.0)
    offsets: tuple[tuple[Scaling, ...], ...] = ()

    @classmethod
    def fit(
        cls,
        statistics: Statistics,
        space: ActionSpace | None = None,
        percentiles: tuple[float, float] = (1.0, 99.0),
        clip: float = 1.5,
        offsets: Sequence[Statistics] = (),
        values_per_frame: int | Sequence[int] = 1,
        values_per_step: int | Sequence[int] = 1,
    ) -> Normalizer:
        """The scalings of `space` (default: that of the statistics).

        Dimensions that the statistics lack have no data. `offsets` are statistics of each step of a chunk,
        which then has a scaling of its own; where a step has no data, that of all steps holds.
        `values_per_frame` says how often the statistics count one frame, for all dimensions or each: the
        steps of a chunk, times the weight of the frame; `values_per_step` the same of `offsets`. What only
        two frames say decides no scale.

        Raises FoundryError where a dimension's unit, kind or representation is not that of its statistics.
        """
        low, high = (float(q) for q in percentiles)
        if not (0 <= low < high <= 100 and 1 <= clip < np.inf):
            raise FoundryError(
                f"percentiles {percentiles} and clip {clip}: need 0 <= low < high <= 100 and 1 <= clip < inf"
            )
        space = statistics.space if space is None else space

        def fitted(of: Statistics, repeats: int | Sequence[int]) -> tuple[Scaling, ...]:
            repeats_D = np.broadcast_to(repeats, len(space)).tolist()
            return tuple(
                _scaling(_digest(of, dim), dim, (low, high), clip, times)
                for dim, times in zip(space, repeats_D, strict=True)
            )

        pooled = fitted(statistics, values_per_frame)
        steps = tuple(
            tuple(
                all_steps if one_step == _NO_DATA else one_step
                for one_step, all_steps in zip(row, pooled, strict=True)
            )
            for row in (fitted(of_step, values_per_step) for of_step in offsets)
        )
        return cls(space, pooled, float(clip), (low, high), steps)

    def onto(self, space: ActionSpace, at: Sequence[int | None]) -> Normalizer:
        """These scalings for another space: its dimension i is at[i] of this one, or has no data (None)."""

        def moved(scalings: Sequence[Scaling]) -> tuple[Scaling, ...]:
            return tuple(_NO_DATA if i is None else scalings[i] for i in at)

        steps = tuple(moved(row) for row in self.offsets)
        return replace(self, space=space, scalings=moved(self.scalings), offsets=steps)

    def normalize(self, x: Any, mask: Any = None) -> Any:
        """x (..., D) in robot units -> the same shape, about [-1, 1], clipped at ±clip.

        `mask` is True where a dimension is real: (D,), the shape of x, or (leading axes of x…, D) such as
        (B, D) for x (B, T, D). All else comes out exactly 0, whatever stands there, NaN included.
        """
        x = self._checked(x)
        with np.errstate(invalid="ignore", over="ignore"):  # masked entries may be anything
            y = (x - _like(x, self._centre_D)) * _like(x, self._factor_D)
        return self._masked(y.clip(-self.clip, self.clip), mask)

    def denormalize(self, x: Any, mask: Any = None) -> Any:
        """The inverse of normalize inside the clip; values beyond it are not clipped on the way back."""
        x = self._checked(x)
        with np.errstate(invalid="ignore", over="ignore"):
            y = x * _like(x, self._scale_D) + _like(x, self._centre_D)
        return self._masked(y, mask)

    def _checked(self, x: Any) -> Any:
        if tuple(x.shape[-1:]) != (len(self.space),):
            raise FoundryError(f"values of shape {tuple(x.shape)} do not fit {len(self.space)} dimensions")
        if self.offsets and tuple(x.shape[-2:-1]) != (len(self.offsets),):
            raise FoundryError(
                f"values of shape {tuple(x.shape)} do not fit scalings of {len(self.offsets)} steps"
            )
        if isinstance(x, np.ndarray) and not np.issubdtype(x.dtype, np.floating):
            return x.astype(np.float64)
        return x

    def _masked(self, y: Any, mask: Any) -> Any:
        present = _like(y, self._present_D)
        keep = present if isinstance(y, np.ndarray) else present.bool()
        if mask is not None:
            axes = (1,) * (y.ndim - mask.ndim)
            keep = keep & mask.reshape(*mask.shape[:-1], *axes, mask.shape[-1])
        # Not a product with the mask: 0 * NaN is NaN.
        return np.where(keep, y, y.dtype.type(0)) if isinstance(y, np.ndarray) else y.masked_fill(~keep, 0.0)

    def _of_each(self, number: Callable[[Scaling], float | bool]) -> NDArray[Any]:
        """A number of every scaling: [D], or with offsets [T, D]."""
        rows = self.offsets or (self.scalings,)
        numbers = np.array([[number(scaling) for scaling in row] for row in rows]).reshape(len(rows), -1)
        return numbers if self.offsets else numbers[0]

    @cached_property
    def _centre_D(self) -> NDArray[np.float64]:
        return self._of_each(lambda scaling: scaling.centre).astype(np.float64)

    @cached_property
    def _scale_D(self) -> NDArray[np.float64]:
        return self._of_each(lambda scaling: scaling.scale).astype(np.float64)

    # A constant has the scale 0: times 0 it becomes 0, where a division would give NaN.
    @cached_property
    def _factor_D(self) -> NDArray[np.float64]:
        return self._of_each(lambda scaling: 1 / scaling.scale if scaling.scale else 0.0).astype(np.float64)

    @cached_property
    def _present_D(self) -> NDArray[np.bool_]:
        return self._of_each(lambda scaling: scaling.rule != "no data").astype(bool)

    def to_json(self) -> str:
        """Readable text; from_json gives back an equal Normalizer."""
        dims = [
            {**dim.to_json(), **asdict(scaling)}
            for dim, scaling in zip(self.space, self.scalings, strict=True)
        ]
        data = {"format": _FORMAT, "percentiles": self.percentiles, "clip": self.clip, "dims": dims}
        if self.offsets:
            data["offsets"] = [[asdict(scaling) for scaling in row] for row in self.offsets]
        return json.dumps(data, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Normalizer:
        data: Mapping[str, Any] = json.loads(text)
        if data.get("format") != _FORMAT:
            raise FoundryError(f"a normalizer of format {data.get('format')!r}, this version reads {_FORMAT}")
        scaling_fields = Scaling.__dataclass_fields__
        space = ActionSpace.from_json(
            [{k: v for k, v in dim.items() if k not in scaling_fields} for dim in data["dims"]]
        )
        scalings = tuple(
            Scaling(**{k: v for k, v in dim.items() if k in scaling_fields}) for dim in data["dims"]
        )
        low, high = data["percentiles"]
        offsets = tuple(tuple(Scaling(**scaling) for scaling in row) for row in data.get("offsets", ()))
        return cls(space, scalings, data["clip"], (low, high), offsets)


def _digest(statistics: Statistics, dim: Dim) -> Digest | None:
    if dim.name not in statistics.space:
        return None
    stated = statistics.space.dims[statistics.space.index(dim.name)]
    for field in ("unit", "kind", "representation"):
        ours, theirs = getattr(dim, field), getattr(stated, field)
        if ours != theirs:
            raise FoundryError(f"'{dim.name}' has the {field} '{ours}', but its statistics are of '{theirs}'")
    return statistics[dim.name]


def _scaling(
    digest: Digest | None, dim: Dim, percentiles: tuple[float, float], clip: float, repeats: int
) -> Scaling:
    if digest is None or not digest.count:
        return _NO_DATA
    if dim.kind == "rotation":
        return Scaling(0.0, 1.0, "identity", _beyond(digest, -clip, clip))
    if dim.kind == "gripper":
        band = extreme_band(digest, dim.unit)
    else:
        band = robust_band(digest, dim.unit, percentiles, repeats)
    centre, scale = (band.low + band.high) / 2, (band.high - band.low) / 2
    outlier = max(digest.min, digest.max, key=lambda value: abs(value - centre))
    if scale == 0:
        inside = least_spread(digest, dim.unit)
        levels = 1 if digest.min == digest.max else levels_of(digest)
        beyond = _beyond(digest, centre - inside, centre + inside)
        return Scaling(centre, 0.0, band.rule, beyond, levels, outlier if beyond else None)
    beyond = _beyond(digest, centre - clip * scale, centre + clip * scale)
    is_far = abs(outlier - centre) > _FAR * scale
    return Scaling(centre, scale, band.rule, beyond, levels_of(digest), outlier if is_far else None)


def _beyond(digest: Digest, low: float, high: float) -> float:
    # The cdf counts what equals its argument, and a value on either bound is not beyond it.
    below, above = digest.cdf(np.nextafter(low, -np.inf)), 1.0 - digest.cdf(high)
    return float(below + above)


def _like(x: Any, values_D: Any) -> Any:
    """Numbers as an array of x's own type, dtype and device; booleans stay booleans in NumPy."""
    if isinstance(x, np.ndarray):
        return values_D if values_D.dtype == bool else values_D.astype(x.dtype)
    return x.new_tensor(values_D)
