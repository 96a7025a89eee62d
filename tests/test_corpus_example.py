"""The corpora of examples/corpus: what is written of installed packages and of WordNet, and what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpus import make, wordnet

LONG = "It says in many words what it is for. " * 8
CODE = f'''"""The module. {LONG}"""


class Thing:
    """A thing. {LONG}"""

    def turn(self):
        """Turn it. {LONG}"""

        def inner():
            """Inside. {LONG}"""

    def brief(self):
        """Too short."""


if True:

    def conditional():
        """Only sometimes. {LONG}"""
'''


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").split("\n")[:-1]]


def install(site: Path, name: str, files: dict[str, str | bytes], about: str = "", listed: str = "") -> None:
    """A package as pip leaves it; `listed` is one more file that its record names."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{about}", "utf-8")
    for file, content in files.items():
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    record = "".join(f'"{file}",sha256=x,1\n' for file in [*files, *filter(None, [listed])])
    (info / "RECORD").write_text(record, "utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two packages with all that is read, and all that is not."""
    site = tmp_path / "site"
    install(
        site,
        "alpha",
        {
            "alpha/__init__.py": CODE,
            "alpha/guide.md": f"# Guide\n\n{LONG}é\n",
            "alpha/latin.md": f"{LONG}é".encode("latin-1"),
            "alpha/tests/test_alpha.py": CODE,
            "alpha/data.txt": LONG,
            "alpha-1.0.dist-info/LICENSE.md": LONG,
            "../../bin/alpha.py": CODE,
        },
        about=f"License-Expression: MIT\nDescription-Content-Type: text/markdown\n\n# Alpha\n\n{LONG}\n",
        listed="alpha/gone.py",
    )
    broken, half = f'print "old"\n"""{LONG}"""', f'"""{LONG} \\ud800"""'
    license = "License: The text\n        of the licence\n        itself\n"
    install(site, "Beta", {"beta/old.py": broken, "beta/half.py": half}, about=license)
    return site


def test_documents_are_descriptions_guides_and_docstrings_of_packages(site: Path, tmp_path: Path) -> None:
    made = make.write(tmp_path / "out.jsonl", make.installed([str(site)]), 1_000_000)

    found = lines(tmp_path / "out.jsonl")
    assert [(one["kind"], one["name"]) for one in found] == [
        ("readme", "alpha"),
        ("guide", "alpha/guide.md"),
        ("docstring", "alpha"),
        ("docstring", "alpha.Thing"),
        ("docstring", "alpha.Thing.turn"),
        ("docstring", "alpha.Thing.turn.inner"),
        ("docstring", "alpha.conditional"),
    ]
    assert {(one["package"], one["version"], one["license"]) for one in found} == {("alpha", "1.0", "MIT")}
    assert found[1]["text"] == f"# Guide\n\n{LONG}é"
    assert found[3]["text"] == f"A thing. {LONG}".strip()
    assert (made.unparsed, made.not_unicode) == (1, 2)
    assert made.documents == {"readme": 1, "guide": 1, "docstring": 5}
    assert made.num_bytes == sum(len(one["text"].encode()) for one in found)


def test_a_licence_that_is_not_named_in_a_line_is_null(site: Path) -> None:
    assert [package.license for package in make.installed([str(site)])] == ["MIT", None]


def test_no_package_has_more_than_its_share_and_it_ends_at_the_bytes_asked_for(tmp_path: Path) -> None:
    for number in range(20):
        code = "\n".join(f'def f{i}():\n    """{number} {i}. {LONG}"""' for i in range(9))
        install(tmp_path / "site", f"package{number}", {f"package{number}.py": code})
    made = make.write(tmp_path / "out.jsonl", make.installed([str(tmp_path / "site")]), 10_000)

    assert 10_000 <= made.num_bytes < 10_000 + 2 * len(LONG)
    assert max(made.bytes_of.values()) <= 1_000


def test_the_packages_of_this_environment_give_equal_bytes_twice(tmp_path: Path) -> None:
    program = [sys.executable, make.__file__]
    for name in ("a.jsonl", "b.jsonl"):
        done = subprocess.run(
            [*program, str(tmp_path / name), "--megabytes", "0.3"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    found = lines(tmp_path / "a.jsonl")
    assert sum(len(one["text"].encode()) for one in found) >= 300_000
    assert len({one["package"] for one in found}) >= 10
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "b.jsonl"}


def data_files(folder: Path, adjective: str) -> Path:
    licence = "  1 This software and database is being provided to you, the LICENSEE, by  \n"
    entries = {
        "noun": '00001930 03 n 02 physical_entity 0 thing 1 001 @ 00001740 n 0000 | that "which" is | so  \n',
        "verb": "00001740 29 v 01 breathe 0 000 01 + 02 00 | draw air into the lungs  \n",
        "adj": adjective,
        "adv": "00001740 02 r 01 a_cappella 0 000 | without musical accompaniment  \n",
    }
    for part, entry in entries.items():
        (folder / f"data.{part}").write_text(licence + entry, "utf-8")
    return folder


def wordnet_of(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, wordnet.__file__, str(folder), str(out)]
    return subprocess.run(program, capture_output=True, text=True)


def test_a_gloss_of_wordnet_is_a_document(tmp_path: Path) -> None:
    folder = data_files(tmp_path, "00003131 00 s 01 adducent(p) 0 000 | especially of muscles  \n")
    assert wordnet_of(folder, tmp_path / "out.jsonl").returncode == 0

    assert lines(tmp_path / "out.jsonl") == [
        {"text": 'physical entity, thing: that "which" is | so', "part": "noun", "id": "noun/00001930"},
        {"text": "breathe: draw air into the lungs", "part": "verb", "id": "verb/00001740"},
        {"text": "adducent: especially of muscles", "part": "adjective", "id": "adjective/00003131"},
        {"text": "a cappella: without musical accompaniment", "part": "adverb", "id": "adverb/00001740"},
    ]


def test_a_line_that_is_no_entry_of_wordnet_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    done = wordnet_of(data_files(tmp_path, "00003131 00 s zz adducent\n"), tmp_path / "out.jsonl")

    assert done.returncode == 1
    assert f"line 2 of {tmp_path / 'data.adj'} is no entry of WordNet" in done.stderr
    assert not list(tmp_path.glob("*.jsonl*")) + list(tmp_path.glob(".*"))
