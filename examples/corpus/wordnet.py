"""Make a corpus of the glosses of WordNet: 117,659 short definitions, most with examples.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet    # Debian; needs no root
    python examples/corpus/wordnet.py wordnet/usr/share/wordnet wordnet.jsonl
    foundry-data ingest text wordnet.jsonl --as wordnet

A line is a document: its `text`, `words: gloss`, and of it `part`, the part of speech, and `id`, its place.
A line of a data file that is no entry ends the work with its place: see `man 5wn wndb` for their form.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
MARKER = re.compile(r"\((a|p|ip)\)$")  # where an adjective may stand


def documents(path: Path, part: str) -> Iterator[dict[str, str]]:
    """The entries of a data file; ValueError with the place of a line that is none."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("  "):  # the licence
            continue
        entry, bar, gloss = line.partition(" | ")
        fields = entry.split(" ")
        try:
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        except (IndexError, ValueError):
            words = []
        if not bar or not words:
            raise ValueError(f"line {number} of {path} is no entry of WordNet")
        named = ", ".join(MARKER.sub("", word).replace("_", " ") for word in words)
        yield {"text": f"{named}: {gloss.strip()}", "part": part, "id": f"{part}/{fields[0]}"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where data.noun, data.verb, data.adj and data.adv are")
    parser.add_argument("out", type=Path, help="the file to write, JSON lines")
    arguments = parser.parse_args()
    unfinished = arguments.out.with_name(f".{arguments.out.name}.part")
    count = 0
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for suffix, part in PARTS.items():
                for document in documents(arguments.folder / f"data.{suffix}", part):
                    file.write(json.dumps(document, ensure_ascii=False) + "\n")
                    count += 1
    except (OSError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        print(f"Error: {error}", file=sys.stderr)
        return 1
    os.replace(unfinished, arguments.out)
    print(f"{arguments.out}: {count:,} glosses")
    return 0


if __name__ == "__main__":
    sys.exit(main())
