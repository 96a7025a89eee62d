"""What becomes of a picture of the source: it is stored as it is, made smaller, or not taken."""

from __future__ import annotations

from robot_foundry.ingest.pairs.spec import DECODE, PairsContent
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.shards import images
from robot_foundry.shards.errors import CorruptImage, TooManyPixels, TooManyScans
from robot_foundry.shards.images import MAX_PIXELS
from robot_foundry.shards.pairs.shard import Encoded
from robot_foundry.shards.pictures.decode import decode, verify
from robot_foundry.shards.pictures.fit import STRETCH
from robot_foundry.shards.pictures.probe import ENCODINGS, JPG, Probed, picture_kind, probe

# Rules by which pairs are left out, in the order in which they are asked: keys of the content.
RULES = ("min_side", "max_aspect", "max_pixels")
_NAMES = dict(zip(ENCODINGS, ("a JPEG", "a PNG", "a WebP"), strict=True))


class Unfit(Exception):
    """A pair cannot be taken. The message is the reason, about 'it', and names no content."""


class Filtered(Exception):
    """A pair is left out as the spec asks. The message is the rule, one of RULES."""


def taken_of(pair: RawPair, content: PairsContent) -> list[Encoded]:
    """The pictures of a usable pair as they are stored; Unfit or Filtered as one of them is."""
    return [_taken(picture, content) for picture in pair.pictures]


def codec_versions() -> dict[str, str]:
    """Versions of what decides the bytes of pictures that are made smaller."""
    import PIL

    return {**images.codec_versions(), "pillow": PIL.__version__}


def _taken(picture: RawPicture, content: PairsContent) -> Encoded:
    """The picture as it is stored. Unfit where it is damaged or of another kind; Filtered by its size."""
    data = picture.data
    assert data is not None  # else readers of sources give no pair
    probed = _probed(data)
    rule = _rule(probed, content)
    if rule is not None:
        raise Filtered(rule)
    try:
        if content.resize is not None and max(probed.height, probed.width) > content.resize:
            return _smaller(data, probed, content.resize, content.quality)
        if content.verify == DECODE:
            verify(data)
    except CorruptImage as error:
        raise Unfit(f"its picture is {_NAMES[probed.encoding]} that is damaged or cut off") from error
    return Encoded(data, probed.encoding, probed.height, probed.width)


def _probed(data: bytes) -> Probed:
    try:
        return probe(data)
    except TooManyPixels as error:
        raise Unfit(f"its picture has more than {MAX_PIXELS >> 20} Mi pixels") from error
    except TooManyScans as error:
        raise Unfit("its picture is a JPEG of so many scans that decoding it takes minutes") from error
    except CorruptImage as error:
        kind = picture_kind(data)
        if kind in _NAMES.values():
            raise Unfit(f"its picture is {kind} whose header is damaged or cut off") from error
        raise Unfit(f"its picture is {kind}, and JPEG, PNG and WebP are taken") from error


def _rule(probed: Probed, content: PairsContent) -> str | None:
    """The first rule by which the spec leaves the picture out."""
    short, long = sorted((probed.height, probed.width))
    left_out = {
        "min_side": content.min_side is not None and short < content.min_side,
        "max_aspect": content.max_aspect is not None and long > content.max_aspect * short,
        "max_pixels": content.max_pixels is not None and short * long > content.max_pixels,
    }
    return next((rule for rule in RULES if left_out[rule]), None)


def _smaller(data: bytes, probed: Probed, longest: int, quality: int) -> Encoded:
    """The upright picture with that longest side, as JPEG; its sides are rounded to whole pixels."""
    scale = longest / max(probed.height, probed.width)
    height, width = (max(1, round(side * scale)) for side in (probed.height, probed.width))
    pixels_HWC = decode(data, (height, width), fit=STRETCH)
    return Encoded(images.encode_jpeg(pixels_HWC, quality), JPG, height, width)
