"""What can be asked of a LeRobot dataset."""

from __future__ import annotations

from robot_foundry.export.options import Option

V3, V2 = "v3.0", "v2.1"
CODECS = {"av1": "libsvtav1", "h264": "libx264", "hevc": "libx265"}
CODEC = "av1"
DATA_MB, VIDEO_MB = 100, 200  # what LeRobot puts in a file of v3.0
OPTIONS = (
    Option("layout", "Version of the layout.", V3, choices=(V3, V2)),
    Option("images", "Keep images as they are stored, in the parquet, instead of videos.", False, kind=bool),
    Option("codec", f"Codec of the videos.  [default: {CODEC}]", choices=tuple(CODECS)),
    Option("data_mb", f"Size of a file of data, of {V3}.  [default: {DATA_MB}]", kind=float),
    Option(
        "video_mb",
        f"Size that the images of a video have, of {V3}; the video is smaller.  [default: {VIDEO_MB}]",
        kind=float,
    ),
    Option(
        "stream",
        "Actions that are `action`; others are `action.STREAM`.  [default: command, else next_state]",
    ),
    Option(
        "fps",
        "Rate in Hz that rows are counted by; their own times are kept beside.  [default: that of the data]",
        kind=float,
    ),
)
