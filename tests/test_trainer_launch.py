"""Ranks end with their launcher, and a run's folder has one writer."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from robot_foundry.runtime.errors import FoundryError

runs = runpy.run_path(str(Path(__file__).with_name("trainer_runs.py")))

LAUNCHER = """
import sys
from robot_foundry.trainer.launch import run_ranks
rank = '''
import os, sys, time
from robot_foundry.trainer.launch import end_with_launcher
end_with_launcher()
print(os.getpid(), flush=True)
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


def test_a_second_process_does_not_train_the_same_folder(tmp_path: Path) -> None:
    store = runs["make_store"](tmp_path / "store")
    (tmp_path / "run").mkdir()
    with (
        filelock.FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(FoundryError, match="another process is training") as caught,
    ):
        runs["run"](store, tmp_path / "run")
    assert "run.dir" in (caught.value.hint or "")
    assert runs["run"](store, tmp_path / "run").step == 6
