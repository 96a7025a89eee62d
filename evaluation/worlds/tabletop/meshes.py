"""Everything on and over the table as convex, coloured meshes, placed by the state of the world.

Shape suffixes: P pieces, V vertices of all pieces, F faces of all pieces, 3 = (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.objects import Solid
from robot_foundry.evaluation.worlds.tabletop.physics import FINGER_RADIUS, MAX_WIDTH, Arm, Physics
from robot_foundry.evaluation.worlds.tabletop.variants import Colour, Look

SIDES = 12
SHOULDER_HEIGHT = 0.42
SHOULDER_X = -0.42
SHOULDER_Y = MappingProxyType({"right": -0.14, "left": 0.14})
FOREARM_PARTS = 3


@dataclass(frozen=True)
class Mesh:
    """A convex solid: vertices (V, 3), faces as vertex indices seen from outside, normals (F, 3)."""

    vertices_V3: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    normals_F3: np.ndarray


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
    sides: list[tuple[int, ...]] = [
        (k, (k + 1) % SIDES, SIDES + (k + 1) % SIDES, SIDES + k) for k in range(SIDES)
    ]
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


@dataclass(frozen=True)
class Pose:
    """Where every piece is at one instant: position (P, 3), rotation (P, 3, 3), scale (P, 3)."""

    position_P3: np.ndarray
    rotation_P33: np.ndarray
    scale_P3: np.ndarray


class Model:
    """The pieces of one episode: solids first, then of every arm two fingers, a palm and a forearm.

    `mesh[p]` is None for a ball. Vertices and normals are in unit size and each piece's own frame;
    `faces[p]` indexes into all vertices, `first_F` is a vertex of each face.
    """

    def __init__(self, physics: Physics, look: Look) -> None:
        solids = physics.scene.solids
        self.meshes: list[Mesh | None] = [_SOLIDS[solid.shape] for solid in solids]
        self.colours: list[Colour] = [look.palette[solid.colour] for solid in solids]
        self.owner: list[str | None] = [None] * len(solids)
        for arm in physics.arms:
            self.meshes += [BOX] * (3 + FOREARM_PARTS)
            self.colours += (
                [_brighter(look.arm, 1.5)] * 2 + [look.arm] + [_brighter(look.arm, 0.8)] * FOREARM_PARTS
            )
            self.owner += [None] * 2 + [arm.name] * (1 + FOREARM_PARTS)
        self._solid_scale_N3 = np.array([_solid_scale(solid) for solid in solids])
        self._concatenate()

    def _concatenate(self) -> None:
        drawn = [(p, mesh) for p, mesh in enumerate(self.meshes) if mesh is not None]
        none_3 = np.empty((0, 3))  # without an arm, all may be balls
        self.vertices_V3 = np.concatenate([none_3, *(mesh.vertices_V3 for _, mesh in drawn)])
        self.normals_F3 = np.concatenate([none_3, *(mesh.normals_F3 for _, mesh in drawn)])
        pieces = np.array([p for p, _ in drawn], dtype=np.int64)
        self.piece_of_V = np.repeat(pieces, [len(mesh.vertices_V3) for _, mesh in drawn])
        self.piece_of_F = np.repeat(pieces, [len(mesh.faces) for _, mesh in drawn])
        self.faces: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in self.meshes]
        vertex = face = 0
        first = []
        for p, mesh in drawn:
            for indices in mesh.faces:
                self.faces[p].append((face, tuple(vertex + i for i in indices)))
                first.append(vertex + indices[0])
                face += 1
            vertex += len(mesh.vertices_V3)
        self.first_F = np.array(first, dtype=np.int64)
        self.colour_F3 = np.array([self.colours[p] for p in self.piece_of_F], dtype=np.float64).reshape(-1, 3)

    def pose(self, physics: Physics) -> Pose:
        """Where every piece is in the state `physics`."""
        solids = len(physics.scene.solids)
        count = len(self.meshes)
        position_P3, rotation_P33, scale_P3 = (
            np.empty((count, 3)),
            np.empty((count, 3, 3)),
            np.empty((count, 3)),
        )
        position_P3[:solids] = physics.centre_N3
        rotation_P33[:solids] = physics.rotation_N33
        scale_P3[:solids] = self._solid_scale_N3
        start = solids
        for arm in physics.arms:
            part = slice(start, start + 3 + FOREARM_PARTS)
            _place_arm(arm, position_P3[part], rotation_P33[part], scale_P3[part])
            start = part.stop
        return Pose(position_P3, rotation_P33, scale_P3)


_SOLIDS: dict[str, Mesh | None] = {"cube": BOX, "can": PRISM, "cone": CONE, "ball": None}


def _solid_scale(solid: Solid) -> tuple[float, float, float]:
    # The cone's mesh has its slope built in, for its normals; the others are stretched to their height.
    return solid.size, solid.size, solid.size if solid.shape == "cone" else solid.half_height


def _brighter(colour: Colour, gain: float) -> Colour:
    r, g, b = (min(255, int(v * gain)) for v in colour)
    return r, g, b


def _place_arm(arm: Arm, position_P3: np.ndarray, rotation_P33: np.ndarray, scale_P3: np.ndarray) -> None:
    """Fill in the pieces of one arm. The forearm ends at a fixed shoulder behind the table."""
    tip_3, rotation_33 = arm.position_3, arm.rotation_33
    back_3 = -rotation_33[:, 2]
    rotation_P33[:3] = rotation_33
    finger_a_3, finger_b_3 = arm.fingers()
    position_P3[0], position_P3[1] = finger_a_3 + back_3 * 0.028, finger_b_3 + back_3 * 0.028
    scale_P3[:2] = (FINGER_RADIUS * 0.8, 0.010, 0.034)
    position_P3[2] = tip_3 + back_3 * 0.076
    scale_P3[2] = (MAX_WIDTH * 0.42, 0.013, 0.010)
    wrist_3 = tip_3 + back_3 * 0.082
    along_3 = np.array([SHOULDER_X, SHOULDER_Y[arm.name], SHOULDER_HEIGHT]) - wrist_3
    length = math.sqrt(float(along_3 @ along_3))
    ax, ay, az = (along_3 / length).tolist()
    level = math.hypot(ax, ay)
    cx, cy = (ay / level, -ax / level) if level > 1e-9 else (1.0, 0.0)
    rotation_P33[3:] = [[cx, -az * cy, ax], [cy, az * cx, ay], [0.0, ax * cy - ay * cx, az]]
    fractions = (np.arange(FOREARM_PARTS) + 0.5) / FOREARM_PARTS
    position_P3[3:] = wrist_3 + along_3 * fractions[:, None]
    scale_P3[3:] = (0.016, 0.016, length / FOREARM_PARTS / 2)
