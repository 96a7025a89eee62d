"""Copies of checkpoints in an object store: whole or not there, and another machine goes on from them."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.llm_runs import make_store, run, tiny
from foundry_testing.s3_bucket import s3_bucket
from foundry_testing.trained_tasks import LLM
from foundry_testing.trainer_runs import differing, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.runtime.errors import EXIT_OK, FoundryError, FoundryWarning, UsageError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.replica import CACHED, Replica

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(store, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket() as url:
        yield url


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(url: str) -> set[str]:
    """The folders of copies, whether anything names them or not."""
    return {path.partition("/")[0] for path in open_storage(url).list() if "/" in path}


def test_a_copy_that_was_cut_off_is_not_there_and_another_machine_goes_on(
    store: Store, undisturbed: Any, bucket: str, tmp_path: Path
) -> None:
    """Two ranks copy the files that they wrote; one process, which finds nothing here, goes on."""
    url, run_dir = f"{bucket}/runs/cut", tmp_path / "cut"

    asked = (f"run.checkpoints={url}", "run.steps=8")

    def phase(size: int, kill: str | None = None) -> dict[str, Any]:
        return {"size": size, "arguments": LLM.arguments(store, run_dir, *asked), "kill": kill}

    done = run_phases(
        [
            phase(1, "checkpoint-file-copied:2"),
            phase(1, "checkpoint-copied-not-named"),
            phase(2),
        ]
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == [[KILLED], [KILLED], [0, 0]], done.stderr
    copies = Replica(url)
    assert copies.steps().keys() == {6, 8}  # those of 2 and 4 were cut off, from where the run went on
    assert len(files_of(url)) == 2
    parts = [path.rpartition("/")[2] for path in open_storage(url).list() if path.endswith(".distcp")]
    assert sorted(parts) == sorted(["__0_0.distcp", "__1_0.distcp"] * 2)

    copies.remove(8)
    elsewhere = tmp_path / "elsewhere"
    with pytest.warns(FoundryWarning, match="ranks 2 there and 1 here"):
        outcome = run(store, elsewhere, *asked)
    assert outcome.resumed_from == 6
    here, there = (where / "checkpoints" / "step-00000006" for where in (elsewhere, run_dir))
    assert differing(here, there) == []
    assert [record["step"] for record in records(elsewhere) if "loss" in record] == [7, 8]


def test_what_is_kept_there_is_what_is_kept_here_and_a_flipped_bit_is_told(
    store: Store, undisturbed: Any, bucket: str, tmp_path: Path, cache: Path
) -> None:
    url = f"{bucket}/runs/kept"
    asked = (f"run.checkpoints={url}", "run.keep_last=2")
    outcome = run(store, tmp_path / "run", *asked)
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []
    assert Replica(url).steps().keys() == checkpoint.complete(tmp_path / "run").keys() == {4, 6}
    assert differing(checkpoint.find(url), undisturbed.checkpoint) == []

    storage = open_storage(url)
    [path] = [path for path in storage.list() if path.startswith("step-00000006-") and "__0" in path]
    data = bytearray(storage.read_bytes(path))
    data[len(data) // 2] ^= 1
    storage.write(path, bytes(data))
    shutil.rmtree(cache)
    with pytest.warns(FoundryWarning, match=f"{url}/step-00000006 is damaged: the bytes of __0_0"):
        assert checkpoint.find(url).name == "step-00000004"
    with pytest.raises(FoundryError, match="the bytes of __0_0.distcp have changed"):
        checkpoint.find(f"{url}/step-00000006")
    shutil.rmtree(tmp_path / "run")
    with pytest.warns(FoundryWarning, match="step-00000006 is damaged.*the run goes on from step-00000004"):
        again = run(store, tmp_path / "run", *asked)
    assert (again.resumed_from, again.weights) == (4, outcome.weights)
    shutil.rmtree(cache)
    assert checkpoint.find(Path(f"{url}/step-00000006")).name == "step-00000006"  # it was written anew


def test_weights_begin_at_a_url_and_the_cache_keeps_few(
    store: Store, bucket: str, tmp_path: Path, cache: Path
) -> None:
    url = f"{bucket}/runs/many"
    asked = ("run.steps=5", "run.save_every=1", "run.keep_last=5", f"run.checkpoints={url}")
    first = run(store, tmp_path / "run", *asked)
    for step in range(1, 6):
        assert checkpoint.find(f"{url}/step-{step:08d}").name == f"step-{step:08d}"
    assert len(list(cache.glob("**/.metadata"))) == CACHED
    from_url = run(store, tmp_path / "next", "run.steps=1", f"init.weights={url}")
    from_run = run(store, tmp_path / "same", "run.steps=1", f"init.weights={first.run_dir}")
    assert from_url.weights == from_run.weights
    out = tmp_path / "out"
    command = ["export", url, str(out), "--format", "safetensors"]
    assert run_command(group, "foundry-train", command) == EXIT_OK
    assert (out / "model.safetensors").exists() and not Path("s3:").exists()


def test_a_store_that_cannot_be_reached_ends_no_run_before_its_end(
    store: Store, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """It takes the first checkpoint, and then nothing more."""
    url, taken = f"{bucket}/runs/lost", []
    put = Replica.put

    def some(self: Replica, folder: str, *more: Any) -> None:
        taken.append(folder)
        if len(taken) > 1:
            raise OSError("connection reset")
        put(self, folder, *more)

    monkeypatch.setattr(Replica, "put", some)
    with (
        pytest.warns(FoundryWarning, match="step-00000004 was not copied to .*the run goes on"),
        pytest.raises(FoundryError, match="step-00000006 was not copied to .*: connection reset") as raised,
    ):
        run(store, tmp_path, f"run.checkpoints={url}")
    assert "network" in raised.value.hint
    assert Replica(url).steps().keys() == {2} and checkpoint.latest(tmp_path).name == "step-00000006"
    monkeypatch.setattr(Replica, "put", put)
    manifest = checkpoint.latest(tmp_path) / "manifest.json"
    written = manifest.stat()
    run(store, tmp_path, f"run.checkpoints={url}")  # it is finished, but for the copy
    assert Replica(url).steps().keys() == {2, 6}
    assert manifest.stat() == written, "what is whole was replaced, so a kill could have lost it"
    _replayed(tmp_path, capsys)


def _replayed(run_dir: Path, capsys: Any) -> None:
    """Verifying goes on from the checkpoint of the run that is asked for, whatever its copies are."""
    capsys.readouterr()
    assert (
        run_command(
            group, "foundry-train", ["verify", str(run_dir / "checkpoints" / "step-00000002"), "--json"]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["start"], found["records"]) == (2, [3])


def test_a_copy_of_another_run_does_not_stay(store: Store, bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/runs/lost"  # that of the run above
    with pytest.raises(FoundryError, match="cannot be resumed: seed is 0 there and 5 here") as raised:
        run(store, tmp_path, f"run.checkpoints={url}", "seed=5")
    assert "its own run.checkpoints" in raised.value.hint
    assert checkpoint.complete(tmp_path) == {}


def test_the_best_copy_stays_where_another_machine_goes_on(store: Store, bucket: str, tmp_path: Path) -> None:
    """It has no records of the steps before; what is learnt there, at this rate, is worse."""
    asked = (
        f"run.checkpoints={bucket}/runs/best",
        "run.keep_best=true",
        "run.eval_every=2",
        "run.keep_last=1",
    )
    run(store, tmp_path / "one", *asked, "optim.lr=30")
    losses = {r["step"]: r["held_out"] for r in records(tmp_path / "one") if "held_out" in r}
    best = min(losses, key=losses.__getitem__)
    assert best < 6 and Replica(asked[0].partition("=")[2]).steps().keys() == {best, 6}
    run(store, tmp_path / "two", *asked, "optim.lr=30", "run.steps=8")
    later = {r["step"]: r["held_out"] for r in records(tmp_path / "two") if "held_out" in r}
    assert later.keys() == {8} and later[8] > losses[best]
    assert Replica(asked[0].partition("=")[2]).steps().keys() == {best, 8}


def test_a_folder_is_no_object_store(store: Store, tmp_path: Path) -> None:
    for place in ("/mnt/big", "s3://", "s3:///a"):  # without a bucket, either
        with pytest.raises(UsageError, match="run.checkpoints: must be the URL of an object store"):
            tiny(store, tmp_path, f"run.checkpoints={place}")
