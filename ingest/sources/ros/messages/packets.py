"""Packets of video as messages: each is decoded in order, for its picture is made of those before it.

Legend: H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.robot.video import av_package, rgb_converter
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.h264 import Counted
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.shards.images import MAX_PIXELS

# With the field that says how they are coded.
TYPES = {
    "foxglove_msgs/msg/CompressedVideo": "format",
    "foxglove/msg/CompressedVideo": "format",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "encoding",
}
# What publishers write there. Of other codecs nothing tells whether a packet is missing.
H264 = ("h264", "libx264", "h264_nvenc", "h264_vaapi", "h264_v4l2m2m")
NO_PICTURE = "its packet gives no picture, for those before it are missing or it is damaged"


class Packets:
    """The decoder of one camera. A picture may come some packets later than its own, whose number it has."""

    def __init__(self) -> None:
        self._context: Any = None
        self._counted = Counted()
        self._rgb_of: Any = None
        self._is_sound = False

    def frames(self, message: Any, number: int) -> list[tuple[int, Any]]:
        """Pictures that come by this packet, each with the number of its own. Undecodable if it is none."""
        kind = str(getattr(message, "__msgtype__", ""))
        if kind not in TYPES:
            raise Undecodable(f"its type {kind} is not of packets of a video")
        told = str(getattr(message, TYPES[kind]))
        if told.partition(";")[0].strip().lower() not in H264:
            raise Undecodable(f"its packets are of '{shown(told, 40)}', and h264 is read")
        if self._context is None:
            self._context = av_package().CodecContext.create(H264[0], "r")
            self._context.thread_count = 1  # ingest runs a process a core
        data = bytes(np.asarray(message.data, np.uint8))
        self._is_sound = self._counted.follows(data) and self._is_sound
        packet = av_package().Packet(data)
        packet.pts = number
        return self._decoded(packet)

    def rest(self) -> list[tuple[int, Any]]:
        """Pictures that wait for further packets, behind the last one."""
        return [] if self._context is None else self._decoded(None)

    def pixels(self, frame: Any) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3]"""
        self._rgb_of = self._rgb_of or rgb_converter()
        pixels_HW3: NDArray[np.uint8] = self._rgb_of(frame)
        return pixels_HW3

    def _decoded(self, packet: Any) -> list[tuple[int, Any]]:
        av = av_package()
        try:
            frames = self._context.decode(packet)
        except (av.FFmpegError, ValueError):
            self._is_sound = False
            return []
        found = []
        for frame in frames:
            # The decoder goes on without what it lacks: up to the next picture that is whole by itself.
            self._is_sound = not frame.is_corrupt and (self._is_sound or bool(frame.key_frame))
            if self._is_sound and frame.pts is not None and frame.height * frame.width <= MAX_PIXELS:
                found.append((frame.pts, frame))
        return found
