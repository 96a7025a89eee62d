"""Minutes of kills at random places: what comes out is what an undisturbed run gives. `make soak` runs this.

The seed is printed; FOUNDRY_SOAK_SEED repeats a slice.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from foundry_testing.soak import seeded

ROOT = Path(__file__).resolve().parent.parent
POINTS = (
    "shard-tar-written",
    "shard-done",
    "tables-done",
    "storage-before-rename",
    "storage-before-link",
    "storage-after-link",
    "commit-before-manifest",
    "commit-after-manifest",
    "commit-after-ref",
)
INGESTS, STEPS, MOST_KILLS = 12, 40, 12

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def rng(pytestconfig: pytest.Config) -> random.Random:
    return seeded(pytestconfig)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    from make_robomimic import make

    for seed in range(4):
        make(folder / f"{seed}.hdf5", seed=seed, episodes=3, frames=20, size=32)
    return folder


def run(command: list[str], folder: Path, kill: str | None = None) -> tuple[int, str]:
    programs = Path(sys.executable).parent
    env = {**os.environ, "OMP_NUM_THREADS": "1", "FOUNDRY_STORE": "store"}
    env |= {"FOUNDRY_KILL_AT": kill} if kill else {}
    done = subprocess.run(
        [str(programs / command[0]), *command[1:]], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    )
    return done.returncode, done.stdout


def contents(store: Path) -> dict[str, str]:
    """Hashes of all that a version is made of; manifests tell times, so their ids stand for them."""
    found = {}
    for path in sorted(store.glob("shards/**/*")) + sorted(store.glob("datasets/*/*/**/*.arrow")):
        if path.is_file() and not path.name.startswith(".tmp-"):
            found[str(path.relative_to(store))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found | {
        f"{path.parent.name} is committed": "" for path in store.glob("datasets/*/*/manifest.json")
    }


def test_ingest_killed_again_and_again(rng: random.Random, source: Path, tmp_path: Path) -> None:
    command = ["foundry-data", "ingest", "robomimic", str(source), "--as", "reach"]
    calm = tmp_path / "calm"
    calm.mkdir()
    assert run(command, calm)[0] == 0
    expected = contents(calm / "store")
    for trial in range(INGESTS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        for _ in range(rng.randint(1, 4)):
            kill = f"{rng.choice(POINTS)}:{rng.randint(1, 4)}"
            code, _ = run(command, folder, kill)
            assert code in (0, -signal.SIGKILL), kill
        assert run(command, folder)[0] == 0
        assert contents(folder / "store") == expected


def test_training_killed_again_and_again(rng: random.Random, source: Path, tmp_path: Path) -> None:
    assert run(["foundry-data", "ingest", "robomimic", str(source), "--as", "reach"], tmp_path)[0] == 0
    settings = ["data.mix=reach", f"run.steps={STEPS}", "run.save_every=4", "run.eval_samples=16"]
    base = ["foundry-train", "vla", *settings, "--nproc", "2", "--json"]
    code, printed = run([*base, "run.dir=runs/calm"], tmp_path)
    assert code == 0
    expected = json.loads(printed)["weights"]
    for _ in range(MOST_KILLS):
        code, printed = run([*base, "run.dir=runs/killed"], tmp_path, f"train-step:{rng.randint(5, 20)}")
        if code == 0:
            break
    else:
        code, printed = run([*base, "run.dir=runs/killed"], tmp_path)
    assert code == 0
    assert json.loads(printed)["weights"] == expected
