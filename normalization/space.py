"""Named dimensions and the spaces made of them.

A dimension is named `<part>.<quantity>` or `<part>.<quantity>.<component>`: `right.ee_position.x`,
`right.joint_position.0`, `right.gripper_opening`. In the union of several embodiments a dimension that
means something on one of them only is qualified as `<embodiment>:<name>`. docs/actions.md lists the scheme.
A quantity of the scheme has its unit, kind, components and representations; names beyond it are free.

Shape suffixes: d = dims of this space, D = dims of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError, nearest

Array = NDArray[Any]

KINDS = ("position", "rotation", "joint", "velocity", "gripper", "base", "other")
REPRESENTATIONS = ("absolute", "relative_tool", "relative_base", "delta", "relative")
PARTS = ("right", "left", "right_hand", "left_hand", "torso", "head", "base", "right_leg", "left_leg")
_EMBODIMENT = "[a-z0-9][a-z0-9_-]*"
_NAME = re.compile(
    rf"(?:(?P<embodiment>{_EMBODIMENT}):)?"
    r"(?P<part>[a-z][a-z0-9_]*)\.(?P<quantity>[a-z][a-z0-9_]*)(?:\.(?P<component>[a-z0-9_]+))?"
)


@dataclass(frozen=True)
class Quantity:
    """What a quantity is made of.

    `components` is None where the embodiment decides how many there are: 0, 1, …; `linear_unit` is the other
    unit that a joint may have, where it slides; `relative` are the representations beside absolute.
    """

    unit: str
    kind: str
    components: tuple[str, ...] | None = ()
    linear_unit: str | None = None
    relative: tuple[str, ...] = ()


_XYZ = ("x", "y", "z")
_OF_POSES = ("relative_tool", "relative_base", "delta")
_OF_JOINTS = ("relative", "delta")
QUANTITIES: Mapping[str, Quantity] = {
    "ee_position": Quantity("m", "position", _XYZ, relative=_OF_POSES),
    "ee_rot6d": Quantity("1", "rotation", tuple("012345"), relative=_OF_POSES),
    "position": Quantity("m", "base", ("x", "y")),
    "yaw": Quantity("rad", "base"),
    "height": Quantity("m", "joint"),
    "joint_position": Quantity("rad", "joint", None, "m", _OF_JOINTS),
    "gripper_opening": Quantity("1", "gripper"),
    "ee_linear_velocity": Quantity("m/s", "velocity", _XYZ),
    "ee_angular_velocity": Quantity("rad/s", "velocity", _XYZ),
    "linear_velocity": Quantity("m/s", "base", ("x", "y")),
    "yaw_velocity": Quantity("rad/s", "base"),
    "joint_velocity": Quantity("rad/s", "velocity", None, "m/s"),
    "joint_effort": Quantity("N*m", "other", None, "N"),
    "ee_force": Quantity("N", "other", _XYZ),
    "ee_torque": Quantity("N*m", "other", _XYZ),
    "gripper_force": Quantity("N", "other"),
}


@dataclass(frozen=True)
class Dim:
    """One named number of a state or an action.

    name            `[<embodiment>:]<part>.<quantity>[.<component>]`
    unit            SI unit as text: "m", "rad", "m/s", "1" …
    kind            one of KINDS; decides how the dimension is made relative and normalised
    representation  one of REPRESENTATIONS
    shared          whether the name means the same on every embodiment. Default: False for joints
                    (kind "joint" or a quantity `joint_*`), True for all else.
    """

    name: str
    unit: str
    kind: str
    representation: str = "absolute"
    shared: bool | None = None

    def __post_init__(self) -> None:
        match = _parsed(self.name)
        if match is None:
            raise FoundryError(
                f"'{self.name}' is no dimension name: expected [<embodiment>:]<part>.<quantity>[.<component>]"
                " in lower-case letters, digits and _, such as right.ee_position.x"
            )
        for label, value, choices in (
            ("kind", self.kind, KINDS),
            ("representation", self.representation, REPRESENTATIONS),
        ):
            if value not in choices:
                raise FoundryError(
                    f"dimension '{self.name}': {label} '{value}' is not one of {', '.join(choices)}"
                    f"{nearest(str(value), choices)}"
                )
        if not self.unit:
            raise FoundryError(f"dimension '{self.name}' has no unit (write '1' for a pure number)")
        if self.quantity in QUANTITIES:
            _check_scheme(self, QUANTITIES[self.quantity])
        if self.shared is None:
            of_one_robot = self.kind == "joint" or self.quantity.startswith("joint_")
            object.__setattr__(self, "shared", not of_one_robot)

    @property
    def embodiment(self) -> str | None:
        return self._match["embodiment"]

    @property
    def part(self) -> str:
        """`right` of `right.ee_position.x`."""
        return str(self._match["part"])

    @property
    def quantity(self) -> str:
        """`ee_position` of `right.ee_position.x`."""
        return str(self._match["quantity"])

    @property
    def component(self) -> str | None:
        """`x` of `right.ee_position.x`."""
        return self._match["component"]

    @property
    def _match(self) -> re.Match[str]:
        match = _parsed(self.name)
        assert match is not None
        return match

    def qualified(self, embodiment: str) -> Dim:
        """This dimension as it is named in a union of embodiments."""
        if self.shared or self.embodiment is not None:
            return self
        return replace(self, name=f"{embodiment}:{self.name}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Dim:
        names = [field.name for field in fields(cls)]
        for key in data:
            if key not in names:
                raise FoundryError(f"a dimension has no field '{key}'{nearest(key, names)}")
        missing = [key for key in names[:3] if key not in data]
        if missing:
            raise FoundryError(f"dimension {data.get('name', '')!r} lacks {', '.join(missing)}")
        return cls(**data)


def _check_scheme(dim: Dim, quantity: Quantity) -> None:
    """A name of the scheme means what the scheme says; FoundryError says how else to name it."""
    where, component = f"dimension '{dim.name}'", dim.component or ""
    components = quantity.components
    if not component.isdecimal() if components is None else component not in (components or ("",)):
        listed = "0, 1, …" if components is None else ", ".join(components)
        raise FoundryError(
            f"{where}: {dim.quantity} has " + (f"the components {listed}" if listed else "no components")
        )
    units = [unit for unit in (quantity.unit, quantity.linear_unit) if unit is not None]
    for label, value, allowed in (
        ("unit", dim.unit, units),
        ("kind", dim.kind, [quantity.kind]),
        ("representation", dim.representation, ["absolute", *quantity.relative]),
    ):
        if value not in allowed:
            raise FoundryError(
                f"{where}: the {label} of {dim.quantity} is {' or '.join(allowed)}, not '{value}'",
                hint=f"convert it, or give what is not {dim.quantity} a name of its own",
            )


def check_embodiment(name: str) -> str:
    """The name, if it is one of an embodiment: it qualifies names of dimensions in unions."""
    if not re.fullmatch(_EMBODIMENT, name):
        raise FoundryError(
            f"'{name}' is no name of an embodiment: lower-case letters, digits, _ and -, such as panda"
        )
    return name


# Tables of thousands of episodes ask for the same few names.
@lru_cache(maxsize=4096)
def _parsed(name: str) -> re.Match[str] | None:
    return _NAME.fullmatch(name)


@lru_cache(maxsize=4096)
def dims_for(name: str, *, count: int | None = None, shared: bool | None = None) -> tuple[Dim, ...]:
    """The dimensions of `<part>.<quantity>`, or the one of a full name, with unit and kind from QUANTITIES.

    `count` says how many where the embodiment decides: dims_for("right.joint_position", count=7).
    """
    match = _NAME.fullmatch(name)
    quantity = QUANTITIES.get(match["quantity"]) if match else None
    if match is None or quantity is None:
        word = match["quantity"] if match else name
        raise FoundryError(
            f"'{name}': no known quantity '{word}'{nearest(word, list(QUANTITIES))}",
            hint=f"quantities: {', '.join(QUANTITIES)}; for another one give Dim(name, unit, kind)",
        )
    components = quantity.components
    if match["component"] is not None:
        return (Dim(name, quantity.unit, quantity.kind, shared=shared),)
    if components is None:
        if count is None:
            raise FoundryError(f"'{name}' has as many components as the embodiment has joints: give count=")
        components = tuple(str(i) for i in range(count))
    elif not components:
        return (Dim(name, quantity.unit, quantity.kind, shared=shared),)
    names = [f"{name}.{component}" for component in components]
    return tuple(Dim(n, quantity.unit, quantity.kind, shared=shared) for n in names)


class ActionSpace:
    """An ordered, immutable set of named dimensions: of a state, an action, or the union of several."""

    __slots__ = ("_dims", "_index")

    def __init__(self, dims: Iterable[Dim | str]) -> None:
        """Takes Dims, full names, or `<part>.<quantity>` names, which expand to their components."""
        expanded: list[Dim] = []
        for dim in dims:
            expanded.extend((dim,) if isinstance(dim, Dim) else dims_for(dim))
        self._dims = tuple(expanded)
        self._index = {dim.name: i for i, dim in enumerate(expanded)}
        if len(self._index) != len(expanded):
            names = [dim.name for dim in expanded]
            twice = next(name for name in names if names.count(name) > 1)
            raise FoundryError(f"dimension '{twice}' appears twice in one space")

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self._dims

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index)

    def index(self, name: str) -> int:
        """The position of a dimension; FoundryError names the nearest one."""
        if name not in self._index:
            raise FoundryError(f"no dimension '{name}' in this space{nearest(name, self.names)}")
        return self._index[name]

    def __len__(self) -> int:
        return len(self._dims)

    def __iter__(self) -> Iterator[Dim]:
        return iter(self._dims)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActionSpace) and self._dims == other._dims

    def __hash__(self) -> int:
        return hash(self._dims)

    def __repr__(self) -> str:
        return f"ActionSpace({', '.join(self.names)})"

    def qualified(self, embodiment: str) -> ActionSpace:
        """This space with its unshared dimensions named for their embodiment."""
        return ActionSpace(dim.qualified(embodiment) for dim in self._dims)

    @staticmethod
    def union(*spaces: ActionSpace, embodiments: Sequence[str] | None = None) -> ActionSpace:
        """All dimensions of the spaces, each once, in the canonical order of names.

        The order does not depend on that of the arguments. With `embodiments` (one for each space) that
        are not all the same, unshared dimensions are qualified as `<embodiment>:<name>`; scatter and
        gather find them when they are given the embodiment.

        Raises FoundryError where one name has two units, kinds or representations.
        """
        if embodiments is not None:
            if len(embodiments) != len(spaces):
                raise FoundryError(f"{len(spaces)} spaces, but {len(embodiments)} embodiments")
            if len(set(embodiments)) > 1:
                spaces = tuple(s.qualified(e) for s, e in zip(spaces, embodiments, strict=True))
        merged: dict[str, Dim] = {}
        for dim in (dim for space in spaces for dim in space):
            other = merged.setdefault(dim.name, dim)
            for field in ("unit", "kind", "representation"):
                ours, theirs = getattr(other, field), getattr(dim, field)
                if ours != theirs:
                    raise FoundryError(
                        f"'{dim.name}' has the {field} '{ours}' in one space and '{theirs}' in another"
                    )
            if not dim.shared:
                merged[dim.name] = dim
        ordered: list[Dim] = sorted(merged.values(), key=_canonical_key)
        return ActionSpace(ordered)

    def indices_in(self, into: ActionSpace, embodiment: str | None = None) -> NDArray[np.intp]:
        """Where each dimension of this space lies in `into`; FoundryError names the first that is missing."""
        indices = np.empty(len(self), np.intp)
        for i, dim in enumerate(self._dims):
            name = dim.name if embodiment is None else dim.qualified(embodiment).name
            indices[i] = into.index(name if name in into else dim.name)
        return indices

    def scatter(
        self, x: Array, into: ActionSpace, *, embodiment: str | None = None
    ) -> tuple[Array, NDArray[np.bool_]]:
        """x (..., d) of this space -> y (..., D) of `into`, zero where nothing is given, and mask (D,)."""
        self._check(x)
        at = self.indices_in(into, embodiment)
        y = np.zeros((*x.shape[:-1], len(into)), x.dtype)
        y[..., at] = x
        mask = np.zeros(len(into), bool)
        mask[at] = True
        return y, mask

    def gather(self, y: Array, from_space: ActionSpace, *, embodiment: str | None = None) -> Array:
        """y (..., D) of `from_space` -> x (..., d) of this space: the inverse of scatter."""
        from_space._check(y)
        return y[..., self.indices_in(from_space, embodiment)]

    def _check(self, x: Array) -> None:
        if x.shape[-1:] != (len(self),):
            raise FoundryError(f"an array of shape {tuple(x.shape)} does not fit {len(self)} dimensions")

    def to_json(self) -> list[dict[str, Any]]:
        return [dim.to_json() for dim in self._dims]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> ActionSpace:
        return cls(Dim.from_json(dim) for dim in data)


def _canonical_key(dim: Dim) -> tuple[Any, ...]:
    def rank(word: str, order: Sequence[str]) -> tuple[int, str]:
        return (order.index(word), "") if word in order else (len(order), word)

    component = dim.component or ""
    number = int(component) if component.isdigit() else -1
    quantity = rank(dim.quantity, tuple(QUANTITIES))
    return (dim.embodiment or "", rank(dim.part, PARTS), quantity, number, component)
