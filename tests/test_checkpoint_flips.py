"""One changed bit in any file of a checkpoint is found: an older one is taken and told, or it is refused."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest
from foundry_testing.soak import seeded
from foundry_testing.trainer_runs import TINY, differing, make_store, records, run, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.policy import Policy
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint, proof
from robot_foundry.trainer.checkpoints.proof import TornCheckpoint

FLIPS_A_FILE, SOAK_FLIPS = 3, 60
NEWEST, OLDER = "step-00000006", "step-00000004"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(store, tmp_path_factory.mktemp("run"))


@pytest.fixture
def run_dir(undisturbed: Any, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(undisturbed.run_dir, tmp_path / "run")


def flips(folder: Path, rng: random.Random, a_file: int) -> Iterator[str]:
    """Flip `a_file` single bits in each file of `folder`, one at a time; each is taken back."""
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for _ in range(a_file):
            flip(path, rng)
            yield path.name
            path.write_bytes(whole)


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_every_flipped_bit_is_found(run_dir: Path) -> None:
    newest, found = run_dir / "checkpoints" / NEWEST, []
    for name in flips(newest, random.Random(0), FLIPS_A_FILE):
        with pytest.warns(FoundryWarning, match=f"{NEWEST} is damaged: .*{name}.*; {OLDER} is used instead"):
            assert checkpoint.find(run_dir).name == OLDER
        with pytest.raises(FoundryError, match=f"{NEWEST} is damaged: .*{name}") as caught:
            checkpoint.find(newest)
        assert str(run_dir) in caught.value.hint
        found.append(name)
    assert len(found) >= 15 and set(found) == {path.name for path in newest.iterdir()}
    assert checkpoint.find(run_dir) == newest  # as all are taken back


def test_a_run_goes_on_from_the_last_whole_checkpoint_and_ends_in_the_same_bits(
    store: Store, undisturbed: Any, run_dir: Path
) -> None:
    flip(run_dir / "checkpoints" / NEWEST / "__0_0.distcp", random.Random(1))
    with pytest.warns(FoundryWarning, match=f"{NEWEST} is damaged.*the run goes on from {OLDER}"):
        outcome = run(store, run_dir)
    assert (outcome.resumed_from, outcome.step) == (4, 6)
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []
    assert records(run_dir) == records(undisturbed.run_dir)
    (event,) = checkpoint.read_json(outcome.checkpoint, "lineage.json")["events"]
    assert event["step"] == 4 and f"{NEWEST} is damaged" in event["event"]
    assert checkpoint.find(run_dir) == outcome.checkpoint  # the damaged one was replaced


def test_a_policy_of_a_run_falls_back_and_one_of_a_checkpoint_is_refused(run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / NEWEST
    (newest / "config.yaml").write_bytes(b"")
    with pytest.warns(FoundryWarning, match=f"config.yaml has 0 bytes in place of .*{OLDER} is used"):
        Policy.load(run_dir)
    pointer = run_dir / "policy.json"
    checkpoint.write_pointer(pointer, newest)
    for named in (newest, pointer):
        with pytest.raises(TornCheckpoint, match=f"{NEWEST} is damaged: config.yaml has 0 bytes"):
            Policy.load(named)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda newest, older: (newest / ".metadata").unlink(), r"\.metadata is missing"),
        (lambda newest, older: (newest / "state.json").unlink(), "state.json is missing"),
        (lambda newest, older: (newest / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda newest, older: os.truncate(newest / "__0_0.distcp", 100), "__0_0.distcp has 100 bytes"),
        (lambda newest, older: shutil.copy(older / "__0_0.distcp", newest), "the bytes of __0_0.distcp have"),
        (lambda newest, older: shutil.copy(older / "manifest.json", newest), "the bytes of .* have changed"),
        (
            lambda newest, older: shutil.copytree(older, newest, dirs_exist_ok=True),
            "the checkpoint of step 4",
        ),
        (lambda newest, older: [path.unlink() for path in newest.iterdir()], "manifest.json is missing"),
    ],
)
def test_what_is_missing_or_of_another_checkpoint_is_named(run_dir: Path, damage: Any, told: str) -> None:
    newest, older = (run_dir / "checkpoints" / name for name in (NEWEST, OLDER))
    damage(newest, older)
    with pytest.warns(FoundryWarning, match=told):
        assert checkpoint.find(run_dir) == older


def test_files_that_the_manifest_does_not_name_change_nothing(run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / NEWEST
    (newest / "notes.txt").write_text("good one")
    (newest / "__9_0.distcp").write_bytes(b"?")
    assert checkpoint.find(run_dir) == newest


def test_the_manifest_holds_what_another_tool_computes(undisturbed: Any) -> None:
    told = json.loads((undisturbed.checkpoint / "manifest.json").read_text())
    files = {path.name: path.read_bytes() for path in undisturbed.checkpoint.iterdir()}
    del files["manifest.json"]
    assert told["files"] == {
        name: {"blake3": blake3.blake3(data).hexdigest(), "size": len(data)} for name, data in files.items()
    }


def test_a_damaged_copy_outside_of_a_run_is_not_said_to_have_one(run_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_dir / "checkpoints" / NEWEST, tmp_path / "kept" / "best")
    (copy / "config.yaml").write_bytes(b"")
    with pytest.raises(TornCheckpoint) as caught:
        checkpoint.find(copy)
    assert caught.value.hint is None


def test_a_checkpoint_of_a_newer_format_is_refused_and_not_passed_over(store: Store, run_dir: Path) -> None:
    newest = run_dir / "checkpoints" / NEWEST
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, "format": state["format"] + 1}))
    listed = proof.entries(newest, [path.name for path in newest.iterdir() if path.name != "manifest.json"])
    (newest / "manifest.json").write_text(proof.manifest_text(listed))
    for attempt in (lambda: run(store, run_dir), lambda: Policy.load(newest)):
        with pytest.raises(FoundryError, match=f"{NEWEST} has the format 3, this version reads up to 2"):
            attempt()


def test_where_no_checkpoint_is_whole_nothing_starts_anew(store: Store, run_dir: Path) -> None:
    for folder in (run_dir / "checkpoints").iterdir():
        flip(folder / ".metadata", random.Random(2))
    with pytest.raises(FoundryError, match="no checkpoint of .* is whole: .*step-00000006.*step-00000002"):
        run(store, run_dir)
    with pytest.raises(FoundryError, match="is whole"):
        Policy.load(run_dir)


def test_a_file_that_cannot_be_read_is_not_called_damaged(
    store: Store, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older checkpoint is no answer to a disk or a permission that can be mended."""
    real = proof.content_hash

    def refused(root: str, path: str) -> str:
        if path == ".metadata":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(root, path)

    monkeypatch.setattr(proof, "content_hash", refused)
    for attempt in (lambda: run(store, run_dir), lambda: Policy.load(run_dir)):
        with pytest.raises(
            FoundryError, match=r"step-00000006/\.metadata cannot be read: Permission"
        ) as caught:
            attempt()
        assert not isinstance(caught.value, TornCheckpoint)


def test_a_checkpoint_older_than_manifests_is_used_and_it_is_said(store: Store, run_dir: Path) -> None:
    for folder in (run_dir / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
        state = json.loads((folder / "state.json").read_text())
        kept = {name: state[name] for name in ("step", "identity", "skipped", "streak")}
        (folder / "state.json").write_text(json.dumps(kept))
    with pytest.warns(FoundryWarning, match="nothing proves that it is whole"):
        assert run(store, run_dir, "run.steps=7").resumed_from == 6
    assert checkpoint.find(run_dir).name == "step-00000007"


def test_the_last_whole_checkpoint_outlives_damaged_ones_beyond_it(store: Store, run_dir: Path) -> None:
    for name in (NEWEST, OLDER):
        flip(run_dir / "checkpoints" / name / "state.json", random.Random(3))
    with pytest.warns(FoundryWarning), pytest.raises(FoundryError, match="at step 2 already"):
        run(store, run_dir, "run.steps=1", "run.keep_last=1")
    with pytest.warns(FoundryWarning):
        run(store, run_dir, "run.steps=3", "run.keep_last=1")
    assert sorted(path.name for path in (run_dir / "checkpoints").iterdir()) == [
        "step-00000003",
        OLDER,
        NEWEST,
    ]
    with pytest.warns(FoundryWarning):
        assert checkpoint.find(run_dir).name == "step-00000003"


@pytest.mark.soak
def test_flipped_bits_of_every_file_end_in_the_same_weights(
    store: Store, undisturbed: Any, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Through the command line: each falls back, says so, and ends in the weights of the undisturbed run."""
    rng = seeded(pytestconfig)
    names = sorted(path.name for path in undisturbed.checkpoint.iterdir())
    where = ("data.mix=lift", f"data.store={store.url}")
    copies = [shutil.copytree(undisturbed.run_dir, tmp_path / str(number)) for number in range(SOAK_FLIPS)]
    for number, run_dir in enumerate(copies):
        flip(run_dir / "checkpoints" / NEWEST / names[number % len(names)], rng)
    phases = [{"size": 1, "arguments": ["vla", *TINY, *where, f"run.dir={run_dir}"]} for run_dir in copies]
    done = run_phases(phases, timeout=None)
    assert json.loads(done.stdout.splitlines()[-1]) == [[0]] * SOAK_FLIPS, done.stderr
    texts = done.stderr.split("== a phase\n")[1:]
    for run_dir, text in zip(copies, texts, strict=True):
        assert f"Warning: the checkpoint {run_dir}/checkpoints/{NEWEST} is damaged" in text
        assert "Traceback" not in text
        assert differing(checkpoint.find(run_dir), undisturbed.checkpoint) == []
