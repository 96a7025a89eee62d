"""Code that serves all kinds of data names none of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Where robots are named all the same: in the registry, in the name of a way to split, which mixtures have in
# their ids, for a spec whose layout, and so its kind, is unknown, and in what one tells of a public source.
NAMED = {
    "catalog/kind.py": ["robot", "robot", ".catalog.robot", ".ingest.robot", ".loader.robot"],
    "catalog/mixture.py": ["episode"],
    "catalog/selection.py": ["episode"] * 3,
    "cli/data/mix.py": ["episode"],
    "ingest/spec/about.py": ["robot", "episodes", "robot", "episodes", "episodes", "robot"],
    "ingest/spec/spec_files.py": ["ROBOT", "ROBOT"],
}
OF_ROBOTS = {f"cli/data/{name}.py" for name in ("inspect", "remap", "sources", "topics")}
NEUTRAL = [
    str(path.relative_to(ROOT))
    for room in (
        "catalog",
        "catalog/query",
        "catalog/validation",
        "ingest",
        "ingest/files",
        "ingest/shards",
        "ingest/spec",
        "ingest/tables",
        "loader",
        "shards",
        "cli/data",
    )
    for path in sorted((ROOT / room).glob("*.py"))
    if str(path.relative_to(ROOT)) not in OF_ROBOTS
]


@pytest.mark.parametrize("path", NEUTRAL)
def test_code_that_serves_all_kinds_names_nothing_of_one(path: str) -> None:
    """Docstrings may say what robots have; names and texts of the code may not."""
    tree = ast.parse((ROOT / path).read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    words = []
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        fields = [value for _, value in ast.iter_fields(node) if isinstance(value, str)]
        words += [re.sub("robot[_-]foundry", "", word) for word in fields]
    parts = ("episode", "frame", "camera", "robot")
    assert [w for w in words if any(part in w.lower() for part in parts)] == NAMED.get(path, [])
