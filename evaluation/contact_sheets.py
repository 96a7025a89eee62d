"""Pictures of rollouts for people: a contact sheet and GIFs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def save_gif(film: Film, path: Path, hz: float, zoom: int = 2) -> None:
    """The whole film with its caption, `hz` frames a second where a GIF can, resting on the last frame."""
    height, width = film.frames[0].shape[:2]
    font = ImageFont.load_default(12)
    lines = textwrap.wrap(film.caption, width * zoom // CHARACTER)
    above = CAPTION * len(lines)
    pages = []
    for frame_HWC in film.frames:
        page = Image.new("RGB", (width * zoom, height * zoom + above), WHITE)
        page.paste(Image.fromarray(frame_HWC).resize((width * zoom, height * zoom)), (0, above))
        ImageDraw.Draw(page).text((3, 2), "\n".join(lines), fill=BLACK, font=font)
        pages.append(page.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    # A GIF counts in hundredths of a second, and viewers slow down what has less than two of them.
    frame_ms = 10 * max(2, round(100 / hz))
    durations = [frame_ms] * (len(pages) - 1) + [LAST_FRAME_MS]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=durations, loop=0)
