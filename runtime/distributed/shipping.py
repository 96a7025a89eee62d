"""A copy of this package alone, for the nodes of a cluster to import."""

from __future__ import annotations

import hashlib
import pkgutil
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NAME = "robot_foundry"
ROOT = Path(__file__).parents[2]
# Beside the modules. A test holds the copy equal to what the wheel packs.
DATA = (
    "py.typed",
    "ingest/specs/*.yaml",
    "ingest/specs/oxe/*.yaml",
    "ingest/mixtures/*.yaml",
    "recipes/*.yaml",
    "evaluation/suites/*.yaml",
)


@contextmanager
def package_copy() -> Iterator[Path]:
    """A temporary folder called robot_foundry with every module and data file of this package, nothing else.

    An editable install is a checkout of any name, with tests, stores and runs in it.
    """
    with TemporaryDirectory(prefix="robot-foundry-") as folder:
        copy = Path(folder, NAME)
        for file in _files(ROOT):
            target = copy / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        yield copy


def package_digest(package: Path = ROOT) -> str:
    """Twelve hex digits that name the content of this package, or of a copy, as it lies on the disk."""
    digest = hashlib.sha256()
    for file in sorted(_files(package)):
        digest.update(f"{file.relative_to(package)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _files(package: Path) -> list[Path]:
    return [*_modules(package), *(file for pattern in DATA for file in package.glob(pattern))]


def _modules(package: Path) -> Iterator[Path]:
    """The files of a package, its modules and its packages; a folder without __init__.py is none."""
    yield package / "__init__.py"
    for module in pkgutil.iter_modules([str(package)]):
        if module.ispkg:
            yield from _modules(package / module.name)
        else:
            yield package / f"{module.name}.py"
