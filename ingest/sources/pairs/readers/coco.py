"""COCO's captions: one JSON object with `images` and, apart from them, `annotations` with captions of each.

A pair is an image with all its captions, numbered from 0 in `images`. The JSON is held whole, as annotations
come in no order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.formats.json_values import MOST_SHOWN, UnusableJson, json_object
from robot_foundry.ingest.sources.formats.streams import blocks_of, decompressed, whole
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.files_named import (
    MOST_TRIED,
    FoundPart,
    NamedPictures,
    Pictures,
    bounds_and_folder,
    names_of,
)
from robot_foundry.ingest.sources.pairs.forms import Form
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.record import pair_of, pictures_of, record_of
from robot_foundry.ingest.sources.unusable import Broken, Unusable, shown

MOST_BYTES = 1 << 30
# Each unit parses the whole JSON anew.
MOST_PARTS = 32
IMAGES, ANNOTATIONS, CAPTION = "images", "annotations", "caption"
_ID = re.compile(r"images_([0-9]+)_to_([0-9]+)")


@dataclass
class _Coco:
    """`captions` are of each image, in the order of the annotations; `stray` are annotations of no image."""

    images: list[Any]
    captions: dict[int, list[Any]] = field(default_factory=dict)
    stray: list[int] = field(default_factory=list)


def parts(path: Path, form: Form, file: SourceFile, content: Asked) -> list[FoundPart]:
    """Images of the JSON at `path`, which are companions of `file`. Refused if it is no such JSON."""
    coco, pictures = _read(path, form), Pictures(file.companions)
    names = [list(names_of(pictures_of(i, content))) if isinstance(i, dict) else [] for i in coco.images]
    folder = pictures.folder(file.path, [name for of in names[:MOST_TRIED] for name in of], content)
    sizes = [sum(p.size for name in of if (p := pictures.file(folder, name)) is not None) for of in names]
    least = max(content.unit_bytes, sum(sizes) // MOST_PARTS + 1)
    found: list[FoundPart] = []
    start = 0
    for number, of in enumerate(names):
        if not found or found[-1].num_bytes >= least:
            found.append(FoundPart("", folder))
            start = number
        found[-1].bounds = f"images_{start}_to_{number + 1}"
        found[-1].name(pictures, of)
    return found


def pairs_of_images(file: SourceFile, form: Form, unit: str, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a unit by its id; annotations of no image come before those of the first."""
    bounds, folder = bounds_and_folder(unit)
    match = _ID.fullmatch(bounds)
    assert match is not None  # `parts` made it
    start, end = map(int, match.groups())
    coco = _read(Path(file.root, file.path), form)
    pictures = NamedPictures(Pictures(file.companions), folder, content)
    if start == 0:
        for number in coco.stray:
            yield Unusable(f"annotation {number}", "its 'image_id' is that of no image")
    for number in range(start, end):
        yield _pair(number, coco, pictures, content)


def _pair(number: int, coco: _Coco, pictures: NamedPictures, content: Asked) -> RawPair | Unusable:
    place, image = str(number), coco.images[number]
    try:
        if not isinstance(image, dict):
            raise UnusableJson("it is no object")
        captions = coco.captions.get(number, [])
        record = record_of({**image, CAPTION: captions} if captions else image, content, has_images=True)
        found = [pictures.read(key, value) for key, value in record.pictures]
    except UnusableJson as error:
        return Unusable(place, str(error))
    return pair_of(place, record, found, content)


def _read(path: Path, form: Form) -> _Coco:
    with path.open("rb") as file:
        try:
            data = whole(decompressed(blocks_of(file), form.compression), MOST_BYTES)
        except Broken as error:
            raise Refused(str(error)) from error
    if data is None:
        raise Refused(f"its JSON has more than {MOST_BYTES} bytes")
    try:
        values = json_object(data)
    except UnusableJson as error:
        raise Refused(str(error)) from error
    images, annotations = values.get(IMAGES), values.get(ANNOTATIONS)
    if not isinstance(images, list) or not isinstance(annotations, list):
        keys = ", ".join(shown(key, MOST_SHOWN) for key in list(values)[:8])
        raise Refused(
            "it is a JSON object and not COCO's, which has 'images' and 'annotations' "
            f"(keys: {keys}): pairs are also read from an array of objects and from JSON lines"
        )
    return _joined(images, annotations)


def _joined(images: Sequence[Any], annotations: Sequence[Any]) -> _Coco:
    """Refused if the annotations are no captions."""
    if annotations and not any(isinstance(each, dict) and CAPTION in each for each in annotations):
        raise Refused("its annotations have no 'caption': COCO's captions are in other files than its boxes")
    coco, by_id = _Coco(list(images)), dict[Any, int]()
    for number, image in enumerate(images):
        key = _id(image, "id")
        if key is not None:
            by_id.setdefault(key, number)
    for number, each in enumerate(annotations):
        key = _id(each, "image_id")
        if key not in by_id or CAPTION not in each:
            coco.stray.append(number)
        else:
            coco.captions.setdefault(by_id[key], []).append(each[CAPTION])
    return coco


def _id(value: Any, key: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, int | str) else None
