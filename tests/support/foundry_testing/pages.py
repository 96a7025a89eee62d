"""Pages of documentation, run as a reader runs them: in an empty folder, in the order of the page."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from robot_foundry.cli import foundry_data, foundry_eval, foundry_train
from robot_foundry.cli.output import run

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS: Mapping[str, click.Group] = {
    module.PROGRAM: module.group for module in (foundry_data, foundry_eval, foundry_train)
}


def run_page(page: str, folder: Path, less: Mapping[str, str], patch: pytest.MonkeyPatch) -> int:
    """Run every fenced command and program of a page; AssertionError says which failed. How many blocks ran.

    `less` has arguments that make whole corpora and runs small, by how the commands begin to which they are
    added.
    """
    enter(folder, patch)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    unused = set(less)
    for language, text in blocks:
        if language == "python":
            run_program(text, page)
            continue
        for command in text.splitlines():
            begins = [begin for begin in less if command.startswith(begin)]
            unused.difference_update(begins)
            run_command(" ".join([command, *(less[begin] for begin in begins)]))
    assert not unused, f"{page} has no command that begins with {unused}"
    return len(blocks)


def fences(page: str) -> int:
    """How many fenced blocks a page has, of any language."""
    return len(re.findall(r"^```", (ROOT / page).read_text("utf-8"), re.MULTILINE)) // 2


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Be in this folder as a reader is: with the examples, the programs, and no store that is named."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    patch.chdir(folder)
    patch.delenv("FOUNDRY_STORE", raising=False)
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def run_command(command: str) -> str:
    """What a command prints, which must succeed.

    Programs of the product run in this process, which spares importing what they need for each.
    """
    program, *arguments = shlex.split(command, comments=True)
    if program in PROGRAMS:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(PROGRAMS[program], program, arguments)
        assert code == 0, f"{command}\n{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_program(text: str, page: str) -> str:
    """What a program of a page prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, page, "exec"), {"__name__": "__main__"})
    return out.getvalue()


def missing_links(page: str) -> list[str]:
    """Files and headings that a page links to and that are not there."""
    here = ROOT / page
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text("utf-8")):
        file, _, heading = target.partition("#")
        linked = here.parent / file if file else here
        if not linked.exists() or (heading and heading not in _headings(linked)):
            missing.append(target)
    return missing


def _headings(page: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}
