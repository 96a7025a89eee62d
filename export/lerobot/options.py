"""What can be asked of a LeRobot dataset."""

from __future__ import annotations

from robot_foundry.export.options import Option

V3, V2 = "v3.0", "v2.1"
CODECS = {"av1": "libsvtav1", "h264": "libx264", "hevc": "libx265"}
OPTIONS = (
    Option("layout", "Version of the layout.", V3, choices=(V3, V2)),
    Option("images", "Keep images as they are stored, in the parquet, instead of videos.", False, kind=bool),
    Option("codec", "Codec of the videos.", "av1", choices=tuple(CODECS)),
    Option("data_mb", "Size of a file of data, of v3.0.", 100.0, kind=float),
    Option("video_mb", "Size of the images of a video, of v3.0; the video is smaller.", 200.0, kind=float),
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
