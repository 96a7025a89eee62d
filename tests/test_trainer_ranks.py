"""Ranks train one thing or nothing: what they disagree on is named, and none waits for another for ever."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing.trainer_runs import TINY, make_store, run, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.checkpoints import checkpoint

STOPPED = {"FOUNDRY_KILL_AT": "train-step:2", "FOUNDRY_KILL_SIGNAL": "SIGSTOP"}
HOST = socket.gethostname()
HANG_S = 300  # no phase takes a tenth of it


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def root(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one rank, of which some ranks will see less than others."""
    root = tmp_path_factory.mktemp("runs")
    run(store, root / "here" / "run")
    for name in ("there", "changed", "empty", "newer"):
        shutil.copytree(root / "here", root / name)
    (root / "lag").mkdir()
    shutil.rmtree(root / "there" / "run" / "checkpoints" / "step-00000006")
    shutil.rmtree(root / "empty" / "run" / "checkpoints")
    state = root / "changed" / "run" / "checkpoints" / "step-00000006" / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"skipped": 0', b'"skipped": 1'))
    return root


@pytest.fixture(scope="module")
def ended(store: Store, root: Path) -> Any:
    """Exit codes and words of phases that must all end by themselves, by name."""
    where = ["data.mix=lift", f"data.store={store.url}", "run.dir=run", "run.steps=8"]

    def phase(first: str, second: str, *more: str, **second_has: Any) -> dict[str, Any]:
        ranks = {"0": {"folder": str(root / first)}, "1": {"folder": str(root / second), **second_has}}
        return {"size": 2, "arguments": ["vla", *TINY, *where, *more], "ranks": ranks}

    def fresh(name: str, *more: str, second: str = "here", **second_has: Any) -> dict[str, Any]:
        return phase("here", second, f"run.dir={name}", "run.steps=4", *more, **second_has)

    remapped = ["data.mix=lift@v1", "data.val_fraction=1/3"]
    phases = {
        "another mixture": fresh("mixture", arguments=remapped),
        "another plan": fresh("plan", arguments=["run.accumulate=2", "run.steps=5"]),
        "another folder": fresh("folder", arguments=["run.dir=other"]),
        "lagging": phase("here", "there"),
        "leading": phase("empty", "here"),
        "damaged": phase("here", "changed"),
        "not shared": fresh("unshared", second="lag"),
        "killed": fresh("killed", environment={"FOUNDRY_KILL_AT": "train-step:2"}),
        "killed of three": {
            **fresh("killed-3", "data.global_batch=6"),
            "size": 3,
            "ranks": {
                **{rank: {"folder": str(root / "here")} for rank in "01"},
                "2": {"folder": str(root / "here"), "environment": {"FOUNDRY_KILL_AT": "train-step:2"}},
            },
        },
        "stuck": {**fresh("stuck", environment=STOPPED), "insist": "SIGTERM"},
    }
    done = run_phases(list(phases.values()), timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    codes, texts = json.loads(done.stdout.splitlines()[-1]), done.stderr.split("== a phase\n")[1:]
    pairs = zip(phases, codes, texts, strict=True)
    return {name: SimpleNamespace(codes=code, text=text) for name, code, text in pairs}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("another mixture", ["rank 1: mixture is '"]),
        ("another plan", ["rank 1: run.steps is 5, on rank 0 4", "rank 1: run.accumulate is 2, on rank 0 1"]),
        ("another folder", ["rank 1: run.dir is 'other', on rank 0 'folder'"]),
        (
            "lagging",
            ["rank 1: run has no checkpoint of step 6, from which rank 0 goes on (steps here: 2, 4)"],
        ),
        ("leading", ["rank 1: run/checkpoints/step-00000006 is there, but rank 0 sees no checkpoint"]),
        (
            "damaged",
            ["rank 1: the checkpoint run/checkpoints/step-00000006 is damaged", "state.json have changed"],
        ),
    ],
)
def test_what_ranks_disagree_on_ends_all_of_them(ended: Any, name: str, told: list[str]) -> None:
    """Each rank says it, so that whichever output is read has the reason."""
    assert ended[name].codes == [1, 1]
    assert all(ended[name].text.count(sentence) == 2 for sentence in told), ended[name].text
    assert "Traceback" not in ended[name].text


def test_ranks_that_disagree_write_nothing(ended: Any, root: Path) -> None:
    assert ended and not list((root / "here").glob("*/checkpoints/step-0000000[1357]"))
    for name in ("mixture", "plan", "folder"):
        assert checkpoint.latest(root / "here" / name) is None


def test_a_folder_that_ranks_do_not_share_is_told_before_a_checkpoint_is_visible(
    ended: Any, root: Path
) -> None:
    assert ended["not shared"].codes == [1, 1]
    assert "__1_0.distcp was written by a rank, but the main rank does not see it" in ended["not shared"].text
    assert "rank 0 failed: " in ended["not shared"].text  # as rank 1 tells it
    assert checkpoint.latest(root / "here" / "unshared") is None


def test_a_rank_whose_peer_was_killed_ends_with_a_sentence(ended: Any) -> None:
    assert ended["killed"].codes == [1, -signal.SIGKILL]
    assert f"Error: rank 1 on {HOST} gives no sign of life any more; last seen" in ended["killed"].text


def test_ranks_that_lost_a_third_one_do_not_blame_each_other(ended: Any) -> None:
    assert ended["killed of three"].codes == [1, 1, -signal.SIGKILL]
    text = ended["killed of three"].text
    assert text.count(f"Error: rank 2 on {HOST} gives no sign of life any more; last seen") == 2
    assert text.count("Error: ") == 2
    assert "failed: " not in ended["killed of three"].text


WAITING = """
import os, signal, sys
from datetime import timedelta
from torch._C._distributed_c10d import TCPStore
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.ranks import ranks as group

def wait(rank, work):
    os.environ["RANK"] = rank
    signal.alarm(120)
    try:
        with group.joined("cpu") as ranks, ranks.stepping(2.0, 7):
            work(ranks)
    except FoundryError as error:
        os.write(1, f"{rank}: {error}\\n".encode())
    os._exit(0)

os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
never = lambda ranks: signal.sigwait([signal.SIGUSR1])  # alive, and in no exchange
for works in ((group.Ranks.barrier, never), (group.Ranks.barrier,)):
    server = TCPStore("127.0.0.1", 0, None, True, timedelta(minutes=2), wait_for_workers=False)
    os.environ["MASTER_PORT"] = str(server.port)
    pids = [os.fork() or wait(str(rank), work) for rank, work in enumerate(works)]
    os.waitpid(pids[0], 0)
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)
    group.JOINING = timedelta(seconds=1)  # of the second pair of ranks, of which one does not come
"""


def test_a_rank_that_waits_in_vain_ends_with_a_sentence() -> None:
    """For one that lives and does not come in a step, and for one that never came at all."""
    told = subprocess.run([sys.executable, "-c", WAITING], timeout=HANG_S, capture_output=True, text=True)
    assert told.stdout.splitlines() == [
        f"0: rank 1 on {HOST} lives, but does not come to where the others wait for it; "
        "last seen after step 7",
        "0: rank 1 of 2 did not come, for which the others waited",
    ], told.stderr


def test_a_second_sigterm_ends_a_rank_that_waits_for_another(ended: Any) -> None:
    assert ended["stuck"].codes[0] == 128 + signal.SIGTERM
    assert "Ended at once by a second signal (SIGTERM)" in ended["stuck"].text


LEAVING = """
import os, signal, sys
from datetime import timedelta
import torch
import torch._dynamo  # imported by the first model that is wrapped otherwise, in each rank
from torch import nn
from torch._C._distributed_c10d import TCPStore
from robot_foundry.trainer.ranks.ranks import joined

def leave(rank):
    os.environ["RANK"] = rank
    signal.alarm(60)
    with joined("cpu") as ranks:
        model = ranks.wrap(nn.Linear(4, 4))
        model(torch.ones(2, 4)).sum().backward()
        ranks.barrier()
    del model
    os._exit(0)

os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
sys.setswitchinterval(1e-4)
for _ in range(int(sys.argv[1])):
    server = TCPStore("127.0.0.1", 0, None, True, timedelta(minutes=2), wait_for_workers=False)
    os.environ["MASTER_PORT"] = str(server.port)
    pids = [os.fork() or leave(rank) for rank in "01"]
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        sys.exit(1)
"""


@pytest.mark.parametrize("times", ["10", pytest.param("60", marks=pytest.mark.soak)])
def test_ranks_that_are_done_end_whatever_their_threads_do(times: str) -> None:
    """A model that outlives its ranks does not wait for their threads while these wait for it."""
    assert subprocess.run([sys.executable, "-c", LEAVING, times], timeout=HANG_S).returncode == 0
