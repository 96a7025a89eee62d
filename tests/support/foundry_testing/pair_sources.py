"""One set of pairs in every layout that sources have, and what the layout `pairs` reads of a source."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from foundry_testing.pairs import TestPair
from foundry_testing.text_sources import tar_of
from robot_foundry.ingest.files.scan import choose, list_units, source_files
from robot_foundry.ingest.pairs.spec import PairsContent, PairsSpec
from robot_foundry.ingest.sources import Unit
from robot_foundry.ingest.sources.pairs.pairs import pairs_of
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.parallel import Workers

Found = list[RawPair | Unusable]
# As LLaVA and as chats call who speaks.
FROM = {"user": "human", "assistant": "gpt", "system": "system"}


def units_of(source: Path, content: PairsContent | None = None) -> list[Unit]:
    """The units of a file or folder; none is refused. Fingerprints are the names of files."""
    units, refused = listed_in(source, content)
    assert not refused, refused
    return units


def listed_in(source: Path, content: PairsContent | None = None) -> tuple[list[Unit], list[tuple[str, str]]]:
    """The units of a file or folder, and what is refused as a whole with the reason."""
    spec = PairsSpec("pairs", "pairs", content or PairsContent())
    spec, files = choose(source, spec)  # type: ignore[assignment]
    listing = list_units(source_files(files, str), spec, Workers())
    return list(listing.units), [(each.unit, each.reason) for each in listing.refused]


def found_in(source: Path, content: PairsContent | None = None) -> Found:
    """All that is read of a source, unit by unit."""
    content = content or PairsContent()
    return [found for unit in units_of(source, content) for found in pairs_of(unit, content)]


def taken_from(source: Path, content: PairsContent | None = None) -> list[RawPair]:
    """The pairs of a source in which nothing is unusable."""
    found = found_in(source, content)
    assert not reasons_of(found)
    return [each for each in found if isinstance(each, RawPair)]


def reasons_of(found: Iterable[RawPair | Unusable]) -> list[tuple[str, str]]:
    return [(each.id, each.reason) for each in found if isinstance(each, Unusable)]


def said(pair: RawPair, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """What a pair is, wherever it lies; `without` are keys of metadata that a layout adds."""
    return {
        "pictures": [picture.data for picture in pair.pictures],
        "captions": dict(pair.captions),
        "turns": [(turn.role, turn.text) for turn in pair.turns],
        "metadata": {name: value for name, value in pair.metadata.items() if name not in without},
    }


def meant(pair: TestPair) -> dict[str, Any]:
    """The same of a pair that was written."""
    return {
        "pictures": [picture.data for picture in pair.encoded],
        "captions": dict(pair.captions),
        "turns": list(pair.turns),
        "metadata": dict(pair.metadata),
    }


def tar_members(pairs: Sequence[TestPair], *, first: int = 0) -> list[tuple[str, bytes]]:
    """Of WebDataset: pictures, and JSON with all that is said."""
    members = []
    for number, pair in enumerate(pairs, first):
        key, several = f"{number:09d}", len(pair.encoded) > 1
        for place, picture in enumerate(pair.encoded):
            members.append((f"{key}.{f'{place}.' if several else ''}{picture.encoding}", picture.data))
        members.append((f"{key}.json", json.dumps(_told(pair)).encode()))
    return members


def write_tar(folder: Path, pairs: Sequence[TestPair]) -> None:
    (folder / "00000.tar").write_bytes(tar_of(tar_members(pairs)))


def write_img2dataset(folder: Path, pairs: Sequence[TestPair]) -> None:
    """Pairs of one picture and one caption, as img2dataset writes them: text, JSON and picture."""
    members = []
    for number, pair in enumerate(pairs):
        key, picture = f"00000{number:04d}", pair.encoded[0]
        members += [
            (f"{key}.txt", pair.captions["caption"].encode()),
            (f"{key}.json", json.dumps({**pair.captions, **pair.metadata}).encode()),
            (f"{key}.{picture.encoding}", picture.data),
        ]
    (folder / "00000.tar").write_bytes(tar_of(members))


def write_json(folder: Path, pairs: Sequence[TestPair]) -> None:
    """LLaVA's: an array of records, and pictures in folders that it names."""
    (folder / "llava.json").write_text(json.dumps(_records(folder, pairs), indent=1))


def write_json_lines(folder: Path, pairs: Sequence[TestPair]) -> None:
    records = _records(folder, pairs)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def write_csv(folder: Path, pairs: Sequence[TestPair], *, delimiter: str = ",") -> None:
    """Pairs of one picture, captions, and metadata that is text, as Hugging Face's imagefolder has them."""
    names = [_written(folder, pair, number)[0] for number, pair in enumerate(pairs)]
    rows = [
        {"file_name": name, **pair.captions, **pair.metadata} for name, pair in zip(names, pairs, strict=True)
    ]
    name = "metadata.csv" if delimiter == "," else "metadata.tsv"
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(folder: Path, pairs: Sequence[TestPair]) -> None:
    write_csv(folder, pairs, delimiter="\t")


def write_coco(folder: Path, pairs: Sequence[TestPair]) -> None:
    """Pairs of one picture with captions called caption, caption_2 …, which come in another order."""
    (folder / "annotations").mkdir()
    (folder / "train2017").mkdir()
    images, annotations = [], list[dict[str, Any]]()
    for number, pair in enumerate(pairs):
        (name,) = _written(folder / "train2017", pair, number)
        images.append({"id": 100 + number, "file_name": name, **pair.metadata})
        annotations += [{"image_id": 100 + number, "caption": text} for text in pair.captions.values()]
    annotations.sort(key=lambda each: -each["image_id"])
    content = json.dumps({"info": {}, "images": images, "annotations": annotations})
    (folder / "annotations" / "captions_train2017.json").write_text(content)


def write_parquet(folder: Path, pairs: Sequence[TestPair]) -> None:
    """As Hugging Face has them: pictures in the table, conversations as messages."""
    rows = []
    for pair in pairs:
        messages = [{"role": role, "content": text} for role, text in pair.turns] or None
        images = [{"bytes": picture.data, "path": None} for picture in pair.encoded]
        rows.append({"images": images, "messages": messages, **pair.captions, **pair.metadata})
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    parquet.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=3)


def write_folder(folder: Path, pairs: Sequence[TestPair]) -> None:
    """Pairs of one picture, with JSON of the same name beside it."""
    for number, pair in enumerate(pairs):
        (name,) = _written(folder, pair, number)
        (folder / f"{name.rpartition('.')[0]}.json").write_text(json.dumps(_told(pair)))


Writer = Callable[[Path, Sequence[TestPair]], None]
# Layouts that hold any pair with pictures, and those that hold one picture with captions.
OF_ALL: Mapping[str, Writer] = {
    "tar": write_tar, "json": write_json, "jsonl": write_json_lines, "parquet": write_parquet,
}  # fmt: skip
OF_CAPTIONS: Mapping[str, Writer] = {
    **OF_ALL, "img2dataset": write_img2dataset, "csv": write_csv, "tsv": write_tsv, "coco": write_coco,
    "folder": write_folder,
}  # fmt: skip


def _told(pair: TestPair) -> dict[str, Any]:
    turns = [{"from": FROM[role], "value": text} for role, text in pair.turns]
    return {**pair.captions, **({"conversations": turns} if turns else {}), **pair.metadata}


def _records(folder: Path, pairs: Sequence[TestPair]) -> list[dict[str, Any]]:
    records = []
    for number, pair in enumerate(pairs):
        names = _written(folder, pair, number)
        images = {"image": names[0]} if len(names) == 1 else {"images": names}
        records.append({**images, **_told(pair)})
    return records


def _written(folder: Path, pair: TestPair, number: int) -> list[str]:
    """The pictures' files, by their names in the folder."""
    names = []
    for place, picture in enumerate(pair.encoded):
        names.append(f"pictures/{number:04d}_{place}.{picture.encoding}")
        path = folder / names[-1]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture.data)
    return names
