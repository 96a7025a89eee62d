"""Make a corpus of English prose out of what is installed: descriptions, guides and docstrings of packages.

    python examples/corpus/make.py corpus.jsonl
    foundry-data ingest text corpus.jsonl --as corpus

A line is a document: its `text`, and of it `kind` (`readme`, `guide`, `docstring`), `package`, `version`,
`license` (null where the package does not say it in a line) and `name`, the file or the qualified name.
Nothing is fetched, and no code of a package is run. Descriptions and guides come first, then docstrings of
files in the order of their hashes, so that a corpus of any size is a fair sample. Equal environments and
arguments give equal bytes. Documents that are there twice stay: leaving them out is the work of ingest.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import json
import os
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

GUIDES, CODE = (".md", ".rst"), (".py",)
TESTS = {"test", "tests"}
LEGAL = ("license", "licence", "copying", "notice", "authors", "third")
SHORTEST = 200  # characters of a document
LARGEST_SHARE = 10  # no package has more than one part of so many of the bytes asked for
LONGEST_LICENSE = 60  # characters; what is longer is its text


@dataclass(frozen=True)
class Package:
    """What is read of an installed package; `files` are relative to `root`."""

    name: str
    version: str
    license: str | None
    readme: str
    root: Path
    files: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A line of the corpus."""

    text: str
    kind: str
    package: str
    version: str
    license: str | None
    name: str


@dataclass
class Made:
    """What was written: bytes by package, documents by kind. And what could not be: files that are not Python
    of this version, and texts that are not UTF-8 or that it cannot hold: half a surrogate pair."""

    bytes_of: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    unparsed: int = 0
    not_unicode: int = 0

    @property
    def num_bytes(self) -> int:
        return self.bytes_of.total()


def installed(paths: list[str] | None = None) -> list[Package]:
    """The packages on `paths` by name, by default those of this environment with the standard library."""
    found: dict[str, Package] = {}
    for each in metadata.distributions(path=sys.path if paths is None else paths):
        package = _package(each)
        if package is not None:
            found.setdefault(package.name, package)  # what comes first on the path is what is imported
    if paths is None:
        found["python"] = _standard_library()
    return [found[name] for name in sorted(found)]


def _package(distribution: metadata.Distribution) -> Package | None:
    """None where it does not say its name."""
    about = distribution.metadata
    if not about or not about["Name"]:
        return None
    license = str(about.json.get("license_expression") or about.json.get("license") or "")
    named = 0 < len(license) <= LONGEST_LICENSE and "\n" not in license
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    files = tuple(sorted(row[0] for row in rows if row and _is_wanted(row[0])))
    readme = str(about.json.get("description", "")).strip()
    root = Path(str(distribution.locate_file("")))
    return Package(
        about["Name"].lower(), distribution.version, license if named else None, readme, root, files
    )


def _standard_library() -> Package:
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "site-packages"]
        files += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    version = sysconfig.get_python_version()
    return Package("python", version, "PSF-2.0", "", root, tuple(sorted(filter(_is_wanted, files))))


def _is_wanted(file: str) -> bool:
    """Guides and code of the package itself, no tests and no licences."""
    path = Path(file)
    if path.is_absolute() or ".." in path.parts or TESTS.intersection(path.parts):
        return False
    return path.suffix in CODE or (path.suffix in GUIDES and not path.name.lower().startswith(LEGAL))


def prose(package: Package) -> Iterator[Document]:
    """The description of a package, and its guides."""
    of = package.name, package.version, package.license
    if package.readme:
        yield Document(package.readme, "readme", *of, name=package.name)
    for file in package.files:
        data = _read(package.root / file) if file.endswith(GUIDES) else None
        if data is not None:
            yield Document(data.decode("utf-8", "surrogateescape").strip(), "guide", *of, name=file)


def docstrings(package: Package, file: str) -> list[Document] | None:
    """Those of a file, in its order; None where it is not Python of this version."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    data = _read(package.root / file)
    if data is None or b'"""' not in data:
        return []
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in other people's code
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):
        return None
    of = package.name, package.version, package.license
    return [Document(text, "docstring", *of, name=name) for name, text in _docstrings(tree, module)]


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Qualified names and docstrings of `node`, which is called `name`, and of all that is defined in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield name, text.strip()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _docstrings(child, name)


def _read(path: Path) -> bytes | None:
    """None where a file that the package lists is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def candidates(packages: Sequence[Package], made: Made) -> Iterator[Document]:
    """All documents, in the order of the corpus. Files that cannot be parsed are counted in `made`."""
    for package in packages:
        yield from prose(package)
    code = [(package, file) for package in packages for file in package.files if file.endswith(CODE)]
    for package, file in sorted(code, key=lambda one: _hash(f"{one[0].name}/{one[1]}")):
        found = docstrings(package, file)
        made.unparsed += found is None
        yield from found or ()


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def write(path: Path, packages: Sequence[Package], num_bytes: int) -> Made:
    """Write documents, JSON lines, until their texts have `num_bytes` or nothing is left."""
    made = Made()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("wb") as file:
        for document in candidates(packages, made):
            if made.num_bytes >= num_bytes:
                break
            try:
                size = len(document.text.encode())
            except UnicodeEncodeError:
                made.not_unicode += 1
                continue
            of_package = made.bytes_of[document.package] + size
            if len(document.text) < SHORTEST or of_package > num_bytes // LARGEST_SHARE:
                continue
            made.bytes_of[document.package] = of_package
            made.documents[document.kind] += 1
            file.write(json.dumps(asdict(document), ensure_ascii=False).encode() + b"\n")
    os.replace(unfinished, path)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the file to write, JSON lines")
    parser.add_argument("--megabytes", type=float, default=12, help="of text (default 12)")
    arguments = parser.parse_args()
    asked = int(arguments.megabytes * 1e6)
    made = write(arguments.out, installed(), asked)
    counts = ", ".join(f"{count:,} of kind {kind}" for kind, count in sorted(made.documents.items()))
    total = f"{made.num_bytes / 1e6:.1f} MB of text in {made.documents.total():,} documents"
    print(f"{arguments.out}: {total}: {counts}")
    if made.unparsed or made.not_unicode:
        left_out = f"{made.unparsed} files not of this Python, {made.not_unicode} texts without UTF-8"
        print(f"left out: {left_out}", file=sys.stderr)
    if made.num_bytes < asked:
        print(f"{asked / 1e6:.1f} MB were asked for: this environment has no more", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
