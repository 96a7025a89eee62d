"""A run that was killed, stopped or continued elsewhere ends as the run that nothing disturbed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing.trained_tasks import LLM, VLA, TrainedTask
from foundry_testing.trainer_runs import differing, largest_difference, noise, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError, Preempted
from robot_foundry.trainer.checkpoints import checkpoint, tensors
from robot_foundry.trainer.ranks.launch import run_ranks
from robot_foundry.trainer.run import run_task

KILLED = -signal.SIGKILL
# While a checkpoint is copied, written, named, and while an older one is removed.
POINTS = ("checkpoint-copied:2", "checkpoint-tensor:5", "checkpoint-renamed", "checkpoint-removing")


@pytest.fixture(scope="module", params=[VLA, LLM], ids=str)
def task(request: pytest.FixtureRequest) -> TrainedTask:
    return request.param


@pytest.fixture(scope="module")
def store(task: TrainedTask, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return task.make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ranks(task: TrainedTask, store: Store, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All runs that need processes of their own, in one process tree."""
    root = tmp_path_factory.mktemp("runs")

    def phase(size: int, name: str, kill: str | None = None, *more: str) -> dict[str, Any]:
        return {"size": size, "arguments": task.arguments(store, root / name, *more), "kill": kill}

    phases = [
        phase(1, "killed", "train-step:5"),
        phase(1, "unnamed", "checkpoint-written-not-renamed:2"),
        *(phase(1, "points", point, "run.keep_last=1") for point in POINTS),
        phase(2, "two"),
        phase(2, "two-killed", "train-step:3"),
        phase(2, "two-killed", "checkpoint-tensor:4"),
        phase(2, "two-killed", "checkpoint-renamed"),
        phase(2, "two-killed"),
        phase(2, "two-short", None, "run.steps=2", "run.accumulate=2"),
    ]
    done = run_phases(phases, timeout=None)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(root=root, codes=json.loads(done.stdout.splitlines()[-1]), text=done.stderr)


@pytest.fixture(scope="module")
def undisturbed(task: TrainedTask, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return task.run(store, tmp_path_factory.mktemp("undisturbed"))


def test_a_killed_run_ends_bit_for_bit_like_one_never_killed(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, undisturbed: Any
) -> None:
    assert ranks.codes[0] == [KILLED], ranks.text
    killed = ranks.root / "killed"
    # The checkpoint of step 4 may have been under way.
    newest = checkpoint.latest(killed)
    assert newest.name in ("step-00000002", "step-00000004")
    outcome = task.run(store, killed)
    assert outcome.resumed_from == checkpoint.read_json(newest, "state.json")["step"]
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []
    assert outcome.weights == undisturbed.weights
    assert records(killed) == records(undisturbed.run_dir)


def test_a_checkpoint_killed_before_its_rename_does_not_exist(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, undisturbed: Any
) -> None:
    assert ranks.codes[1] == [KILLED], ranks.text
    run_dir = ranks.root / "unnamed"
    assert [path.name for path in sorted((run_dir / "checkpoints").iterdir())] == [
        "step-00000002",
        "step-00000004.tmp",
    ]
    outcome = task.run(store, run_dir)
    assert outcome.resumed_from == 2
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []
    assert not list((run_dir / "checkpoints").glob("*.tmp"))


def test_a_run_killed_wherever_a_checkpoint_stands_ends_bit_for_bit_like_one_never_killed(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, undisturbed: Any
) -> None:
    assert ranks.codes[2:6] == [[KILLED]] * 4, ranks.text
    run_dir = ranks.root / "points"
    assert list((run_dir / "checkpoints").glob(".trash-*"))
    outcome = task.run(store, run_dir, "run.keep_last=1")
    assert outcome.resumed_from > 0
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []
    assert records(run_dir) == records(undisturbed.run_dir)
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-00000006"]


def test_two_killed_ranks_end_bit_for_bit_like_two_never_killed(ranks: SimpleNamespace) -> None:
    whole, at_step, written, named, resumed = ranks.codes[6:11]
    assert (whole, at_step, resumed) == ([0, 0], [KILLED, KILLED], [0, 0]), ranks.text
    # Each rank writes its part, or loses the other; the main rank alone names the checkpoint.
    assert KILLED in written and set(written) <= {KILLED, 1} and named == [KILLED, 1], ranks.text
    whole, resumed = (checkpoint.latest(ranks.root / name) for name in ("two", "two-killed"))
    assert differing(whole, resumed) == []
    assert records(ranks.root / "two") == records(ranks.root / "two-killed")


def test_ranks_and_microbatches_change_rounding_alone(
    task: TrainedTask, store: Store, ranks: SimpleNamespace, tmp_path: Path
) -> None:
    assert ranks.codes[11] == [0, 0], ranks.text
    whole = task.run(store, tmp_path / "1", "run.steps=2")
    runs = [task.run(store, tmp_path / n, "run.steps=2", f"run.accumulate={n}").run_dir for n in "24"]
    for run_dir in (*runs, ranks.root / "two-short"):
        other = checkpoint.latest(run_dir)
        # First moments are linear in the gradients; of the two steps the second reaches every weight.
        moments = ("/exp_avg", "/momentum_buffer")
        assert largest_difference(whole.checkpoint, other, moments) < 1e-6
        ours, theirs = ([r["loss"] for r in records(d) if "loss" in r] for d in (whole.run_dir, run_dir))
        assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stop_request_saves_and_the_same_command_goes_on(
    task: TrainedTask,
    store: Store,
    undisturbed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    job = task.resolved(store, tmp_path)
    _signal_at_step(monkeypatch, 3, number)
    with pytest.raises(Preempted, match=f"stopped by {number.name} at step 3 of 6"):
        run_task(job, quiet=True)
    assert checkpoint.latest(tmp_path).name == "step-00000003"
    outcome = run_task(job, quiet=True)
    assert (outcome.resumed_from, outcome.step) == (3, 6)
    assert differing(outcome.checkpoint, undisturbed.checkpoint) == []


def test_ctrl_c_saves_before_it_interrupts(
    task: TrainedTask, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signal_at_step(monkeypatch, 1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        task.run(store, tmp_path)
    assert checkpoint.latest(tmp_path).name == "step-00000001"


def _signal_at_step(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    hits = []

    def kill_point(name: str) -> None:
        hits.append(name)
        if len(hits) == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr("robot_foundry.trainer.loop.kill_point", kill_point)


def test_a_finished_run_is_left_as_it_is_and_a_longer_one_goes_on(
    task: TrainedTask, store: Store, tmp_path: Path
) -> None:
    task.run(store, tmp_path, "run.steps=2")
    before = records(tmp_path)
    again = task.run(store, tmp_path, "run.steps=2")
    assert (again.resumed_from, again.step, records(tmp_path)) == (2, 2, before)
    assert task.run(store, tmp_path, "run.steps=3").resumed_from == 2
    with pytest.raises(FoundryError, match="at step 3 already, beyond the 1 asked") as raised:
        task.run(store, tmp_path, "run.steps=1")
    assert "run.dir=… or name=…" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("task", "override", "named"),
    [
        (VLA, "seed=1", "seed is 0 there and 1 here"),
        (VLA, "data.mix=seven", "mixture is "),
        (VLA, "model.head.depth=2", "model.head.depth is 1 there and 2 here"),
        (VLA, "optim.lr=0.1", "optim.lr is 0.002 there and 0.1 here"),
        (VLA, "data.window.horizon=5", "data.window.horizon is 4 there and 5 here"),
        (LLM, "data.mix=notes", "mixture is "),
        (LLM, "data.rows.length=16", "data.rows.length is 32 there and 16 here"),
        (LLM, "model.tied=false", "model.tied is True there and False here"),
    ],
    indirect=["task"],
)
def test_another_run_is_not_resumed(
    task: TrainedTask, store: Store, undisturbed: Any, override: str, named: str
) -> None:
    with pytest.raises(FoundryError, match=named) as caught:
        task.run(store, undisturbed.run_dir, override)
    assert "run.dir=" in caught.value.hint


def test_only_what_was_asked_is_kept(task: TrainedTask, store: Store, tmp_path: Path) -> None:
    task.run(store, tmp_path, "run.save_every=1", "run.keep_last=2", "run.keep_every=3")
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000003", "step-00000005", "step-00000006"]


def test_metrics_after_the_resumed_step_and_half_lines_are_dropped(
    task: TrainedTask, store: Store, tmp_path: Path
) -> None:
    task.run(store, tmp_path, "run.steps=2")
    before = records(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    task.run(store, tmp_path, "run.steps=2")
    assert records(tmp_path) == before


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_metadata_that_would_run_code_is_refused(undisturbed: Any, tmp_path: Path) -> None:
    target = tmp_path / "pwned"
    metadata = undisturbed.checkpoint / ".metadata"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(_Payload(target)))
    pickle.loads(metadata.read_bytes())  # the real one is a pickle that anyone would load
    with pytest.raises(FoundryError, match="is refused: it asks for posix.mkdir"):
        tensors.load(tmp_path, {})
    assert not target.exists()


@pytest.mark.parametrize("path", ["../other/__0_0.distcp", "/etc/passwd"])
def test_metadata_that_points_out_of_its_folder_is_refused(
    undisturbed: Any, tmp_path: Path, path: str
) -> None:
    metadata = pickle.loads((undisturbed.checkpoint / ".metadata").read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = path
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(FoundryError, match="it points to"):
        tensors.load(tmp_path, {})


def test_damaged_and_unfitting_checkpoints_are_named(undisturbed: Any, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"\x80\x04")
    with pytest.raises(FoundryError, match=r"\.metadata is refused"):
        tensors.load(tmp_path, {})
    with pytest.raises(FoundryError, match=r"has no model/nothing, the model needs \(3,\)"):
        tensors.load(undisturbed.checkpoint, {"model/nothing": noise(3)})
    with pytest.raises(FoundryError, match="holds no complete checkpoint"):
        checkpoint.find(tmp_path)


def test_run_ranks_gives_each_its_rank_and_returns_the_first_failure(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; rank = os.environ['RANK'];"
    text = "os.environ['WORLD_SIZE'] + os.environ['MASTER_PORT']"
    write = f"pathlib.Path({str(tmp_path)!r}, rank).write_text({text})"
    assert run_ranks([sys.executable, "-c", code + write], 2) == 0
    first, second = ((tmp_path / name).read_text() for name in "01")
    assert first == second and first.startswith("2")
    hang = "import time; time.sleep(60) if rank == '0' else sys.exit(3)"
    assert run_ranks([sys.executable, "-c", code + hang], 2, grace_s=0) == 3
    assert run_ranks([sys.executable, "-c", code + "sys.exit(75)"], 2) == 75


def test_run_ranks_passes_a_stop_on_once(tmp_path: Path) -> None:
    """Each rank counts its signals for a moment after the first, as Ctrl-C twice means at once."""
    code = (
        "import os, pathlib, signal, sys, time; seen = [];"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1));"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).touch();"
        "[time.sleep(0.01) for _ in iter(lambda: bool(seen), True)];"
        "[signal.sigtimedwait([], 0.1) for _ in range(3)];"
        "sys.exit(75 if len(seen) == 1 else 1)"
    )

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    assert run_ranks([sys.executable, "-c", code], 2) == 75
    sender.join()
