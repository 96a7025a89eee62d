"""A run without held-out samples goes on, and says so; one whose held-out samples cannot be read does not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from foundry_testing.trainer_runs import make_store, run

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.runtime.errors import FoundryError


def test_a_run_of_a_split_that_holds_nothing_out_says_so(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with pytest.warns(UserWarning, match="no held-out loss: the val split is empty: lift@v1 has 5 episodes"):
        outcome = run(store, tmp_path / "run", "data.val_fraction='0'", "run.steps=1")
    assert outcome.held_out_loss is None


def test_a_damaged_table_of_held_out_samples_stops_the_run(tmp_path: Path) -> None:
    """All of one shard is held out, and which of its rows are samples is asked of its table of frames."""
    store = make_store(tmp_path / "store")
    lift = OpenVersions(store).open("lift")
    groups = lift.geometry
    greatest = {n: int(groups.hash_E[groups.shard_E == n].max()) for n in range(len(lift.manifest.shards))}
    shard = min(greatest, key=lambda n: greatest[n])
    fraction = Fraction(greatest[shard] + 1, 1 << 64)
    path = f"frames/{lift.manifest.shards[shard].key}"
    table = Path(store.url) / store.table("lift", lift.version.version_id, path)
    settings = (f"data.val_fraction='{fraction}'", "data.window.flags={noop: skip}", "run.steps=1")

    assert run(store, tmp_path / "whole", *settings).held_out_loss is not None
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(FoundryError, match=path):
        run(store, tmp_path / "damaged", *settings)
    assert not list((tmp_path / "damaged").glob("checkpoints/*"))
