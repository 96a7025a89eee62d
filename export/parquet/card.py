"""README.md of a folder of tables: what they are, and which files are which table.

Hugging Face datasets reads the head of it: load_dataset(folder, "frames").
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from robot_foundry.catalog.components import Component

NAME = "README.md"


def text(component: Component, tables: Mapping[str, str]) -> str:
    """`tables` are the patterns of files by the name of the table; the first is the default."""
    lines = ["---", "configs:"]
    for number, (table, pattern) in enumerate(tables.items()):
        lines += [f"- config_name: {table}", f"  data_files: {json.dumps(pattern)}"]
        lines += ["  default: true"] * (number == 0)
    selection = ", ".join(f"{name} {value}" for name, value in sorted(component.selection.items()))
    lines += ["---", "", f"# {component.dataset}", ""]
    lines += [f"Version `{component.version_id}`, {selection}.", ""]
    lines += [f"- `{pattern}`: {table}" for table, pattern in tables.items()]
    return "\n".join(lines) + "\n"
