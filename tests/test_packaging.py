import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import robot_foundry

ROOT = Path(__file__).parent.parent
NOT_PACKAGED = {"tests", "examples", "benchmarks", "docs"}


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(name) for name in listed.stdout.split("\0") if name]
    return [path for path in paths if (ROOT / path).exists() and path.parts[0] not in NOT_PACKAGED]


def test_the_packages_are_the_folders_with_python_files():
    with (ROOT / "pyproject.toml").open("rb") as file:
        packaged = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in tracked_files() if path.suffix == ".py"}

    assert sorted(packaged) == sorted(".".join(("robot_foundry", *folder.parts)) for folder in folders)
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the tracked files alone, so that nothing left in the checkout can slip into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)])
    return next(out.glob("*.whl"))


def pip(arguments: list[str]) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index"]
    python(["-m", "pip", arguments[0], *quiet, *arguments[1:]])


def python(arguments: list[str], **where: Any) -> str:
    """The output of a Python process that must succeed."""
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **where)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel):
    packed = names_in(wheel)
    data = {"recipes", "evaluation/suites", "ingest/specs", "ingest/specs/oxe", "ingest/mixtures"}
    wanted = {
        path.as_posix()
        for path in tracked_files()
        if path.suffix == ".py" or path.parent.as_posix() in data or path.name == "py.typed"
    }
    assert packed == {f"robot_foundry/{path}" for path in wanted}


def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    pip(["install", "--no-deps", "--target", str(site), str(wheel)])
    environment = {**os.environ, "PYTHONPATH": str(site)}

    for program in ("foundry-data", "foundry-train", "foundry-eval"):
        shown = python([str(site / "bin" / program), "--version"], cwd=tmp_path, env=environment)
        assert shown == f"{program} {robot_foundry.__version__}\n"
    code = "import robot_foundry.catalog as catalog; print(catalog.__file__)"
    located = python(["-c", code], cwd=tmp_path, env=environment)
    assert Path(located.strip()).is_relative_to(site)
    assert sorted(path.name for path in site.iterdir() if path.name != "bin") == [
        "robot_foundry",
        f"robot_foundry-{robot_foundry.__version__}.dist-info",
    ]


def test_what_is_sent_to_a_cluster_is_what_the_wheel_holds(wheel, tmp_path):
    """From a checkout too, with all that lies about in it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    for stray in (
        "tests/test_it.py",
        "store/cache/probe",
        "runs/first/config.yaml",
        "params.yaml",
        "data.npz",
    ):
        place = tmp_path / "robot_foundry" / stray
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    code = (
        "from robot_foundry.runtime.distributed.shipping import package_copy\n"
        "with package_copy() as copy:\n"
        "    files = [path for path in copy.rglob('*') if path.is_file()]\n"
        "    print(*(path.relative_to(copy.parent) for path in files), sep='\\n')\n"
        "assert not copy.exists()"
    )
    sent = python(["-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert set(sent.splitlines()) == names_in(wheel)


def test_the_public_names_are_found_lazily():
    code = (
        "import sys, robot_foundry as rf\n"
        "print([name for name in ('numpy', 'pyarrow', 'torch') if name in sys.modules])\n"
        "print(rf.open.__module__, rf.load.__module__)"
    )
    assert python(["-c", code]).splitlines() == [
        "[]",
        "robot_foundry.loader.open robot_foundry.loader.load",
    ]
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = robot_foundry.lod
