"""Convex meshes of unit size, and everything on and over the table as coloured, placed meshes.

Shape suffixes: V vertices, F faces, 3 = (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.objects import SHAPES
from robot_foundry.evaluation.worlds.tabletop.physics import FINGER_RADIUS, MAX_WIDTH, Arm, Physics
from robot_foundry.evaluation.worlds.tabletop.variants import Colour, Look

SIDES = 12
SHOULDER_HEIGHT = 0.42
SHOULDER_X = -0.42


@dataclass(frozen=True)
class Mesh:
    """A convex solid: vertices (V, 3), faces as vertex indices seen from outside, normals (F, 3)."""

    vertices_V3: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    normals_F3: np.ndarray


@dataclass(frozen=True)
class Piece:
    """One convex thing to draw: a mesh, or a sphere of radius `radius` where `mesh` is None."""

    mesh: Mesh | None
    position_3: np.ndarray
    rotation_33: np.ndarray
    scale_3: tuple[float, float, float]
    colour: Colour
    radius: float = 0.0


def _mesh(vertices: Sequence[Sequence[float]], faces: Sequence[Sequence[int]]) -> Mesh:
    vertices_V3 = np.array(vertices, dtype=np.float64)
    centre_3 = vertices_V3.mean(axis=0)
    normals = []
    for face in faces:
        a_3, b_3, c_3 = (vertices_V3[i] for i in face[:3])
        normal_3 = np.cross(b_3 - a_3, c_3 - a_3)
        normal_3 /= np.linalg.norm(normal_3)
        normals.append(normal_3 if normal_3 @ (a_3 - centre_3) > 0 else -normal_3)
    return Mesh(vertices_V3, tuple(tuple(face) for face in faces), np.stack(normals))


def _ring(z: float, radius: float) -> list[tuple[float, float, float]]:
    angles = [2 * math.pi * k / SIDES for k in range(SIDES)]
    return [(radius * math.cos(a), radius * math.sin(a), z) for a in angles]


def _prism() -> Mesh:
    sides = [(k, (k + 1) % SIDES, SIDES + (k + 1) % SIDES, SIDES + k) for k in range(SIDES)]
    caps = [tuple(range(SIDES)), tuple(range(SIDES, 2 * SIDES))]
    return _mesh(_ring(-1.0, 1.0) + _ring(1.0, 1.0), sides + caps)


def _cone() -> Mesh:
    sides = [(k, (k + 1) % SIDES, SIDES) for k in range(SIDES)]
    return _mesh([*_ring(-1.2, 1.1), (0.0, 0.0, 1.2)], [*sides, tuple(range(SIDES))])


BOX = _mesh(
    [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)],
    [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)],
)
PRISM = _prism()
CONE = _cone()


def solid_pieces(physics: Physics, look: Look) -> list[Piece]:
    """The objects, one piece each."""
    pieces = []
    for i, solid in enumerate(physics.scene.solids):
        size, colour = solid.size, look.palette[solid.colour]
        tall = SHAPES[solid.shape].height * size
        mesh, scale = {
            "cube": (BOX, (size, size, size)),
            "can": (PRISM, (size, size, tall)),
            "cone": (CONE, (size, size, size)),
            "ball": (None, (size, size, size)),
        }[solid.shape]
        pieces.append(
            Piece(mesh, physics.centre_N3[i].copy(), physics.rotation_N33[i].copy(), scale, colour, size)
        )
    return pieces


def _shaded(colour: Colour, gain: float) -> Colour:
    r, g, b = (min(255, int(v * gain)) for v in colour)
    return r, g, b


def finger_pieces(arm: Arm, look: Look) -> list[Piece]:
    """The two fingers of an arm: light tips, so that their place and opening can be seen."""
    rotation_33 = arm.rotation_33
    pieces = []
    for finger_3 in arm.fingers():
        middle_3 = finger_3 - rotation_33[:, 2] * 0.028
        pieces.append(
            Piece(BOX, middle_3, rotation_33, (FINGER_RADIUS * 0.8, 0.010, 0.034), _shaded(look.arm, 1.5))
        )
    return pieces


def body_pieces(arm: Arm, look: Look) -> list[Piece]:
    """Palm and forearm of an arm. The forearm ends at a fixed shoulder behind the table."""
    rotation_33, tip_3 = arm.rotation_33, arm.position_3
    palm_3 = tip_3 - rotation_33[:, 2] * 0.072
    pieces = [Piece(BOX, palm_3, rotation_33, (MAX_WIDTH * 0.5, 0.016, 0.011), look.arm)]
    wrist_3 = tip_3 - rotation_33[:, 2] * 0.085
    side = {"right": -0.14, "left": 0.14}[arm.name]
    shoulder_3 = np.array([SHOULDER_X, side, SHOULDER_HEIGHT])
    along_3 = shoulder_3 - wrist_3
    length = float(np.linalg.norm(along_3))
    axis_3 = along_3 / length
    across_3 = np.cross(axis_3, [0.0, 0.0, 1.0])
    across_3 = across_3 / max(1e-9, float(np.linalg.norm(across_3)))
    frame_33 = np.stack([across_3, np.cross(axis_3, across_3), axis_3], axis=1)
    parts = 3
    for k in range(parts):
        middle_3 = wrist_3 + along_3 * ((k + 0.5) / parts)
        pieces.append(
            Piece(BOX, middle_3, frame_33, (0.016, 0.016, length / parts / 2), _shaded(look.arm, 0.8))
        )
    return pieces
