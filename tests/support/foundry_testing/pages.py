"""Pages of documentation, run as a reader runs them: the programs, in an empty folder, in the order of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run_page(page: str, folder: Path, less: Mapping[str, str]) -> None:
    """Run every fenced command and program of a page; AssertionError says which failed.

    `less` has arguments that make whole corpora and runs small, by how the command begins to which they are added.
    """
    shutil.copytree(ROOT / "examples", folder / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    env.pop("FOUNDRY_STORE", None)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    unused = set(less)
    for language, text in blocks:
        for command in text.splitlines() if language == "bash" else [text]:
            begins = [begin for begin in less if command.startswith(begin)]
            unused.difference_update(begins)
            shorter = " ".join([command, *(less[begin] for begin in begins)])
            arguments = ["bash", "-c", shorter] if language == "bash" else [sys.executable, "-c", text]
            done = subprocess.run(arguments, cwd=folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{shorter}\n{done.stdout}\n{done.stderr}"
    assert not unused, f"{page} has no command that begins with {unused}"


def missing_links(page: str) -> list[str]:
    """Files and headings that a page links to and that are not there."""
    here = ROOT / page
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text("utf-8")):
        file, _, heading = target.partition("#")
        if target.startswith("https://"):
            continue
        linked = here.parent / file if file else here
        if not linked.exists() or (heading and heading not in _headings(linked)):
            missing.append(target)
    return missing


def _headings(page: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}
