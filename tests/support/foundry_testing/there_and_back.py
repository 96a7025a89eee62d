"""From arrays of a source to canonical rows and back to what its robot would be sent.

Legend: N frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from foundry_testing.mapped_rows import Arrays, survey_of
from robot_foundry.catalog.manifest import Manifest, TableFile
from robot_foundry.ingest.robot.interface import Interface, interface_of, observed_state
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import Resolution, resolve
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.normalization.space import ActionSpace

N = 5
OSC = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], "output_min": [-0.05, -0.04, -0.05, -0.5, -0.5, -0.5],
}  # fmt: skip
POSE = {
    "right.ee_position": {"key": "p"},
    "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"},
}


def pose_arrays(rng: np.random.Generator, **more: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"p": rng.uniform(-1, 1, (N, 3)), "q": Rotation.random(N, random_state=3).as_quat(), **more}


def manifest_for(spec: Spec, found: Resolution) -> Manifest:
    """Of a version of such episodes, without any data."""
    names = ("episodes", "annotations", "leaves")
    return Manifest(
        "d", "0" * 32, found.schema, "robot", tables=dict.fromkeys(names, "1" * 32),
        files=dict.fromkeys(names, TableFile.of(b"")),
        provenance={
            "spec": spec.to_json(),
            "arrays": {key: [list(shape) for shape in shapes] for key, shapes in found.arrays.items()},
            "controllers": {name: list(own) for name, own in found.controllers.items()},
        },
    )  # fmt: skip


def interface_for(spec: Spec, found: Resolution) -> Interface:
    """As a version of such episodes would say it, through JSON."""
    manifest = manifest_for(spec, found)
    interface = interface_of(Manifest.from_json(manifest.to_json()))
    assert interface is not None
    return Interface.from_json(json.loads(json.dumps(interface.to_json())), "test")


def there_and_back(
    spec: Spec, arrays: Arrays, environment: Mapping[str, Any] | None = None, **how: Any
) -> Callable[[str], dict[str, NDArray[Any]]]:
    """The commands, by stream, that the canonical rows of these arrays give; their state is that observed."""
    item = survey_of(arrays, environment=environment)
    found = resolve(spec.mapping, [item])
    assert not found.problems, found.problems
    rows = canonical(found.mapping, found.schema, item.episode, {**arrays, "timestamp": np.arange(N) / 20.0})
    interface = interface_for(spec, found)
    state = ActionSpace(found.schema.state)
    keys = [field.key for field in found.mapping.state.values() if field.key is not None]
    shown = {key: arrays[key] for key in keys}
    assert np.array_equal(observed_state(interface, shown, state), rows.state_ND)

    def commands(stream: str) -> dict[str, NDArray[Any]]:
        space = ActionSpace(found.schema.streams[stream])
        return source_actions(interface, stream, rows.streams[stream], rows.state_ND, space, state, **how)

    return commands
