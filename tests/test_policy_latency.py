"""How long a policy takes: percentiles of whole calls by a clock that the test winds."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing import trainer_runs

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.policy.latency import WARM_UP, latency
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latency")
    store = trainer_runs.make_store(folder / "store")
    trainer_runs.run(store, folder / "run", "data.mix=lift=1,seven=1", "run.steps=1")
    return folder / "run"


def test_percentiles_are_of_the_calls_behind_the_first_few(run: Path) -> None:
    """Call n takes n ms, and the first ones an hour."""
    lasting = [3600.0] * WARM_UP + [n / 1e3 for n in range(1, 102)]
    moments = np.cumsum([x for seconds in lasting for x in (1.0, seconds)])
    ticks = count()
    found = latency(Policy.load(run), calls=101, clock=lambda: float(moments[next(ticks)]))
    assert found.p50_ms == pytest.approx(51) and found.p99_ms == pytest.approx(100)
    assert found.longest_ms == pytest.approx(101)


def test_each_robot_is_asked_in_its_own_dims_and_in_batches(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, continues = Policy.load(run), list[bool]()
    act_batch = Policy.act_batch

    def watched(self: Policy, *seen: Any, underway: Any = (), **asked: Any) -> Any:
        continues.append(len(underway) == 3 and all(underway))
        return act_batch(self, *seen, underway=underway, **asked)

    monkeypatch.setattr(Policy, "act_batch", watched)
    for name in ("lift", "seven"):
        found = latency(policy, dataset=name, batch=3, calls=2)
        assert (found.dataset, found.batch, found.calls) == (name, 3, 2)
        assert 0 < found.p50_ms <= found.p99_ms <= found.longest_ms
        assert not any(continues)
        latency(policy, dataset=name, batch=3, calls=2, rtc=True)
        assert continues == [*[False] * (WARM_UP + 2), False, *[True] * (WARM_UP + 1)]
        continues.clear()
    with pytest.raises(FoundryError, match="did you mean 'lift'"):
        latency(policy, dataset="lft")


def test_the_command_prints_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(group, "foundry-eval", ["latency", str(run), "--calls", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calls"] == 2 and told["covers_ms"] > 0 and told["device"] == "cpu"
    assert run_command(group, "foundry-eval", ["latency", str(run), "--calls", "2"]) == 0
    assert "p99" in capsys.readouterr().out
