"""What texts beside a picture say: `.txt` is a caption, `.json` holds captions, turns and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from robot_foundry.ingest.sources.formats.json_values import BOM, UnusableJson, json_object, unicode_text
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.record import Record, record_of

TEXT, JSON = "txt", "json"
# A pair's own text; longer ones are no captions.
MOST_TEXT_BYTES = 16 << 20
_CAPTION = "caption"
_NOTHING = Record({}, (), {})


def record_beside(texts: Mapping[str, bytes], content: Asked) -> Record:
    """What texts say, each by its ending: `json`, `txt` or `name.txt`. UnusableJson if one is none."""
    told = record_of(json_object(texts[JSON]), content, has_images=False) if JSON in texts else _NOTHING
    captions, silent = dict(told.captions), list(told.silent)
    for ending, data in texts.items():
        if ending == JSON:
            continue
        text, name = _text(data), ending.removesuffix(TEXT).removesuffix(".")
        if not text.strip():
            silent.append(f"its .{ending} is empty")
        elif text.strip() not in map(str.strip, told.captions.values()):
            name = name or (TEXT if _CAPTION in captions else _CAPTION)
            if content.captions is None or name in content.captions or TEXT in content.captions:
                captions[name] = text
    return replace(told, captions=captions, silent=tuple(silent))


def _text(data: bytes) -> str:
    """Without a byte order mark and the end of the last line."""
    try:
        return unicode_text(data.removeprefix(BOM).decode().rstrip("\r\n"), TEXT)
    except UnicodeDecodeError as error:
        raise UnusableJson("its text is not UTF-8") from error
