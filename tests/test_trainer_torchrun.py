"""What holds under torchrun on two nodes, whose agents have ways of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from foundry_testing import cluster_examples
from foundry_testing.node_runs import free_port
from foundry_testing.trained_tasks import LLM

from robot_foundry.trainer.checkpoints import checkpoint


@pytest.mark.soak
def test_term_to_one_agent_saves_once_and_both_agents_exit_with_1(tmp_path: Path) -> None:
    """75 is the exit code of the ranks; an agent has 1 for whatever is not 0."""
    store, run = LLM.make_store(tmp_path / "store"), tmp_path / "run"
    port = str(free_port())
    rank = "from robot_foundry.cli.foundry_train import main; main()"
    given = LLM.arguments(store, run, "run.steps=1000000", "run.save_every=1000000")
    of_page = cluster_examples.page_command("torchrun", given, port)
    at = of_page.index("foundry-train")
    command = [sys.executable, "-m", "torch.distributed.run", "--master-port", port, *of_page[1:at]]
    agents = [
        subprocess.Popen(
            # Of two options the last one counts.
            [*command[:-1], "--node-rank", str(i), "--no-python", sys.executable, "-c", rank, *given],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )
        for i in range(2)
    ]  # fmt: skip
    while not (run / "metrics.jsonl").exists() and all(agent.poll() is None for agent in agents):
        time.sleep(0.05)
    agents[1].send_signal(signal.SIGTERM)
    told = [agent.communicate(timeout=300)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [1, 1], told
    assert "its checkpoint is written" in told[0]
    assert len(checkpoint.complete(run)) == 1
