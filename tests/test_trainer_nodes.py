"""Several nodes train as one: they stop as one, and none waits for one that is gone."""

from __future__ import annotations

import json
import re
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing import cluster_examples
from foundry_testing.node_runs import run_phases
from foundry_testing.trained_tasks import LLM
from foundry_testing.trainer_runs import differing, records

from robot_foundry.trainer.checkpoints import checkpoint

HOST = socket.gethostname()
# Signs of life come twice a second: the last one may be older than the last step, or than the first.
SEEN = r"last seen (after step \d|before its first step)"
KILLED = -signal.SIGKILL


def at(hit: int, number: str = "SIGKILL", **more: str) -> dict[str, Any]:
    """What a node has whose rank gets a signal at one of its steps."""
    where = {"FOUNDRY_KILL_AT": f"train-step:{hit}", "FOUNDRY_KILL_SIGNAL": number}
    return {"environment": {**where, **more}}


WITH_NODE = {"FOUNDRY_KILL_PARENT": "1"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All runs on two nodes of one rank each, in one process tree; exit codes and words by name and node."""
    root = tmp_path_factory.mktemp("nodes")
    store = LLM.make_store(root / "store")

    def phase(name: str, *nodes: dict[str, Any], more: tuple[str, ...] = (), **ask: Any) -> dict[str, Any]:
        """The two commands of the page."""
        given = LLM.arguments(store, root / name, *more)
        begin = "foundry-train vla my_recipe.yaml run.dir=runs/a --nproc 8 --nnodes 2 --node-rank {}"
        both = [
            {**node, "arguments": cluster_examples.page_command(begin.format(i), given, "{port}")[1:]}
            for i, node in enumerate(nodes or ({}, {}))
        ]
        asked = {"signal": {"run": str(root / name), **ask}} if ask else {}
        return {"arguments": [], "nodes": both, **asked}

    def slurm(name: str) -> dict[str, Any]:
        """The command of the example, as two tasks of Slurm."""
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": "{port}"}
        given = cluster_examples.slurm_arguments(LLM.arguments(store, root / name))
        tasks = [{"environment": {**step, "SLURM_PROCID": str(i)}} for i in range(2)]
        return {"arguments": given, "nodes": tasks}

    def kubernetes(name: str) -> dict[str, Any]:
        """The command of the example, as two pods of an indexed job."""
        given = LLM.arguments(store, root / name)
        pods = [{"arguments": cluster_examples.pod_arguments(given, i)} for i in range(2)]
        return {"arguments": [], "nodes": pods}

    long = ("run.steps=1000000", "run.save_every=1000000")
    phases = {
        "whole": kubernetes("whole"),
        # One run, which is disturbed again and again, and goes on from its checkpoint of step 2 each time.
        "killed": phase("hurt", {}, at(3)),
        "frozen": phase("hurt", {}, at(1, "SIGSTOP"), more=("run.patience=8",)),
        "node gone": phase("hurt", {}, at(1, **WITH_NODE)),
        "first node gone": phase("hurt", at(1, **WITH_NODE), {}),
        "on": slurm("hurt"),
        "TERM": phase("stopped", more=long, node=1, number="SIGTERM"),
        "USR2": phase("stopped", more=long, node=0, number="SIGUSR2"),
    }
    codes, texts = run_phases(list(phases.values()), root / "outputs")
    by_name = {
        name: SimpleNamespace(codes=code, texts=text)
        for name, code, text in zip(phases, codes, texts, strict=True)
    }
    return SimpleNamespace(root=root, **{"of": by_name})


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("Error: ")]


def test_two_nodes_train_one_run(ran: Any) -> None:
    first, second = ran.of["whole"].texts
    assert ran.of["whole"].codes == [0, 0], (first, second)
    assert "node 0 of 2: --master 127.0.0.1:" in first and "checkpoint" in first
    assert second == ""  # what its rank has to say lies in its log
    assert (
        (ran.root / "whole" / "logs" / "rank-00001.log").read_text().startswith(f"== rank 1 of 2 on {HOST}\n")
    )
    assert checkpoint.latest(ran.root / "whole").name == "step-00000006"
    assert not errors(first)


@pytest.mark.parametrize(
    ("name", "survivor", "code", "told"),
    [
        ("killed", 0, 1, f"rank 1 on {HOST} was killed by SIGKILL; {SEEN}"),
        ("frozen", 0, 1, f"rank 1 on {HOST} gives no sign of life any more; {SEEN}"),
        ("node gone", 0, KILLED, f"rank 1 on {HOST} gives no sign of life any more; {SEEN}"),
        (
            "first node gone",
            1,
            KILLED,
            f"rank 0 on ({HOST}|its machine) gives no sign of life any more, nor does the store",
        ),
    ],
)
def test_a_rank_or_node_that_is_gone_ends_the_others_with_one_sentence(
    ran: Any, name: str, survivor: int, code: int, told: str
) -> None:
    one = ran.of[name]
    assert one.codes == ([1, code] if survivor == 0 else [code, 1]), one.texts
    text = one.texts[survivor]
    assert re.search(told, text), text
    assert "Traceback" not in text and "frame #" not in text
    if survivor == 0:
        assert [bool(re.match(f"Error: {told}", line)) for line in errors(text)] == [True], text


def test_a_launcher_tells_the_log_of_its_rank_that_failed(ran: Any) -> None:
    text = ran.of["killed"].texts[1]
    (error,) = errors(text)
    assert re.fullmatch(f"Error: rank 1 on {HOST} was killed by SIGKILL; {SEEN}", error), text
    log = ran.root / "hurt" / "logs" / "rank-00001.log"
    assert text.endswith(f"It wrote nothing into {log}.\n")


def test_the_same_command_goes_on_bit_for_bit_also_as_tasks_of_slurm(ran: Any) -> None:
    assert ran.of["on"].codes == [0, 0], ran.of["on"].texts
    whole, hurt = (checkpoint.latest(ran.root / name) for name in ("whole", "hurt"))
    assert whole is not None and hurt is not None
    assert differing(whole, hurt) == []
    assert records(ran.root / "whole") == records(ran.root / "hurt")


def test_a_stop_of_one_launcher_saves_once_and_ends_both_with_75(ran: Any) -> None:
    for name in ("TERM", "USR2"):
        assert ran.of[name].codes == [75, 75], ran.of[name].texts
        assert "its checkpoint is written" in ran.of[name].texts[0]
    steps = [path.name for path in sorted((ran.root / "stopped" / "checkpoints").iterdir())]
    assert len(steps) == 2  # one for each stop
    last = json.loads((ran.root / "stopped" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert steps[-1] == f"step-{last:08d}"
