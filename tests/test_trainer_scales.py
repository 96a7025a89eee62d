"""Every way to scale undoes itself inside its band, whatever is masked, and masked is exactly 0 both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foundry_testing.trainer_runs import make_store, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.loader.load import load
from robot_foundry.normalization.normalizer_report import report
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.scales import fit_scales, scales_from_json, scales_to_json

SCOPES = [(a, b) for a in ("merged", "per_dataset") for b in ("pooled", "per_offset")]
REPRESENTATIONS = ("relative_tool", "relative_base", "absolute", "delta+relative_joints")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Normalisers of every scope and representation for two robots, and a batch of both."""
    store = make_store(tmp_path_factory.mktemp("store"))
    found = {}
    for representation in REPRESENTATIONS:
        for datasets, steps in SCOPES:
            config = tiny(
                store, "unused", "data.mix=seven=1,six=1", f"data.normalization={datasets}",
                f"data.normalization_scope={steps}", f"data.window.representation={representation}",
            )  # fmt: skip
            job = resolve_vla(config)
            with load(job.mixture, config.data.window, seed=0, global_batch=24, store=store) as loader:
                batch = loader.batch(0)
            found[representation, datasets, steps] = fit_scales(job.opened, config, job.spaces), batch
    return found


@pytest.mark.parametrize("scope", SCOPES, ids="-".join)
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(REPRESENTATIONS),
    st.integers(0, 2**32),
    st.sampled_from([np.float32, np.float64]),
    st.floats(0, 1),
)
def test_denormalize_undoes_normalize(
    fitted: Any, scope: tuple[str, str], representation: str, seed: int, dtype: Any, kept: float
) -> None:
    scales, batch = fitted[representation, *scope]
    rng = np.random.default_rng(seed)
    shape = batch.action_BTA.shape
    real = batch.action_dim_mask_BA[:, None] & batch.step_mask_BT[..., None]
    mask = (rng.random(shape) < kept) & np.broadcast_to(real, shape)
    value = np.where(mask, batch.action_BTA, rng.choice([np.nan, np.inf, 1e30, 0.0], shape)).astype(dtype)
    normalized = scales.normalize_action(value, mask, batch.dataset_B)
    back = scales.denormalize_action(normalized, mask, batch.dataset_B)
    assert normalized.dtype == back.dtype == dtype
    assert not normalized[~mask].any() and not back[~mask].any()
    inside = mask & (np.abs(normalized) < scales.action[0].clip)
    assert inside.sum() >= 0.9 * mask.sum()
    assert np.abs(back - value)[inside].max(initial=0.0) <= 1e-5


@pytest.mark.parametrize("scope", SCOPES, ids="-".join)
def test_scales_read_back_equal_and_say_their_steps(fitted: Any, scope: tuple[str, str]) -> None:
    scales, batch = fitted["relative_tool", *scope]
    assert scales_from_json(scales_to_json(scales)) == scales
    assert len(scales.action) == (2 if scope[0] == "per_dataset" else 1)
    notes = [row["note"] for row in report(scales.action[0]) if row["rule"] == "percentiles"]
    assert notes and all(("by step: ±" in note) == (scope[1] == "per_offset") for note in notes)
