"""What was found as one page that needs nothing beside it: pictures, small plots, each guess and its why.

All that comes from the data is escaped, and pictures are data URIs, so a hostile name or text stays text.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.inspect.draft import field_of, flow
from robot_foundry.ingest.inspect.evidence.guess import Guess
from robot_foundry.ingest.inspect.inspect import Inspection, Seen
from robot_foundry.ingest.inspect.survey import Series, Survey
from robot_foundry.ingest.inspect.told import Said, instructions_of, rate_of, roles_of
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture, Planar
from robot_foundry.runtime.pages.charts import lines
from robot_foundry.runtime.pages.html import document, table
from robot_foundry.shards.images import encode_jpeg, encode_jpeg_planes

PLOT_WIDTH, PLOT_HEIGHT, MOST_POINTS, MOST_LINES = 360, 70, 180, 8
QUALITY, MOST_PICTURE_BYTES = 80, 2_000_000


def page_of(made: Inspection) -> str:
    """The page as HTML 5."""
    body = "\n".join([*_contents(made), *(line for seen in made.seen for line in _thing(seen))])
    return document(made.source, body)


def _contents(made: Inspection) -> Iterator[str]:
    yield f"<h1>{escape(made.source)}</h1>"
    files = "1 file" if made.contents.num_files == 1 else f"{made.contents.num_files:,} files"
    yield f"<p>{files}, {made.contents.num_bytes / 1e6:,.1f} MB</p>"
    if made.contents.problems:
        told = (f"<li>{escape(path)} {escape(problem)}</li>" for path, problem in made.contents.problems[:50])
        yield f"<ul>{''.join(told)}</ul>"


def _thing(seen: Seen) -> Iterator[str]:
    yield f"<h2>{escape(seen.found.form)}</h2><p><code>{escape(seen.found.place)}</code></p>"
    for fit in seen.fits:
        if fit.is_alike:
            continue
        doubts = "; ".join(fit.doubts) or "the checks find no doubt"
        asked = escape(shlex.join(["foundry-data", "ingest", fit.spec, seen.found.place]) + fit.needs)
        said = "" if seen.survey is None else f": {escape(doubts)}"
        yield f"<p><code>{asked}</code> reads this{said}</p>"
    if seen.refused is not None:
        yield f"<p class=low>no spec of the package reads this: {escape(seen.refused)}</p>"
    if seen.records is not None:
        yield table(("field", "type", "example"), [tuple(map(escape, row)) for row in seen.records.fields])
    if seen.survey is None or seen.drafted is None:
        return
    yield from _survey(seen.survey)
    for column, guesses in (("state", seen.drafted.state), *seen.drafted.actions.items()):
        if guesses:
            yield f"<h3>{escape(column)}</h3>"
            yield table(
                ("quantity", "read as", "sure", "evidence"), [_guess(*item) for item in guesses.items()]
            )
    yield "<h3>Arrays</h3>"
    rows = [_array(name, series) for name, series in seen.survey.series.items()]
    yield table(("array", "row", "type", "first episode"), rows)
    if seen.spec is not None:
        yield f"<h3>Drafted spec</h3><pre>{escape(seen.spec)}</pre>"


def _survey(of: Survey) -> Iterator[str]:
    frames = "" if of.num_frames is None else f", {of.num_frames:,} frames"
    yield f"<p>{len(of.units):,} episodes{frames}; {len(of.read)} were read. {escape(rate_of(of).why)}.</p>"
    for rule, said in instructions_of(of):
        yield f"<p>instruction <code>{escape(flow(rule))}</code>: {escape(said.why)}</p>"
    for name, reason in of.refused[:20]:
        yield f"<p class=low>{escape(name)}: {escape(reason)}</p>"
    pictures = of.read[0].pictures if of.read else {}
    for camera, role in roles_of(of).items():
        yield _figure(camera, _uri(pictures.get(camera)), role)


def _figure(camera: str, uri: str | None, role: Said) -> str:
    """A camera with its role; without a picture where none could be read."""
    sure = f'<span class="{role.confidence}">{escape(role.value)} ({role.confidence})</span>'
    image = "" if uri is None else f'<img alt="{escape(camera)}" src="{uri}">'
    return f"<figure>{image}<figcaption>{escape(camera)}: {sure}</figcaption></figure>"


def _uri(picture: Picture) -> str | None:
    """A picture as a data URI; None where there is none, or it is too large for a page."""
    if picture is None:
        return None
    if isinstance(picture, Encoded):
        data, kind = bytes(picture.data), "png" if picture.format == "png" else "jpeg"
    elif isinstance(picture, Planar):
        data, kind = encode_jpeg_planes(picture.planes, QUALITY), "jpeg"
    else:
        data, kind = encode_jpeg(np.asarray(picture), QUALITY), "jpeg"
    if len(data) > MOST_PICTURE_BYTES:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _guess(name: str, guess: Guess) -> tuple[str, ...]:
    run = guess.run
    why = "<br>".join(map(escape, run.evidence))
    field = f"<code>{escape(flow(field_of(name, guess)))}</code>"
    return escape(name), field, f'<span class="{run.confidence}">{run.confidence}</span>', why


def _array(name: str, series: Series) -> tuple[str, ...]:
    shape = " x ".join(map(str, series.shape)) or "1"
    return escape(name), shape, escape(series.dtype), _plot(series.episodes[0]) if series.episodes else ""


def _plot(rows_Nd: NDArray[np.float64]) -> str:
    """The columns of an array [N, d] over its frames, as lines."""
    shown = rows_Nd[:: max(1, len(rows_Nd) // MOST_POINTS), :MOST_LINES]
    finite = shown[np.isfinite(shown)]
    if len(shown) < 2 or not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    drawn = lines(shown.T, low, high, width=PLOT_WIDTH, height=PLOT_HEIGHT)
    return f"{drawn}<br>{low:.4g} … {high:.4g}"
