"""The public datasets that packaged specs read: what is published of them, and what specs make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.runtime.errors import FoundryError

if TYPE_CHECKING:
    from robot_foundry.ingest.robot.spec.spec import Field, Spec


def sources() -> list[dict[str, Any]]:
    """One row a dataset, by the name of its spec.

    `state` and `actions` are numbers of dims, None where the robot decides them. `rate_hz`, `episodes`,
    `hours` and `gigabytes` are None where nobody tells.
    """
    specs = (load_spec(name) for name in builtin_specs())
    return [_row(spec) for spec in specs if getattr(spec, "about", None) is not None]  # type: ignore[arg-type]


def _row(spec: Spec) -> dict[str, Any]:
    assert spec.about is not None
    return {
        "spec": spec.name,
        "modality": LAYOUTS[spec.layout].kind,
        **spec.about.to_json(),
        "rate_hz": spec.content.fps,
        "cameras": dict(spec.mapping.cameras),
        "state": _num_dims(spec.mapping.state, spec.mapping.state),
        "actions": {
            stream: _num_dims(fields, spec.mapping.state) for stream, fields in spec.mapping.actions.items()
        },
        "locations": list(spec.locations),
    }


def _num_dims(fields: Mapping[str, Field], state: Mapping[str, Field]) -> int | None:
    from robot_foundry.ingest.robot.dims import dims_of

    total = 0
    for quantity, field in fields.items():
        count = _num_columns(field if field.key is not None else state[quantity])
        try:
            total += len(dims_of(quantity, field, count or 0))
        except FoundryError:
            return None
        if not count and quantity.partition(".")[2].startswith("joint_"):
            return None
    return total


def _num_columns(field: Field) -> int | None:
    if field.columns is None or field.columns[1] is None:
        return None
    return len(field.columns_of(field.columns[1]))
