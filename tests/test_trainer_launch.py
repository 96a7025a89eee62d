"""Ranks end with their launcher, and a run's folder has one writer."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from foundry_testing.trainer_runs import make_store, run, tiny

from robot_foundry.catalog.refs import resolve
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.tasks.mixtures import pins
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

LAUNCHER = """
import sys
from robot_foundry.trainer.ranks.launch import run_ranks
rank = '''
import os, sys, time
from robot_foundry.trainer.ranks.launch import end_with_launcher
end_with_launcher()
os.write(1, b'%d\\\\n' % os.getpid())  # at once: the other writes into the same pipe
time.sleep(600)
'''
run_ranks([sys.executable, "-c", rank], 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_ranks_of_a_killed_launcher_end() -> None:
    with subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        ranks = [int(launcher.stdout.readline()) for _ in range(2)]
        launcher.send_signal(signal.SIGKILL)
        # The pipe closes when the last of those that hold it has ended: a rank that lives on keeps it open.
        assert launcher.stdout.read() == ""
    assert len(set(ranks)) == 2


DEAF = """
import os, signal, sys
from robot_foundry.trainer.ranks.launch import run_ranks
rank = '''
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
print(flush=True)
signal.sigwait([signal.SIGUSR1])
'''
sys.exit(run_ranks([sys.executable, "-c", rank], 2))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_to_the_launcher_kills_ranks_that_do_not_answer(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        for _ in range(2):
            launcher.stdout.readline()  # a rank is there
        while launcher.poll() is None:
            launcher.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                launcher.wait(0.1)
        launcher.communicate(timeout=60)  # no rank holds the pipe any more
    # A third signal may come when the launcher is done and listens to none.
    assert launcher.returncode in (128 + number, -number)


EARLY = """
import os, sys
from robot_foundry.trainer.ranks.launch import run_ranks
rank = '''
import os, sys
if os.environ["RANK"] == "1":
    sys.exit(75)  # as one does that SIGTERM finds before it has begun
from robot_foundry.trainer.ranks.ranks import joined
with joined("cpu"):
    pass
'''
sys.exit(run_ranks([sys.executable, "-c", rank], 2))
"""


def test_a_rank_that_was_stopped_before_it_came_is_not_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 75, done.stderr
    assert done.stderr.splitlines() == ["", "Error: rank 1 was asked to stop"]


def test_the_launcher_gives_its_ranks_the_versions_that_it_resolved(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    version = resolve(store, "lift")
    mixed = tiny(store, "run", "data.mix=lift=1/2,lift@v1=1/4,six=1/4")
    for config in (tiny(store, "run"), mixed):
        fixed = tiny(store, "run", *pins(config.data))
        assert f"lift@{version.version_id}" in fixed.data.mix
        assert resolve_vla(fixed).mixture.id == resolve_vla(config).mixture.id
    [pin] = pins(mixed.data)
    assert pin.startswith(f"data.mix=lift@{version.version_id}=3/4,six@")


def test_a_second_process_does_not_train_the_same_folder(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    (tmp_path / "run").mkdir()
    with (
        filelock.FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(FoundryError, match="another process is training") as caught,
    ):
        run(store, tmp_path / "run")
    assert "run.dir" in (caught.value.hint or "")
    assert run(store, tmp_path / "run").step == 6
