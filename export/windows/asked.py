"""The options of exported windows, read: the window of training, and how its samples are put into tars."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.tables import FLAGS
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.export.windows.options import VLA_FOUNDRY
from robot_foundry.normalization.representation import Representation
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.later import without_later
from robot_foundry.windows.window import MASK, WindowSpec

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
DEFAULT_STREAM = "next_state"


@dataclass(frozen=True)
class Asked:
    """`spec` is the window; see `options` for the rest. `samples` None is each window once."""

    spec: WindowSpec
    layout: str
    quality: int
    every: int
    seed: int
    samples: int | None
    per_shard: int

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON."""
        spec = without_later(asdict(self.spec), self.spec)
        masked = {name: use for name, use in (self.spec.flags or {}).items()}
        spec |= {"flags": masked, "cameras": list(self.spec.cameras)}
        spec["image"] = None if self.spec.image is None else list(self.spec.image)
        told = asdict(self) | {"window": spec}
        del told["spec"]
        return told


def asked_of(options: Mapping[str, Any], opened: OpenMixture) -> Asked:
    """What the options ask of this data. UsageError lists all that is wrong with them."""
    unions = unions_of(opened)
    roles = sorted({camera.role for schema in unions.schemas.values() for camera in schema.cameras})
    if problems := list(_problems(options, roles)):
        raise UsageError(f"export --to windows: {'; '.join(problems)}")
    try:
        spec = _window(options, roles, list(unions.streams))
        unions.check_stream(spec.stream)
    except FoundryError as error:  # of an option, as all else of the window has defaults
        raise UsageError(f"export --to windows: {error.message}", hint=error.hint) from error
    if options["layout"] == VLA_FOUNDRY and Representation.parse(spec.representation).poses == "delta":
        raise UsageError(
            "the layout foundry-vla keeps actions as one sequence through the anchor, which deltas are not",
            hint="--representation relative_tool, or --layout plain",
        )
    names = ("layout", "quality", "every", "seed", "samples", "per_shard")
    return Asked(spec, **{name: options[name] for name in names})


def _window(options: Mapping[str, Any], roles: Sequence[str], streams: Sequence[str]) -> WindowSpec:
    return WindowSpec(
        stream=options["stream"] or (streams[0] if len(streams) == 1 else DEFAULT_STREAM),
        representation=options["representation"],
        horizon=_steps(options["horizon"]),
        history=_steps(options["history"]),
        stride=_steps(options["stride"]),
        control_hz=options["control_hz"],
        flags=dict.fromkeys(options["mask"], MASK) or None,
        cameras=tuple(options["camera"]) or tuple(roles),
        image=_size(options["image"]),
    )


def _problems(options: Mapping[str, Any], roles: Sequence[str]) -> Iterator[str]:
    for name in ("every", "per_shard", "samples"):
        if options[name] is not None and options[name] < 1:
            yield f"--{name.replace('_', '-')} {options[name]} is below 1"
    if not 1 <= options["quality"] <= 100:
        yield f"--quality {options['quality']} is outside 1 to 100"
    if options["image"] is not None and not _SIZE.fullmatch(options["image"]):
        yield f"--image '{options['image']}' is not HEIGHTxWIDTH, such as 224x224"
    for role in options["camera"]:
        if role not in roles:
            yield f"no dataset has a camera with the role '{role}'{nearest(role, roles)} ({_listed(roles)})"
    for flag in options["mask"]:
        if flag not in FLAGS:
            yield f"there is no flag '{flag}'{nearest(flag, FLAGS)} (flags: {', '.join(FLAGS)})"


def _listed(roles: Sequence[str]) -> str:
    return f"roles: {', '.join(roles) or 'none'}"


def _steps(text: str) -> int | str:
    """'16' is steps; all else is left to `windows.timing` to read, or to refuse."""
    return int(text) if text.isdecimal() else text


def _size(text: str | None) -> tuple[int, int] | None:
    match = None if text is None else _SIZE.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2]))
