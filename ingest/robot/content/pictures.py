"""How the images of an episode go into its tar: as the source holds them, or changed as the spec says.

An encoded image of the source is stored byte for byte unless the spec changes its pixels; anything else is
encoded once. A frame without an image of its own repeats the camera's last one, for `MOST_HELD` frames in a
row at most, and episode.json says so; after them, and before the first image, there is none.

Legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import ALL_CAMERAS, Content
from robot_foundry.ingest.sources.base import Data, Refused
from robot_foundry.ingest.sources.robot.source_episode import (
    Encoded,
    EpisodeLayout,
    Picture,
    Planar,
    SourceCamera,
    SourceEpisode,
)
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards import images
from robot_foundry.shards.errors import CorruptImage

# Bit depth and colour type in the header of a PNG.
GRAY_16 = b"\x10\x00"
# A camera that drops a frame or two shows what a robot would see then: its last image.
MOST_HELD = 2
# Models see about this many pixels a side; several times as many cost storage and decoding.
TRAINING_SIDE = 224
FAR_LARGER = 4
ADVISED_SIDE = 256


def codecs(content: Content, reader: EpisodeLayout) -> dict[str, str]:
    """Versions of what decides the bytes of re-encoded images."""
    if not reader.declared.has_images:
        return {}
    versions = {**images.codec_versions(), **reader.codecs(content)}
    if content.resize is not None:
        import PIL

        versions["pillow"] = PIL.__version__
    return versions


def advice(cameras: Mapping[str, tuple[int, int]]) -> str | None:
    """A hint to resize if some of these images (height, width) are far larger than training needs."""
    large = {name: size for name, size in cameras.items() if max(size) > FAR_LARGER * TRAINING_SIDE}
    if not large:
        return None
    name, (height, width) = max(large.items(), key=lambda item: item[1][0] * item[1][1])
    scale = ADVISED_SIDE / min(height, width)
    smaller = [2 * max(1, round(side * scale / 2)) for side in (height, width)]
    ratio = height * width / (smaller[0] * smaller[1])
    return (
        f"images of camera '{name}' are {height} x {width} and models see about {TRAINING_SIDE} a side: "
        f"--set 'content.resize={smaller}' stores {ratio:.0f} times fewer pixels"
    )


@dataclass
class _View:
    """What is done to the images of one camera, and what was found while doing it."""

    camera: SourceCamera
    name: str  # as stored
    place: int  # among the episode's cameras
    flip: str
    is_bgr: bool
    size: tuple[int, int] | None = None  # of its first image, as it is in the source
    shown: tuple[int, int] | None = None  # of the last one
    encoding: str | None = None
    last: NDArray[np.uint8] | Planar | Encoded | None = None
    missing: int = 0  # frames in a row, up to now
    held: list[int] = field(default_factory=list)


class Pictures:
    """The images of one episode, on one pass from its first frame to its last.

    Refused if an option of the spec names a camera that the episode does not have, or two get one name; and
    while frames are read, for an image that is damaged or not of the size of those before.
    """

    def __init__(self, episode: SourceEpisode, content: Content) -> None:
        self._content = content
        _check_names(episode.cameras, content)
        views = [_view(camera, place, content) for place, camera in enumerate(episode.cameras)]
        self._views = sorted(views, key=lambda view: view.name)  # the order of names in a tar

    def of_frame(self, frame: int, pictures: Sequence[Picture]) -> list[tuple[str, str, Data]]:
        """Stored camera name, suffix and bytes of each image of the frame, sorted by name."""
        stored = []
        for view in self._views:
            picture = self._shown(view, frame, pictures[view.place])
            if picture is not None:
                data, encoding = self._stored(view, picture)
                view.encoding = view.encoding or images.FORMATS[encoding]
                stored.append((view.name, encoding, data))
        return stored

    def pass_over(self, frame: int, pictures: Sequence[Picture]) -> None:
        """Take note of a frame that is stored already."""
        for view in self._views:
            picture = self._shown(view, frame, pictures[view.place])
            if picture is not None:
                is_png = isinstance(picture, Encoded) and picture.format == "png" and not self._changes(view)
                view.encoding = view.encoding or ("png" if is_png else "jpeg")

    def cameras_json(self) -> dict[str, Any]:
        """What episode.json says of the cameras, by stored name; complete after the last frame."""
        return {view.name: self._camera_json(view) for view in self._views}

    def _camera_json(self, view: _View) -> dict[str, Any]:
        source_size = view.size or (view.camera.height, view.camera.width)
        height, width = self._content.resize or source_size
        camera_json: dict[str, Any] = {
            "array": view.camera.array,
            "height": height,
            "width": width,
            "encoding": view.encoding or self._content.encoding.format,
        }
        if view.name != view.camera.name:
            camera_json["source_name"] = view.camera.name
        if view.flip != "none":
            camera_json["flip"] = view.flip
        if view.camera.pixels is not None:
            camera_json["pixels"] = view.camera.pixels
        return {**camera_json, "held": view.held} if view.held else camera_json

    def _shown(
        self, view: _View, frame: int, picture: Picture
    ) -> NDArray[np.uint8] | Planar | Encoded | None:
        """The image that the camera shows at the frame, its own, which is checked, or a held one."""
        if picture is not None:
            self._check_size(view, picture, frame)
            view.last, view.missing = picture, 0
            return picture
        view.missing += 1
        if view.last is None or view.missing > MOST_HELD:
            return None
        view.held.append(frame)
        return view.last

    def _check_size(self, view: _View, picture: NDArray[np.uint8] | Planar | Encoded, frame: int) -> None:
        if isinstance(picture, Encoded):
            size = _encoded_size(picture, view.camera, frame)
        elif isinstance(picture, Planar):
            size = picture.size
        else:
            size = picture.shape[:2]
        view.size, view.shown = view.size or size, size
        if size != view.size and self._content.resize is None:
            was, now = (" x ".join(map(str, pair)) for pair in (view.size, size))
            where = _place(view.camera, frame)
            raise Refused(
                f"its image of {where} is {now}, and those before are {was}: "
                f"--set 'content.resize={list(view.size)}' stores all so"
            )

    def _changes(self, view: _View) -> bool:
        """Whether the spec asks for other pixels than the last image has."""
        return view.flip != "none" or view.is_bgr or self._content.resize not in (None, view.shown)

    def _stored(self, view: _View, picture: NDArray[np.uint8] | Planar | Encoded) -> tuple[Data, str]:
        """The image as it goes into the tar, and the suffix of its name."""
        if isinstance(picture, Planar):
            assert not self._changes(view)  # `Content.changes_pixels` is false where readers give planes
            return images.encode_jpeg_planes(picture.planes, self._content.encoding.quality), "jpg"
        if isinstance(picture, Encoded):
            if not self._changes(view):
                return picture.data, "png" if picture.format == "png" else "jpg"
            try:
                picture = images.decode(bytes(picture.data))
            except CorruptImage as error:
                raise Refused(
                    f"an image of its camera '{view.camera.name}' is damaged: {error.message}"
                ) from error
        pixels_HWC = resized(turned(picture, view.flip, view.is_bgr), self._content.resize)
        return images.encode_jpeg(pixels_HWC, self._content.encoding.quality), "jpg"


def _place(camera: SourceCamera, frame: int) -> str:
    return f"camera '{camera.name}' at frame {frame}"


def _encoded_size(picture: Encoded, camera: SourceCamera, frame: int) -> tuple[int, int]:
    """Height and width by the header. Refused if it is not of an image of colours in that format."""
    if picture.size is not None and picture.format == "jpeg":
        return picture.size
    where = _place(camera, frame)
    try:
        encoding, height, width = images.probe(picture.data)
    except CorruptImage as error:
        raise Refused(f"its image of {where} is damaged: {error.message}") from error
    if images.FORMATS[encoding] != picture.format:
        raise Refused(f"its image of {where} is {images.FORMATS[encoding]}, not {picture.format}")
    if encoding == "png" and picture.data[24:26] == GRAY_16:
        raise Refused(f"its image of {where} is 16-bit gray, such as depth, and has no colours")
    return height, width


def _check_names(cameras: Sequence[SourceCamera], content: Content) -> None:
    """Refused for an option that names a camera which is not there: a typo would be silent otherwise."""
    names = [camera.name for camera in cameras]
    for option in ("flip", "channel_order", "rename"):
        for name in getattr(content, option):
            if name != ALL_CAMERAS and name not in names:
                listed = ", ".join(names) or "none"
                raise Refused(
                    f"it has no camera '{name}', which content.{option} names{nearest(name, names)} "
                    f"(cameras: {listed})"
                )
    stored = [content.rename.get(name, name) for name in names]
    for name in stored:
        if stored.count(name) > 1:
            raise Refused(f"two of its cameras would be called '{name}' by content.rename")


def _view(camera: SourceCamera, place: int, content: Content) -> _View:
    return _View(
        camera,
        content.rename.get(camera.name, camera.name),
        place,
        *pixel_options(content, camera.name),
    )


def pixel_options(content: Content, name: str) -> tuple[str, bool]:
    """How the source's pixels of a camera are flipped, and whether they are BGR; by its name there."""
    flip = content.flip.get(name, content.flip.get(ALL_CAMERAS, "none"))
    return flip, content.channel_order.get(name, content.channel_order.get(ALL_CAMERAS, "rgb")) == "bgr"


def turned(pixels_HWC: NDArray[np.uint8], flip: str, is_bgr: bool) -> NDArray[np.uint8]:
    """The pixels in RGB, the right way up."""
    if flip in ("vertical", "both"):
        pixels_HWC = pixels_HWC[::-1]
    if flip in ("horizontal", "both"):
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC[:, :, ::-1] if is_bgr else pixels_HWC


def resized(pixels_HWC: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The pixels at (height, width), as they are where they have that size or none is asked for."""
    if size is None or pixels_HWC.shape[:2] == size:
        return pixels_HWC
    from PIL import Image

    height, width = size
    resized = Image.fromarray(np.ascontiguousarray(pixels_HWC)).resize(
        (width, height), Image.Resampling.LANCZOS
    )
    return np.asarray(resized)
