"""Two looks of one table: `sim` and `real`, which differs in all that a real cell differs in.

Camera poses, field of view, light, colours, image and state noise, camera latency, and the arm itself:
`sim` commands a full pose and the gripper (7 numbers an arm), `real` a position and the gripper (4 numbers),
because its wrist cannot turn. Metres, radians, table frame; colours are 8-bit RGB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from robot_foundry.runtime.errors import UsageError, nearest

Colour = tuple[int, int, int]
ROLES = ("primary", "secondary", "wrist_right", "wrist_left")


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole camera fixed to the room (`arm` None) or to an arm's tool frame.

    `eye` and `look_at` are points (x, y, z) and `up` a direction, all in the frame it is fixed to;
    `fov` is the full vertical and horizontal field of view in radians.
    """

    eye: tuple[float, float, float]
    look_at: tuple[float, float, float]
    up: tuple[float, float, float]
    fov: float
    arm: str | None = None

    def axes(self) -> np.ndarray:
        """Rows: the camera's right, down and forward in the frame it is fixed to, (3, 3)."""
        forward_3 = np.array(self.look_at) - self.eye
        forward_3 /= np.linalg.norm(forward_3)
        right_3 = np.cross(forward_3, self.up)
        right_3 /= np.linalg.norm(right_3)
        return np.stack([right_3, np.cross(forward_3, right_3), forward_3])


@dataclass(frozen=True)
class Look:
    """How a scene is lit and coloured. `light` points from the table to the lamp; `grid` draws a mat."""

    palette: Mapping[str, Colour]
    table: Colour
    floor: Colour
    arm: Colour
    light: tuple[float, float, float]
    ambient: float
    diffuse: float
    grid: bool


@dataclass(frozen=True)
class Variant:
    """A world's appearance and embodiment. Noise: grey levels (image), metres (state); latency in steps."""

    name: str
    embodiment: str
    rotates: bool
    cameras: Mapping[str, Viewpoint]
    look: Look
    image_noise: float
    state_noise: float
    camera_latency: int
    light_jitter: float
    camera_jitter: float

    def drawn(self, rng: np.random.Generator) -> tuple[Mapping[str, Viewpoint], Look]:
        """Cameras and look of one episode: the lamp's strength and the fixed cameras vary a little."""
        gain = 1.0 + self.light_jitter * float(rng.uniform(-1.0, 1.0))
        look = replace(self.look, ambient=self.look.ambient * gain, diffuse=self.look.diffuse * gain)
        cameras = {}
        for role in ROLES:
            camera = self.cameras[role]
            shift = rng.uniform(-self.camera_jitter, self.camera_jitter, 3)
            if camera.arm is None and self.camera_jitter > 0.0:
                x, y, z = (float(a + b) for a, b in zip(camera.eye, shift, strict=True))
                camera = replace(camera, eye=(x, y, z))
            cameras[role] = camera
        return cameras, look


def _wrist(arm: str, fov: float, back: float) -> Viewpoint:
    # Behind the fingers on their open side, looking between the fingertips; the tool's y points forward.
    return Viewpoint((0.0, -0.065, -back), (0.0, 0.0, 0.03), (0.0, 1.0, 0.0), fov, arm)


_SIM = Variant(
    name="sim",
    embodiment="tabletop_sim",
    rotates=True,
    cameras=MappingProxyType(
        {
            "primary": Viewpoint((0.47, 0.0, 0.68), (0.03, 0.0, 0.0), (-1.0, 0.0, 0.0), math.radians(42)),
            "secondary": Viewpoint((0.16, 0.62, 0.50), (0.0, 0.0, 0.03), (0.0, 0.0, 1.0), math.radians(50)),
            "wrist_right": _wrist("right", math.radians(80), 0.13),
            "wrist_left": _wrist("left", math.radians(80), 0.13),
        }
    ),
    look=Look(
        palette=MappingProxyType(
            {
                "red": (222, 40, 40),
                "green": (38, 166, 60),
                "blue": (36, 84, 226),
                "yellow": (246, 206, 20),
                "purple": (146, 46, 182),
                "cyan": (26, 200, 210),
            }
        ),
        table=(198, 201, 205),
        floor=(96, 100, 108),
        arm=(60, 62, 66),
        light=(0.25, 0.35, 1.0),
        ambient=0.62,
        diffuse=0.46,
        grid=True,
    ),
    image_noise=0.0,
    state_noise=0.0,
    camera_latency=0,
    light_jitter=0.05,
    camera_jitter=0.0,
)

_REAL = Variant(
    name="real",
    embodiment="tabletop_real",
    rotates=False,
    cameras=MappingProxyType(
        {
            "primary": Viewpoint((0.46, -0.10, 0.66), (0.03, -0.01, 0.0), (-1.0, 0.0, 0.0), math.radians(48)),
            "secondary": Viewpoint((0.05, -0.66, 0.46), (0.0, 0.0, 0.03), (0.0, 0.0, 1.0), math.radians(54)),
            "wrist_right": _wrist("right", math.radians(70), 0.15),
            "wrist_left": _wrist("left", math.radians(70), 0.15),
        }
    ),
    look=Look(
        palette=MappingProxyType(
            {
                "red": (178, 46, 52),
                "green": (64, 134, 74),
                "blue": (50, 76, 156),
                "yellow": (214, 170, 54),
                "purple": (112, 62, 130),
                "cyan": (72, 164, 172),
            }
        ),
        table=(176, 140, 104),
        floor=(54, 56, 58),
        arm=(206, 208, 212),
        light=(-0.5, -0.3, 0.8),
        ambient=0.52,
        diffuse=0.5,
        grid=False,
    ),
    image_noise=6.0,
    state_noise=0.001,
    camera_latency=1,
    light_jitter=0.15,
    camera_jitter=0.012,
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in (_SIM, _REAL)})


def get_variant(name: str) -> Variant:
    """The variant called `name`; UsageError with the nearest name otherwise."""
    if name not in VARIANTS:
        raise UsageError(
            f"the tabletop has no variant {name!r}{nearest(name, VARIANTS)}",
            hint=f"variants: {', '.join(VARIANTS)}",
        )
    return VARIANTS[name]
