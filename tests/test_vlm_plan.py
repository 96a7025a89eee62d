"""What a plan of a vision-language run tells before any of it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.vlm_runs import make_store, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.tasks.vlm.dry_run import planned
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def test_a_plan_says_what_loses_its_end(store: Store, tmp_path: Path) -> None:
    short = planned(resolve_vlm(tiny(store, tmp_path, "data.rows.length=24"))).warnings
    assert any("of things" in line and "longer than a row of 24 tokens" in line for line in short)
    assert not planned(resolve_vlm(tiny(store, tmp_path, "data.rows.length=4096"))).warnings


def test_a_plan_refuses_what_its_run_would(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no part 'vison', did you mean 'vision'"):
        planned(resolve_vlm(tiny(store, tmp_path, "optim.lr_scales={vison: 0}")))
    with pytest.raises(UsageError, match="freezes all parameters"):
        planned(resolve_vlm(tiny(store, tmp_path, "optim.lr_scales={backbone: 0}")))
