"""What can be asked of exported windows: those of training, and how they are put into tars."""

from __future__ import annotations

from robot_foundry.export.options import Option

PLAIN, VLA_FOUNDRY = "plain", "foundry-vla"
PER_SHARD = 1000
QUALITY = 95
OPTIONS = (
    Option(
        "layout",
        "Names inside the tars: for any WebDataset loader, or those of VLA Foundry.",
        PLAIN,
        choices=(PLAIN, VLA_FOUNDRY),
    ),
    Option("stream", "Actions that are the targets.  [default: the only stream, else next_state]"),
    Option("representation", "How targets are represented, as data.window.representation.", "relative_tool"),
    Option("horizon", "Steps of a chunk, or seconds.", "16", metavar="N|SECONDS"),
    Option("history", "Observations, the anchor last, or seconds.", "2", metavar="N|SECONDS"),
    Option("stride", "Rows between steps, or seconds.", "1", metavar="N|SECONDS"),
    Option("control_hz", "Resample to this rate.", kind=float, metavar="HZ"),
    Option("camera", "Role of a camera; may be repeated.  [default: all]", (), many=True, metavar="ROLE"),
    Option("image", "Size of images.  [default: as they are stored, bytes and all]", metavar="HEIGHTxWIDTH"),
    Option("mask", "Targets with this flag do not count; may be repeated.", (), many=True, metavar="FLAG"),
    Option("quality", "JPEG quality of images that must be encoded anew.", QUALITY, kind=int),
    Option("every", "Windows at every N-th frame of an episode only.", 1, kind=int, metavar="N"),
    Option("seed", "Of the order of windows.", 0, kind=int),
    Option(
        "samples",
        "The first N samples that training draws, by the weights of a mixture.  [default: each window once]",
        kind=int,
        metavar="N",
    ),
    Option("per_shard", "Windows in a tar.", PER_SHARD, kind=int, metavar="N"),
)
