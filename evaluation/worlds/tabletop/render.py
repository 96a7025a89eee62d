"""A small software renderer: pinhole projection in NumPy, painter's algorithm in Pillow, no GL.

Every piece is convex, so its hidden faces are those that look away, and pieces are drawn from far to near.
Drawn at twice the size and averaged down.
Shape suffixes: P pieces, V vertices, F faces, K corners of one polygon; HWC image; 3 = (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from robot_foundry.evaluation.worlds.tabletop.meshes import SIDES, Model, Pose
from robot_foundry.evaluation.worlds.tabletop.objects import TABLE_HALF, Mark
from robot_foundry.evaluation.worlds.tabletop.physics import Arm, Physics
from robot_foundry.evaluation.worlds.tabletop.variants import Colour, Look, Viewpoint

SUPERSAMPLE = 2
NEAR = 0.02
TABLE_EDGE = 0.03
TABLE_SIDE = TABLE_HALF + 0.02
SHADOW = 0.78
_ANGLES = 2 * np.pi * np.arange(SIDES) / SIDES
_CIRCLE_K2 = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_SQUARE_K2 = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])

Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class View:
    """A camera at one instant. Rows of `axes_33` are right, down, forward; `scale` and `centre` in pixels."""

    eye_3: np.ndarray
    axes_33: np.ndarray
    scale: float
    centre: tuple[float, float]

    def seen(self, points_V3: np.ndarray) -> np.ndarray:
        """Room points (V, 3) in camera coordinates: right, down, forward."""
        return (points_V3 - self.eye_3) @ self.axes_33.T

    def project(self, seen_V3: np.ndarray) -> np.ndarray:
        """Camera coordinates (V, 3), all before the camera, as image points (V, 2)."""
        return seen_V3[:, :2] * (self.scale / seen_V3[:, 2:]) + self.centre

    def outline(self, seen_K3: np.ndarray) -> Outline:
        """The image of a polygon, clipped to what lies before the camera; empty if nothing does."""
        if seen_K3[:, 2].min() < NEAR:
            seen_K3 = _clip(seen_K3)
            if len(seen_K3) < 3:
                return []
        return [(x, y) for x, y in self.project(seen_K3).tolist()]


def _clip(polygon_K3: np.ndarray) -> np.ndarray:
    """The part of a polygon with forward >= NEAR (Sutherland and Hodgman 1974, one plane)."""
    kept = []
    for k in range(len(polygon_K3)):
        a_3, b_3 = polygon_K3[k - 1], polygon_K3[k]
        if (a_3[2] >= NEAR) != (b_3[2] >= NEAR):
            kept.append(a_3 + (b_3 - a_3) * ((NEAR - a_3[2]) / (b_3[2] - a_3[2])))
        if b_3[2] >= NEAR:
            kept.append(b_3)
    return np.array(kept).reshape(-1, 3)


def _lit(colour: Colour, look: Look, cosine: float) -> Colour:
    gain = look.ambient + look.diffuse * max(0.0, cosine)
    r, g, b = (min(255, int(v * gain)) for v in colour)
    return r, g, b


def _mixed(a: Colour, b: Colour) -> Colour:
    r, g, b_ = ((x + y) // 2 for x, y in zip(a, b, strict=True))
    return r, g, b_


class Renderer:
    """Draws one episode. The empty table seen by a fixed camera is drawn once and copied."""

    def __init__(
        self, cameras: Mapping[str, Viewpoint], look: Look, physics: Physics, height: int, width: int
    ) -> None:
        self._cameras = cameras
        self._look = look
        self._model = Model(physics, look)
        self._height, self._width = height, width
        light_3 = np.array(look.light)
        self._light_3 = light_3 / np.linalg.norm(light_3)
        self._axes = {role: camera.axes() for role, camera in cameras.items()}
        self._empty: dict[str, tuple[View, Image.Image, Image.Image]] = {}

    def image(self, role: str, physics: Physics) -> np.ndarray:
        """What the camera of `role` sees in the state `physics`: uint8 (H, W, 3)."""
        arm_name = self._cameras[role].arm
        if arm_name is not None:
            arm = next(arm for arm in physics.arms if arm.name == arm_name)
            view, picture, dark = self._room(role, arm, physics.scene.marks)
        else:
            if role not in self._empty:
                self._empty[role] = self._room(role, None, physics.scene.marks)
            view, picture, dark = self._empty[role]
            picture = picture.copy()
        picture.paste(dark, mask=self._shadows(view, physics, picture.size))
        self._pieces(ImageDraw.Draw(picture), view, self._model.pose(physics), arm_name)
        return np.asarray(picture.reduce(SUPERSAMPLE))

    # -- the table -----------------------------------------------------------------------------------

    def _view(self, role: str, arm: Arm | None) -> View:
        camera, axes_33 = self._cameras[role], self._axes[role]
        eye_3 = np.array(camera.eye)
        if arm is not None:
            eye_3 = arm.position_3 + arm.rotation_33 @ eye_3
            axes_33 = axes_33 @ arm.rotation_33.T
        scale = 0.5 * min(self._height, self._width) * SUPERSAMPLE / math.tan(camera.fov / 2)
        return View(
            eye_3, axes_33, scale, (0.5 * self._width * SUPERSAMPLE, 0.5 * self._height * SUPERSAMPLE)
        )

    def _room(
        self, role: str, arm: Arm | None, marks: tuple[Mark, ...]
    ) -> tuple[View, Image.Image, Image.Image]:
        """The view of a camera, the empty table with its marks in it, and the same in shadow."""
        view = self._view(role, arm)
        size = (self._width * SUPERSAMPLE, self._height * SUPERSAMPLE)
        look, up = self._look, float(self._light_3[2])
        picture = Image.new("RGB", size, _lit(look.floor, look, 0.6))
        draw = ImageDraw.Draw(picture)
        top = _lit(look.table, look, up)
        table_K2 = _SQUARE_K2 * TABLE_SIDE
        _flat(draw, view, table_K2, _lit(look.table, look, 0.1), height=-TABLE_EDGE)
        _flat(draw, view, table_K2, top)
        if look.grid:
            line = (int(top[0] * 0.9), int(top[1] * 0.9), int(top[2] * 0.9))
            for at in (-0.24, -0.12, 0.0, 0.12, 0.24):
                along_K2 = _SQUARE_K2 * (0.0018, TABLE_SIDE) + (at, 0.0)
                _flat(draw, view, along_K2, line)
                _flat(draw, view, along_K2[:, ::-1], line)
        for mark in marks:
            colour = _lit(look.palette[mark.colour], look, up)
            shape_K2 = (_CIRCLE_K2 if mark.shape == "plate" else _SQUARE_K2) * mark.radius
            rim, inside = (
                (colour, _mixed(colour, top)) if mark.shape == "plate" else (_mixed(colour, top), colour)
            )
            _flat(draw, view, shape_K2 + (mark.x, mark.y), rim)
            _flat(draw, view, shape_K2 * 0.78 + (mark.x, mark.y), inside)
        return view, picture, Image.blend(Image.new("RGB", size), picture, SHADOW)

    def _shadows(self, view: View, physics: Physics, size: tuple[int, int]) -> Image.Image:
        """A mask of where solids and fingers keep the light from the table."""
        mask = Image.new("1", size)
        draw = ImageDraw.Draw(mask)
        casters = [*physics.centre_N3, *(finger_3 for arm in physics.arms for finger_3 in arm.fingers())]
        radii = [solid.size for solid in physics.scene.solids] + [0.012] * (2 * len(physics.arms))
        caster_S3 = np.stack(casters)
        centre_S2 = caster_S3[:, :2] - self._light_3[:2] / self._light_3[2] * caster_S3[:, 2:]
        points_SK3 = np.zeros((len(casters), SIDES, 3))
        points_SK3[..., :2] = np.array(radii)[:, None, None] * _CIRCLE_K2 + centre_S2[:, None]
        seen_SK3 = view.seen(points_SK3)
        before_S = (np.abs(centre_S2).max(axis=1) < TABLE_SIDE) & (seen_SK3[..., 2].min(axis=1) > NEAR)
        outlines = view.project(seen_SK3[before_S].reshape(-1, 3)).reshape(-1, 2 * SIDES)
        for outline in outlines.tolist():
            draw.polygon(outline, fill=1)
        return mask

    # -- what stands on it and moves over it ---------------------------------------------------------

    def _pieces(self, draw: ImageDraw.ImageDraw, view: View, pose: Pose, hidden: str | None) -> None:
        """Draw all pieces but the palm and forearm of the arm `hidden`, on which the camera sits."""
        model = self._model
        piece_V = model.piece_of_V
        local_V3 = model.vertices_V3 * pose.scale_P3[piece_V]
        vertices_V3 = (
            np.einsum("vij,vj->vi", pose.rotation_P33[piece_V], local_V3) + pose.position_P3[piece_V]
        )
        normals_F3 = np.einsum("fij,fj->fi", pose.rotation_P33[model.piece_of_F], model.normals_F3)
        seen_V3 = view.seen(vertices_V3)
        facing = (np.einsum("fk,fk->f", normals_F3, view.eye_3 - vertices_V3[model.first_F]) > 0.0).tolist()
        gain_F = self._look.ambient + self._look.diffuse * np.maximum(0.0, normals_F3 @ self._light_3)
        colours = np.minimum(255.0, model.colour_F3 * gain_F[:, None]).astype(int).tolist()
        pixels = view.project(np.maximum(seen_V3, (-np.inf, -np.inf, NEAR))).tolist()
        cut = set(piece_V[seen_V3[:, 2] < NEAR].tolist())
        away_P3 = pose.position_P3 - view.eye_3
        for p in np.argsort(-np.einsum("pk,pk->p", away_P3, away_P3)).tolist():
            if model.meshes[p] is None:
                self._ball(draw, view, pose.position_P3[p], float(pose.scale_P3[p, 0]), model.colours[p])
            elif hidden is None or model.owner[p] != hidden:
                for face, corners in model.faces[p]:
                    if facing[face]:
                        outline = (
                            view.outline(seen_V3[list(corners)])
                            if p in cut
                            else [tuple(pixels[v]) for v in corners]
                        )
                        if outline:
                            draw.polygon(outline, fill=tuple(colours[face]))

    def _ball(
        self, draw: ImageDraw.ImageDraw, view: View, centre_3: np.ndarray, radius: float, colour: Colour
    ) -> None:
        right, down, forward = view.seen(centre_3[None])[0].tolist()
        if forward < NEAR + radius:
            return
        zoom = view.scale / forward
        x, y = right * zoom + view.centre[0], down * zoom + view.centre[1]
        toward_3 = view.axes_33 @ self._light_3
        for part, cosine in ((1.0, 0.0), (0.85, 0.45), (0.6, 0.8), (0.3, 1.1)):
            shift, r = (1.0 - part) * 0.8 * radius * zoom, radius * part * zoom
            cx, cy = x + toward_3[0] * shift, y + toward_3[1] * shift
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=_lit(colour, self._look, cosine))


def _flat(
    draw: ImageDraw.ImageDraw, view: View, shape_K2: np.ndarray, colour: Colour, height: float = 0.0
) -> None:
    points_K3 = np.concatenate([shape_K2, np.full((len(shape_K2), 1), height)], axis=1)
    outline = view.outline(view.seen(points_K3))
    if outline:
        draw.polygon(outline, fill=colour)
