"""A small software renderer: pinhole projection in NumPy, painter's algorithm in Pillow, no GL.

Everything is convex, so hidden faces are those that look away and pieces are drawn from far to near.
Drawn at twice the size and averaged down. Shape suffixes: V vertices, F faces, HWC image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from robot_foundry.evaluation.worlds.tabletop.meshes import (
    SIDES,
    Piece,
    body_pieces,
    finger_pieces,
    solid_pieces,
)
from robot_foundry.evaluation.worlds.tabletop.objects import TABLE_HALF, Scene
from robot_foundry.evaluation.worlds.tabletop.physics import Arm, Physics
from robot_foundry.evaluation.worlds.tabletop.variants import Camera, Colour, Look

SUPERSAMPLE = 2
NEAR = 0.02
TABLE_EDGE = 0.03
_CIRCLE = [(math.cos(2 * math.pi * k / SIDES), math.sin(2 * math.pi * k / SIDES)) for k in range(SIDES)]
_SQUARE = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]


class View:
    """One camera at one instant, projecting points of the room onto the (supersampled) image plane."""

    def __init__(self, camera: Camera, arms: list[Arm], height: int, width: int) -> None:
        self.eye_3, self.axes_33 = camera.placed(arms)
        self.scale = 0.5 * min(height, width) * SUPERSAMPLE / math.tan(camera.fov / 2)
        self.centre = (0.5 * width * SUPERSAMPLE, 0.5 * height * SUPERSAMPLE)

    def seen(self, points_V3: np.ndarray) -> np.ndarray:
        """Room points (V, 3) in camera coordinates: right, down, forward."""
        return (points_V3 - self.eye_3) @ self.axes_33.T

    def pixels(self, seen_V3: np.ndarray) -> list[tuple[float, float]]:
        """Image points of a polygon in camera coordinates, clipped to what lies before the camera."""
        if seen_V3[:, 2].min() < NEAR:
            seen_V3 = _clip(seen_V3)
            if len(seen_V3) < 3:
                return []
        flat_V2 = seen_V3[:, :2] * (self.scale / seen_V3[:, 2:]) + self.centre
        return [(x, y) for x, y in flat_V2.tolist()]


def _clip(polygon_V3: np.ndarray) -> np.ndarray:
    """The part of a polygon with forward >= NEAR (Sutherland and Hodgman 1974, one plane)."""
    kept = []
    for k in range(len(polygon_V3)):
        a_3, b_3 = polygon_V3[k - 1], polygon_V3[k]
        if (a_3[2] >= NEAR) != (b_3[2] >= NEAR):
            kept.append(a_3 + (b_3 - a_3) * ((NEAR - a_3[2]) / (b_3[2] - a_3[2])))
        if b_3[2] >= NEAR:
            kept.append(b_3)
    return np.array(kept).reshape(-1, 3)


class Renderer:
    """Draws one episode's table. Empty rooms seen by fixed cameras are drawn once and reused."""

    def __init__(
        self, cameras: Mapping[str, Camera], look: Look, scene: Scene, height: int, width: int
    ) -> None:
        self._cameras = cameras
        self._look = look
        self._scene = scene
        self._height, self._width = height, width
        light_3 = np.array(look.light)
        self._light_3 = light_3 / np.linalg.norm(light_3)
        self._rooms: dict[str, Image.Image] = {}

    def image(self, role: str, physics: Physics) -> np.ndarray:
        """What the camera of `role` sees: uint8 (H, W, 3)."""
        camera = self._cameras[role]
        view = View(camera, physics.arms, self._height, self._width)
        if camera.arm is None:
            if role not in self._rooms:
                self._rooms[role] = self._room(view)
            picture = self._rooms[role].copy()
        else:
            picture = self._room(view)
        draw = ImageDraw.Draw(picture)
        pieces = solid_pieces(physics, self._look)
        for arm in physics.arms:
            pieces += finger_pieces(arm, self._look)
            if camera.arm != arm.name:
                pieces += body_pieces(arm, self._look)
        self._shadows(draw, view, physics)
        self._marks(draw, view)
        self._pieces(draw, view, pieces)
        return np.asarray(picture.reduce(SUPERSAMPLE))

    def _lit(self, colour: Colour, cosine: float) -> Colour:
        gain = self._look.ambient + self._look.diffuse * max(0.0, cosine)
        r, g, b = (min(255, int(v * gain)) for v in colour)
        return r, g, b

    def _flat(
        self, draw: ImageDraw.ImageDraw, view: View, outline: list[tuple[float, float]], colour: Colour
    ) -> None:
        points_V3 = np.array([(x, y, 0.0) for x, y in outline])
        pixels = view.pixels(view.seen(points_V3))
        if pixels:
            draw.polygon(pixels, fill=colour)

    def _room(self, view: View) -> Image.Image:
        size = (self._width * SUPERSAMPLE, self._height * SUPERSAMPLE)
        picture = Image.new("RGB", size, self._lit(self._look.floor, 0.6))
        draw = ImageDraw.Draw(picture)
        top = self._lit(self._look.table, float(self._light_3[2]))
        edge = self._lit(self._look.table, 0.1)
        half = TABLE_HALF + 0.02
        corners = [(x * half, y * half) for x, y in _SQUARE]
        low_V3 = np.array([(x, y, -TABLE_EDGE) for x, y in corners])
        pixels = view.pixels(view.seen(low_V3))
        if pixels:
            draw.polygon(pixels, fill=edge)
        self._flat(draw, view, corners, top)
        if self._look.grid:
            line = (int(top[0] * 0.9), int(top[1] * 0.9), int(top[2] * 0.9))
            for k in range(-2, 3):
                at, thin = k * 0.12, 0.0018
                self._flat(
                    draw,
                    view,
                    [(at - thin, -half), (at + thin, -half), (at + thin, half), (at - thin, half)],
                    line,
                )
                self._flat(
                    draw,
                    view,
                    [(-half, at - thin), (-half, at + thin), (half, at + thin), (half, at - thin)],
                    line,
                )
        return picture

    def _shadows(self, draw: ImageDraw.ImageDraw, view: View, physics: Physics) -> None:
        dark = self._lit(self._look.table, float(self._light_3[2]))
        dark = (int(dark[0] * 0.78), int(dark[1] * 0.78), int(dark[2] * 0.78))
        slope_2 = self._light_3[:2] / self._light_3[2]
        casters = [(physics.centre_N3[i], physics.scene.solids[i].size) for i in range(len(physics.radius))]
        casters += [(finger, 0.012) for arm in physics.arms for finger in arm.fingers()]
        limit = TABLE_HALF + 0.02
        for point_3, radius in casters:
            x, y = point_3[:2] - slope_2 * point_3[2]
            if abs(x) < limit and abs(y) < limit:
                self._flat(draw, view, [(x + radius * c, y + radius * s) for c, s in _CIRCLE], dark)

    def _marks(self, draw: ImageDraw.ImageDraw, view: View) -> None:
        up = float(self._light_3[2])
        for mark in self._scene.marks:
            colour = self._lit(self._look.palette[mark.colour], up)
            pale = tuple(
                int(0.5 * c + 0.5 * t) for c, t in zip(colour, self._lit(self._look.table, up), strict=True)
            )
            outline = _CIRCLE if mark.shape == "plate" else _SQUARE
            inner = (0.72, colour) if mark.shape == "zone" else (0.80, pale)
            outer_colour = pale if mark.shape == "zone" else colour
            for part, shade in ((1.0, outer_colour), inner):
                ring = [
                    (mark.x + part * mark.radius * a, mark.y + part * mark.radius * b) for a, b in outline
                ]
                self._flat(draw, view, ring, (shade[0], shade[1], shade[2]))

    def _pieces(self, draw: ImageDraw.ImageDraw, view: View, pieces: list[Piece]) -> None:
        middles_N3 = np.stack([piece.position_3 for piece in pieces])
        away_N = np.linalg.norm(middles_N3 - view.eye_3, axis=1)
        for k in np.argsort(-away_N).tolist():
            piece = pieces[k]
            if piece.mesh is None:
                self._sphere(draw, view, piece)
            else:
                self._mesh(draw, view, piece)

    def _mesh(self, draw: ImageDraw.ImageDraw, view: View, piece: Piece) -> None:
        mesh = piece.mesh
        assert mesh is not None
        vertices_V3 = (mesh.vertices_V3 * piece.scale_3) @ piece.rotation_33.T + piece.position_3
        normals_F3 = mesh.normals_F3 @ piece.rotation_33.T
        seen_V3 = view.seen(vertices_V3)
        cosines = (normals_F3 @ self._light_3).tolist()
        first_F3 = vertices_V3[[face[0] for face in mesh.faces]]
        facing = (np.einsum("fk,fk->f", normals_F3, view.eye_3 - first_F3) > 0.0).tolist()
        whole = float(seen_V3[:, 2].min()) >= NEAR
        pixels = view.pixels(seen_V3) if whole else []
        for face, normal_cosine, visible in zip(mesh.faces, cosines, facing, strict=True):
            if not visible:
                continue
            outline = [pixels[i] for i in face] if whole else view.pixels(seen_V3[list(face)])
            if outline:
                draw.polygon(outline, fill=self._lit(piece.colour, normal_cosine))

    def _sphere(self, draw: ImageDraw.ImageDraw, view: View, piece: Piece) -> None:
        right, down, forward = view.seen(piece.position_3[None])[0].tolist()
        if forward < NEAR + piece.radius:
            return
        x, y = right * view.scale / forward + view.centre[0], down * view.scale / forward + view.centre[1]
        radius = piece.radius * view.scale / forward
        toward_3 = view.axes_33 @ self._light_3
        for part, cosine in ((1.0, 0.0), (0.85, 0.45), (0.6, 0.8), (0.3, 1.1)):
            shift = (1.0 - part) * 0.8 * radius
            cx, cy, r = x + toward_3[0] * shift, y + toward_3[1] * shift, radius * part
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=self._lit(piece.colour, cosine))
