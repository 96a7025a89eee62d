"""Make image-text pairs of clip art: draw the public-domain SVGs of a folder beside their titles.

    python examples/openclipart/make.py /usr/share/openclipart/svg openclipart
    foundry-data ingest pairs openclipart --as openclipart

The tars are laid out as img2dataset writes: `<9 digits>.png`, `--size` pixels a side on white, and
`<9 digits>.json` with `caption`, the title, and `description`, `keywords`, `creator`, `license`, `file` and
`topic`, the first folder of its path. What an SVG says of itself in its RDF decides: one without a title, or
under another licence, or that cairosvg cannot draw is left out, and counted by reason. Files are taken in the
order of their paths. An SVG is data of a stranger: it is read without entities, and drawn without fetching
what it names, in a process of its own that is ended when its time is over.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.pool import ThreadPool
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from PIL import Image

from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.tar import TarWriter

PICTURES_PER_TAR = 1000
LARGEST_SVG = 4 * 2**20  # bytes; what is larger takes minutes to draw
SECONDS = 20  # for one picture
FORK = get_context("fork")  # a process for each drawing, which has all that is imported already
NO_TITLE = re.compile(r"^$|^HASH\(0x[0-9a-f]+\)$|^untitled$", re.IGNORECASE)


class LeftOut(Exception):
    """Why a file gives no pair."""


@dataclass(frozen=True)
class Described:
    """What an SVG says of itself."""

    title: str
    description: str
    keywords: tuple[str, ...]
    creator: str
    license: str


def described(data: bytes) -> Described:
    """The RDF of an SVG. LeftOut where it cannot be read, has no title or is not in the public domain."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise LeftOut("it is no XML that can be read safely") from error
    work = next(_all(root, "Work"), None)
    if work is None:
        raise LeftOut("it says nothing of itself")
    license = next((_resource(element) for element in _all(work, "license")), "")
    if not license:
        raise LeftOut("it names no licence")
    if "publicdomain" not in license.lower():
        raise LeftOut("it is not in the public domain")
    title = _text(next((child for child in work if _name(child) == "title"), None))
    if NO_TITLE.match(title):
        raise LeftOut("it has no title")
    description = _text(next((child for child in work if _name(child) == "description"), None))
    creator = _text(next((title for made in _all(work, "creator") for title in _all(made, "title")), None))
    keywords = tuple(
        word for subject in _all(work, "subject") for li in _all(subject, "li") if (word := _text(li))
    )
    return Described(title, "" if NO_TITLE.match(description) else description, keywords, creator, license)


def drawn(data: bytes, size: int) -> bytes:
    """A PNG of `size` x `size` pixels, the drawing whole and in the middle of white."""
    import cairosvg

    try:
        png = cairosvg.svg2png(
            bytestring=data, output_width=size, output_height=size, background_color="white", unsafe=False
        )
    except Exception as error:  # of all kinds: cairosvg trips over much that drawing programs write
        raise LeftOut("cairosvg cannot draw it") from error
    pixels_HWC = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    if pixels_HWC.shape[:2] != (size, size) or (pixels_HWC == pixels_HWC[0, 0]).all():
        raise LeftOut("nothing is to be seen in it")
    kept = io.BytesIO()
    Image.fromarray(pixels_HWC).save(kept, "png")
    return kept.getvalue()


def pair_of(path: Path, root: Path, size: int) -> tuple[bytes, dict[str, object]] | str:
    """The picture and the JSON of a pair, or the reason why there is none."""
    try:
        if path.stat().st_size > LARGEST_SVG:
            raise LeftOut(f"it is larger than {LARGEST_SVG >> 20} MiB")
        data = path.read_bytes()
        said = described(data)
        picture = drawn(data, size)
    except LeftOut as reason:
        return str(reason)
    place = path.relative_to(root)
    facts = {name: value for name, value in asdict(said).items() if name != "title" and value}
    return picture, {"caption": said.title, "file": str(place), "topic": place.parts[0], **facts}


def pair_in_child(path: Path, root: Path, size: int) -> tuple[bytes, dict[str, object]] | str:
    """The same by a process of its own: some drawings keep cairo busy for ever, or bring it down."""
    here, there = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_send, args=(there, path, root, size), daemon=True)
    child.start()
    there.close()
    try:
        if not here.poll(SECONDS):
            return f"it takes longer than {SECONDS} s to draw"
        said = here.recv_bytes()
        return (here.recv_bytes(), json.loads(said)) if said.startswith(b"{") else said.decode()
    except EOFError:
        return "cairosvg breaks down over it"
    finally:
        child.kill()
        child.join()
        here.close()


def _send(there: Connection, path: Path, root: Path, size: int) -> None:
    made = pair_of(path, root, size)
    if isinstance(made, str):
        there.send_bytes(made.encode())
    else:
        there.send_bytes(canonical_json(made[1]))
        there.send_bytes(made[0])


def make(root: Path, out: Path, *, size: int, most: int | None, workers: int) -> dict[str, object]:
    """Write the tars; the counts of what was found, written and left out by reason, which add up."""
    files = sorted(path for path in root.rglob("*.svg") if path.is_file())[:most]
    out.mkdir(parents=True)
    reasons: Counter[str] = Counter()
    with ThreadPool(workers) as pool:
        results = pool.imap(partial(pair_in_child, root=root, size=size), files)
        written = _write(_pairs(results, reasons), out)
    return {"found": len(files), "written": written, "left_out": dict(sorted(reasons.items()))}


def _pairs(
    results: Iterator[tuple[bytes, dict[str, object]] | str], reasons: Counter[str]
) -> Iterator[tuple[bytes, dict[str, object]]]:
    for result in results:
        if isinstance(result, str):
            reasons[result] += 1
        else:
            yield result


def _write(pairs: Iterator[tuple[bytes, dict[str, object]]], out: Path) -> int:
    count = 0
    numbered = enumerate(pairs)
    while (first := next(numbered, None)) is not None:
        tar = first[0] // PICTURES_PER_TAR
        with (out / f"{tar:05d}.tar").open("wb") as file:
            writer = TarWriter(file)
            item: tuple[int, tuple[bytes, dict[str, object]]] | None = first
            while item is not None:
                number, (picture, facts) = item
                key = f"{tar:05d}{number % PICTURES_PER_TAR:04d}"
                writer.add(f"{key}.json", canonical_json(facts))
                writer.add(f"{key}.png", picture)
                count += 1
                full = number % PICTURES_PER_TAR == PICTURES_PER_TAR - 1
                item = None if full else next(numbered, None)
            writer.close()
    return count


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _all(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element.iter() if _name(child) == name)


def _text(element: Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _resource(element: Element) -> str:
    return next((value for key, value in element.attrib.items() if key.endswith("resource")), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("svgs", type=Path, help="a folder of SVG files")
    parser.add_argument("out", type=Path, help="the folder to write, which must not be there")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--most", type=int, help="so many files at most")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    try:
        import cairosvg  # noqa: F401
        import defusedxml.ElementTree  # noqa: F401
    except (ImportError, OSError) as error:
        sys.exit(f"drawing needs cairosvg and the library cairo: pip install cairosvg ({error})")
    if not asked.svgs.is_dir():
        sys.exit(
            f"{asked.svgs} is no folder: apt-get install openclipart-svg makes /usr/share/openclipart/svg"
        )
    if asked.out.exists():
        sys.exit(f"{asked.out} is there already: give another folder, or remove it")
    made = make(asked.svgs, asked.out, size=asked.size, most=asked.most, workers=asked.workers)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
