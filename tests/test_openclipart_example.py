"""The pairs of examples/openclipart: what an SVG must say of itself, what is drawn, counts that add up."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from openclipart import make
from PIL import Image

try:
    import cairosvg  # noqa: F401
except (ImportError, OSError) as error:
    pytest.skip(f"needs cairosvg and the library cairo: {error}", allow_module_level=True)

RED = '<rect x="10" y="0" width="20" height="10" fill="#ff0000"/>'


def svg(
    title: str | None, license: str | None = "http://web.resource.org/cc/PublicDomain", drawn: str = RED
) -> str:
    says = "" if title is None else f"<dc:title>{title}</dc:title>"
    says += "" if license is None else f'<cc:license rdf:resource="{license}"/>'
    return f"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/" viewBox="0 0 40 10"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="10"><metadata><rdf:RDF><cc:Work>{says}
<dc:description>None of it</dc:description><dc:subject><rdf:Bag><rdf:li>flag</rdf:li><rdf:li> red\none
</rdf:li></rdf:Bag></dc:subject><dc:creator><cc:Agent><dc:title>Ann &amp; Co</dc:title></cc:Agent>
</dc:creator>
</cc:Work></rdf:RDF></metadata>{drawn}</svg>"""


@pytest.fixture
def art(tmp_path: Path) -> Path:
    files = {
        "flags/a.svg": svg("A  red\n flag"),
        "flags/b.svg": svg("HASH(0x81f5e0c)"),
        "flags/c.svg": svg(None),
        "food/d.svg": svg("Soup", "http://creativecommons.org/licenses/GPL/2.0/"),
        "food/e.svg": svg("Bread", None),
        "food/f.svg": "<svg",
        "food/g.svg": svg("Water", drawn=""),
        "food/h.svg": '<!DOCTYPE s [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + svg("&b;").split("?>")[1],
        "food/i.svg": svg(
            "Cake", drawn='<image xlink:href="file:///etc/passwd" width="9" height="9"/>' + RED
        ),
        "food/j.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "food/k.txt": "no picture",
    }
    for name, text in files.items():
        (tmp_path / "art" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "art" / name).write_text(text, "utf-8")
    return tmp_path / "art"


def test_pairs_and_what_is_left_out(art: Path, tmp_path: Path) -> None:
    made = make.make(art, tmp_path / "out", size=40, most=None, workers=1)
    assert made == {
        "found": 10,
        "written": 2,
        "left_out": {
            "it has no title": 2,
            "it is no XML that can be read safely": 2,
            "it is not in the public domain": 1,
            "it names no licence": 1,
            "it says nothing of itself": 1,
            "nothing is to be seen in it": 1,
        },
    }
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert tar.getnames() == ["000000000.json", "000000000.png", "000000001.json", "000000001.png"]
        assert json.load(tar.extractfile("000000000.json")) == {  # type: ignore[arg-type]
            "caption": "A red flag",
            "creator": "Ann & Co",
            "description": "None of it",
            "file": "flags/a.svg",
            "keywords": ["flag", "red one"],
            "license": "http://web.resource.org/cc/PublicDomain",
            "topic": "flags",
        }
        pixels_HWC = np.asarray(Image.open(io.BytesIO(tar.extractfile("000000000.png").read())))  # type: ignore
    # 40 x 10 in the middle of 40 x 40: white above and below, the rectangle where it is drawn.
    assert pixels_HWC.shape == (40, 40, 3)
    assert (pixels_HWC[:14] == 255).all() and (pixels_HWC[26:] == 255).all()
    assert (pixels_HWC[17:23, 12:28] == (255, 0, 0)).all() and (pixels_HWC[17:23, :9] == 255).all()


def test_the_command_line(art: Path, tmp_path: Path) -> None:
    program = [sys.executable, make.__file__, str(art), str(tmp_path / "out")]
    done = subprocess.run([*program, "--most", "1", "--workers", "1"], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["written"]) == (0, 1), done.stderr
    again = subprocess.run(program, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr
    absent = subprocess.run([*program[:2], str(tmp_path / "no"), "x"], capture_output=True, text=True)
    assert absent.returncode == 1 and "is no folder" in absent.stderr
