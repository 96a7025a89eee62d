"""What can be asked of tables in parquet."""

from __future__ import annotations

from robot_foundry.export.options import Option

FILE_BYTES = 256 * 2**20
OPTIONS = (
    Option("images", "Add images of a robot as they are stored; pairs always have theirs.", False, kind=bool),
    Option("file_bytes", "A file takes no further rows beyond so many bytes.", FILE_BYTES, kind=int),
)
