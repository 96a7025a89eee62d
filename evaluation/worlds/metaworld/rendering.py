"""Pictures of a MuJoCo scene: one OpenGL context a process, and one set of meshes and textures a model.

Every world of a task is drawn with the same meshes, so eight worlds cost little more than one.
Shape suffixes: HW3 picture.
"""

from __future__ import annotations

import atexit
import copy
import os
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from robot_foundry.evaluation.worlds.metaworld.packages import COMPILED, compiled, mujoco
from robot_foundry.evaluation.worlds.metaworld.views import View
from robot_foundry.runtime.errors import FoundryError

DISPLAYLESS = ("egl", "osmesa")
BUFFER = 128  # pixels a side of the first frame buffer; it grows to the largest picture asked for
MOST_GEOMS = 1000


class Canvas:
    """What draws the scenes of one compiled model, with its shadows and reflections or without."""

    def __init__(self, path: str, shadows: bool) -> None:
        lib = mujoco()
        _opengl().make_current()
        model = copy.copy(compiled(path))
        self._side = BUFFER
        model.vis.global_.offwidth = model.vis.global_.offheight = BUFFER
        if not shadows:
            model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        self._model = model
        self._context = lib.MjrContext(model, lib.mjtFontScale.mjFONTSCALE_100.value)
        self._scene = lib.MjvScene(model, MOST_GEOMS)
        if not shadows:
            for flag in (lib.mjtRndFlag.mjRND_SHADOW, lib.mjtRndFlag.mjRND_REFLECTION):
                self._scene.flags[flag] = 0
        self._options = lib.MjvOption()

    def draw(self, model: Any, data: Any, view: View, size: int) -> np.ndarray:
        """uint8 (size, size, 3). A camera that hangs upside down is turned, so that up is up."""
        lib = mujoco()
        _opengl().make_current()
        # Of several canvases in one OpenGL context, each draws into its own frame buffer.
        lib.mjr_setBuffer(lib.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        if size > self._side:
            lib.mjr_resizeOffscreen(size, size, self._context)
            self._side = size
        camera = lib.MjvCamera()
        camera.type = lib.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = number = model.camera(view.camera).id
        model.cam_fovy[number] = self._model.cam_fovy[number] if view.fovy is None else view.fovy
        everything = lib.mjtCatBit.mjCAT_ALL
        lib.mjv_updateScene(model, data, self._options, None, camera, everything, self._scene)
        rectangle = lib.MjrRect(0, 0, size, size)
        lib.mjr_render(rectangle, self._scene, self._context)
        picture_HW3 = np.empty((size, size, 3), np.uint8)
        lib.mjr_readPixels(picture_HW3, None, rectangle, self._context)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(picture_HW3[:, ::-1] if hangs(data, number) else picture_HW3[::-1])


def hangs(data: Any, camera: int) -> bool:
    """Whether a camera's own up points down."""
    return bool(data.cam_xmat[camera, 7] < 0.0)


@lru_cache(maxsize=COMPILED)
def canvas(path: str, shadows: bool) -> Canvas:
    """The one canvas of a process for the model of an XML file."""
    return Canvas(path, shadows)


@lru_cache(maxsize=1)
def _opengl() -> Any:
    mujoco()
    # MuJoCo itself chose when it was imported, which others may have done before MUJOCO_GL said anything.
    backend = os.environ["MUJOCO_GL"].lower().strip()
    try:
        made_by = import_module(f"mujoco.{backend if backend in DISPLAYLESS else 'gl_context'}")
        context = made_by.GLContext(BUFFER, BUFFER)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise FoundryError(
            f"MuJoCo cannot render here: {error}",
            hint="MUJOCO_GL=egl and MUJOCO_GL=osmesa render without a display, each needs its library",
        ) from error
    # Before the library's own hook, after which nothing of OpenGL can be freed in silence.
    atexit.register(_close, context)
    return context


def _close(context: Any) -> None:
    canvas.cache_clear()
    _opengl.cache_clear()
    context.free()
