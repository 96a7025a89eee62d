"""Pictures of rollouts for people: a contact sheet, and films as mp4 or GIF."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robot_foundry.export.lerobot.dataset.video import VideoFile, av_package
from robot_foundry.runtime.errors import UsageError

COLUMNS = 5
CAPTION = 18
CHARACTER = 7
BORDER = 3
LAST_FRAME_MS = 1000
GREEN, RED, WHITE, BLACK = (30, 150, 60), (200, 40, 40), (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Film:
    """One scene as seen from outside: frames uint8 (H, W, 3), what was told, how it ended."""

    index: int
    frames: tuple[np.ndarray, ...]
    caption: str
    success: bool


def contact_sheet(films: Sequence[Film]) -> Image.Image:
    """One row for each film, one or more: five frames, framed green for success and red for failure."""
    height, width = films[0].frames[0].shape[:2]
    row = height + CAPTION + 2 * BORDER
    wide = COLUMNS * width + (COLUMNS + 1) * BORDER
    per_column = (len(films) + 1) // 2 if len(films) > 4 else len(films)
    strips = -(-len(films) // per_column)
    sheet = Image.new("RGB", (wide * strips + 12 * (strips - 1), row * per_column), WHITE)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for k, film in enumerate(films):
        left, top = (k // per_column) * (wide + 12), (k % per_column) * row
        colour = GREEN if film.success else RED
        word = "success" if film.success else "failure"
        draw.text(
            (left + BORDER, top + 2), f"scene {film.index}, {word}: {film.caption}", fill=colour, font=font
        )
        draw.rectangle((left, top + CAPTION, left + wide - 1, top + row - BORDER), fill=colour)
        for column, at in enumerate(np.linspace(0, len(film.frames) - 1, COLUMNS).round().astype(int)):
            place = (left + BORDER + column * (width + BORDER), top + CAPTION + BORDER)
            sheet.paste(Image.fromarray(film.frames[at]), place)
    return sheet


def save_film(film: Film, stem: Path, hz: float) -> Path:
    """The whole film as `stem`.mp4 where PyAV is there, else as a GIF; the file that was written."""
    try:
        av_package()
    except UsageError:
        save_gif(film, path := stem.with_name(f"{stem.name}.gif"), hz)
        return path
    save_video(film, path := stem.with_name(f"{stem.name}.mp4"), hz)
    return path


def save_video(film: Film, path: Path, hz: float, zoom: int = 2) -> None:
    """The whole film with its caption as H.264, `hz` frames a second, resting on the last frame."""
    pages = [np.asarray(page) for page in _pages(film, zoom)]
    pages += pages[-1:] * round(hz * LAST_FRAME_MS / 1000)
    with VideoFile(path, "h264", hz, pages[0].shape[:2]) as video:
        for page_HWC in pages:
            video.add(page_HWC)


def save_gif(film: Film, path: Path, hz: float, zoom: int = 2) -> None:
    """The whole film with its caption, `hz` frames a second where a GIF can, resting on the last frame."""
    pages = [
        page.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for page in _pages(film, zoom)
    ]
    # A GIF counts in hundredths of a second, and viewers slow down what has less than two of them.
    frame_ms = 10 * max(2, round(100 / hz))
    durations = [frame_ms] * (len(pages) - 1) + [LAST_FRAME_MS]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=durations, loop=0)


def _pages(film: Film, zoom: int) -> Iterator[Image.Image]:
    """Each frame enlarged below the caption; sides are even, as videos want them."""
    height, width = (zoom * side for side in film.frames[0].shape[:2])
    font = ImageFont.load_default(12)
    lines = textwrap.wrap(film.caption, width // CHARACTER)
    above = CAPTION * len(lines)
    for frame_HWC in film.frames:
        page = Image.new("RGB", (width + width % 2, height + above + (height + above) % 2), WHITE)
        page.paste(Image.fromarray(frame_HWC).resize((width, height)), (0, above))
        ImageDraw.Draw(page).text((3, 2), "\n".join(lines), fill=BLACK, font=font)
        yield page
