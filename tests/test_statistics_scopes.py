"""Statistics of chunks: pooled or by offset, by count or by weight, the same bits however they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.catalog_stores import POSE, make_version
from foundry_testing.trainer_runs import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run
from robot_foundry.loader.load import load
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.tasks.vla.policy_spaces import geometry, mixture_spaces
from robot_foundry.trainer.tasks.vla.scales import fit_scales, scales_from_json, scales_to_json
from robot_foundry.windows.chunk_statistics import chunk_statistics, representation_statistics
from robot_foundry.windows.window import WindowSpec

HORIZON = 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'small' at 20 Hz and 'large' at 10 Hz, and 'joints', a robot with joints besides its pose."""
    store = Store(tmp_path_factory.mktemp("store"))
    make_version(store, "small", [[12, 15], [9]], seed=1, images=True)
    make_version(store, "large", [[40, 31, 30]] * 6, seed=2, fps=10.0, images=True)
    dims = [*POSE, "right.joint_position.0"]
    make_version(
        store, "joints", [[20, 20, 18]], seed=3, state=dims, action=dims, embodiment="ur5", images=True
    )
    return store


def chunks_of(store: Store, name: str, **window: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every training chunk of a dataset as the loader gives it, and which steps count."""
    spec = WindowSpec(history=1, cameras=(), **window)
    with load(name, spec, seed=0, global_batch=1, store=store, threads=0) as loader:
        samples = loader.mixture.components[0].num_samples
    with load(name, spec, seed=0, global_batch=samples, store=store, threads=0) as loader:
        batch = loader.batch(0)
    return batch.action_BTA, batch.step_mask_BT


def test_each_offset_has_the_values_of_its_steps(store: Store) -> None:
    found = chunk_statistics(make_mixture(store, {"small": 1}), horizon=HORIZON, per_offset=True)
    action_BTA, counts_BT = chunks_of(store, "small", horizon=HORIZON)
    assert len(found.offsets) == HORIZON
    for step, statistics in enumerate(found.offsets):
        expected = Statistics.of(action_BTA[:, step], counts_BT[:, step, None], statistics.space)
        for ours, theirs in zip(statistics.digests, expected.digests, strict=True):
            assert (ours.count, ours.min, ours.max) == (theirs.count, theirs.min, theirs.max)
            assert ours.mean == pytest.approx(theirs.mean, abs=1e-9)
            np.testing.assert_allclose(ours.percentile([1, 50, 99]), theirs.percentile([1, 50, 99]))
    assert found.action.counts.tolist() == sum(part.counts for part in found.offsets).tolist()
    pooled = chunk_statistics(make_mixture(store, {"small": 1}), horizon=HORIZON)
    assert (pooled.state, pooled.action, pooled.offsets) == (found.state, found.action, ())


def test_weights_count_as_often_as_frames_are_drawn(store: Store) -> None:
    """Against the loader's own chunks, each weighted by weight / samples, in plain float64."""
    mixture = make_mixture(store, {"small": 0.7, "large": 0.3})
    options: dict[str, Any] = {"horizon": HORIZON, "representation": "absolute"}
    found = chunk_statistics(mixture, weighting="mixture", **options)
    plain = chunk_statistics(mixture, weighting="count", **options)
    values, weights = [], []
    for component in mixture.mixture.components:
        action_BTA, counts_BT = chunks_of(store, component.name, **options)
        values.append(action_BTA[counts_BT])
        share = float(component.fraction) / component.num_samples
        weights.append(np.full(int(counts_BT.sum()), share))
    value_NA, weight_N = np.concatenate(values), np.concatenate(weights)
    for i, digest in enumerate(found.action.digests):
        for q in (1, 25, 50, 75, 99):
            answer = digest.percentile(q)
            below = 100 * weight_N[value_NA[:, i] < answer].sum() / weight_N.sum()
            up_to = 100 * weight_N[value_NA[:, i] <= answer].sum() / weight_N.sum()
            assert below - 0.5 < q < up_to + 0.5
        assert digest.mean == pytest.approx(np.average(value_NA[:, i], weights=weight_N), abs=1e-5)
    assert found.action.digests[0].mean != pytest.approx(plain.action.digests[0].mean, abs=1e-3)
    assert plain.action.counts[0] == len(value_NA)


def test_weights_in_proportion_to_the_frames_change_nothing(store: Store) -> None:
    samples = {
        c.name: c.num_samples for c in make_mixture(store, {"small": 1, "large": 1}).mixture.components
    }
    mixture = make_mixture(store, samples)
    by_count, by_weight = (
        chunk_statistics(mixture, horizon=HORIZON, weighting=kind) for kind in ("count", "mixture")
    )
    assert by_count == by_weight


def test_workers_and_the_cache_change_no_bit(store: Store, tmp_path: Path, ray_workers: int) -> None:
    options: dict[str, Any] = {
        "horizon": "0.4s", "control_hz": 15, "per_offset": True, "weighting": "mixture",
        "masked": ("terminal",),
    }  # fmt: skip
    found = []
    for workers in (0, 2):
        fresh = Store(tmp_path / str(workers))
        make_version(fresh, "small", [[12, 15], [9]], seed=1)
        make_version(fresh, "large", [[40, 31], [30]], seed=2, fps=10.0)
        mixture = make_mixture(fresh, {"small": 0.9, "large": 0.1})
        found.append(chunk_statistics(mixture, workers=workers, **options))
        assert chunk_statistics(mixture, workers=workers, **options) == found[-1]  # from the cache
    assert found[0] == found[1] and len(found[0].offsets) == 6
    unmasked = chunk_statistics(mixture, **options | {"masked": ()})
    assert unmasked.action.counts[0] > found[0].action.counts[0]


def test_weights_without_a_common_measure_leave_counts_exact(store: Store) -> None:
    """All steps of a chunk are of one digest, whose count must stay below 2^53 as well."""
    weights = {"small": "1/3", "large": "0.123456789"}
    of_chunks = {"horizon": 50, "weighting": "mixture"}
    found = chunk_statistics(make_mixture(store, weights), **of_chunks)
    assert max(digest.count for digest in found.action.digests) < 1 << 53
    by_step = chunk_statistics(make_mixture(store, weights), per_offset=True, **of_chunks)
    assert found.action.digests == by_step.action.digests


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**32), st.integers(1, 900), st.integers(1, 2**30)), min_size=1, max_size=6
    ),
    st.randoms(use_true_random=False),
)
def test_scaled_leaves_merge_the_same_in_any_order(leaves: list[tuple[int, int, int]], shuffle: Any) -> None:
    digests = [
        Digest.of(np.random.default_rng(seed).normal(size=size)).scaled(times) for seed, size, times in leaves
    ]
    merged = Digest.merge_all(digests)
    shuffle.shuffle(digests)
    assert Digest.merge_all(digests) == merged
    assert merged.count == sum(size * times for _, size, times in leaves)


def test_scaling_repeats_every_value() -> None:
    values = np.array([3.0, 1, 1, 2, np.nan])
    repeated = np.repeat(values[:4], 5)
    scaled = Digest.of(values).scaled(5)
    assert (scaled.count, scaled.num_nan, scaled.min, scaled.max) == (20, 1, 1, 3)
    assert scaled.mean == repeated.mean() and scaled.std == pytest.approx(repeated.std())
    assert (
        scaled.percentile([0, 30, 70, 100]).tolist()
        == Digest.of(repeated).percentile([0, 30, 70, 100]).tolist()
    )
    assert Digest.from_bytes(scaled.to_bytes()) == scaled
    for times in (0, 1 << 51):
        with pytest.raises(FoundryError, match=f"cannot be scaled by {times}"):
            Digest.of(values).scaled(times)


def test_an_unknown_weighting_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="weighting 'mixtures' is none of count, mixture, did you mean"):
        chunk_statistics(make_mixture(store, {"small": 1}), weighting="mixtures")


# --- normalisers by offset ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_offset(store: Store) -> Normalizer:
    found = chunk_statistics(make_mixture(store, {"large": 1}), horizon=HORIZON, per_offset=True)
    return Normalizer.fit(found.action, offsets=found.offsets)


def test_each_step_has_its_own_scale(store: Store, by_offset: Normalizer) -> None:
    action_BTA, counts_BT = chunks_of(store, "large", horizon=HORIZON)
    found = by_offset.normalize(action_BTA, counts_BT[..., None])
    for step in range(HORIZON):
        alone = Normalizer(by_offset.space, by_offset.offsets[step], by_offset.clip)
        expected = alone.normalize(action_BTA[:, step], counts_BT[:, step, None])
        assert np.array_equal(found[:, step], expected)
    assert len({row[0].scale for row in by_offset.offsets}) == HORIZON
    with pytest.raises(FoundryError, match=r"\(3, 10\) do not fit scalings of 4 steps"):
        by_offset.normalize(action_BTA[0, :3])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["float32", "float64"]))
def test_offsets_come_back_and_torch_agrees(by_offset: Normalizer, seed: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    x_BTD = rng.normal(size=(5, HORIZON, len(by_offset.space))).astype(dtype)
    mask_BTD = rng.random(x_BTD.shape) < 0.7
    x_BTD[~mask_BTD] = rng.choice([np.nan, np.inf, 1e30])
    normal = by_offset.normalize(x_BTD, mask_BTD)
    back = by_offset.denormalize(normal, mask_BTD)
    assert not normal[~mask_BTD].any() and not back[~mask_BTD].any()
    inside = mask_BTD & (np.abs(normal) < by_offset.clip)
    np.testing.assert_allclose(back[inside], x_BTD[inside], atol=1e-5)
    for call, value, expected in (
        (by_offset.normalize, x_BTD, normal),
        (by_offset.denormalize, normal, back),
    ):
        found = call(torch.from_numpy(value), torch.from_numpy(mask_BTD)).numpy()
        assert found.dtype == value.dtype and np.array_equal(found, expected)


def test_offsets_survive_json_and_other_spaces(by_offset: Normalizer) -> None:
    assert Normalizer.from_json(by_offset.to_json()) == by_offset
    swapped = by_offset.onto(by_offset.space, [*range(1, len(by_offset.space)), None])
    assert swapped.offsets[2][0] == by_offset.offsets[2][1] and swapped.offsets[2][-1].rule == "no data"


def test_a_step_without_data_has_the_scale_of_all(by_offset: Normalizer, store: Store) -> None:
    found = chunk_statistics(make_mixture(store, {"large": 1}), horizon=HORIZON, per_offset=True)
    offsets = [*found.offsets[:3], Statistics.empty(found.action.space)]
    fitted = Normalizer.fit(found.action, offsets=offsets)
    assert fitted.offsets[3] == fitted.scalings and fitted.offsets[:3] == by_offset.offsets[:3]


# --- training and the command line --------------------------------------------------------------------------


def test_recipes_choose_scope_and_weights(store: Store, tmp_path: Path) -> None:
    overrides = (
        "data.mix=small=0.8,large=0.1,joints=0.1", "data.window.horizon=0.4s", "data.window.history=0.1s",
        "data.window.flags={terminal: mask}", "data.normalization_scope=per_offset",
    )  # fmt: skip
    scales = {}
    for kind in ("merged", "per_dataset"):
        for weights in ("count", "mixture"):
            config = tiny(
                store,
                tmp_path,
                *overrides,
                f"data.normalization={kind}",
                f"data.normalization_weights={weights}",
            )
            mixture = make_mixture(store, {"small": 0.8, "large": 0.1, "joints": 0.1})
            spaces = mixture_spaces(mixture, config)
            sizes = geometry(config, spaces)
            assert (sizes.horizon, sizes.history) == (8, 3)  # 'large' has 4 and 2 of them
            scales[kind, weights] = fit_scales(mixture, config, spaces)
            for normalizer in scales[kind, weights].action:
                assert len(normalizer.offsets) == 8 and len(normalizer.offsets[0]) == len(spaces.action)
    assert scales["merged", "count"] != scales["merged", "mixture"]
    assert scales["per_dataset", "count"] == scales["per_dataset", "mixture"]
    large = scales["per_dataset", "count"].action[1]
    assert large.offsets[3] != large.offsets[0] and large.offsets[4:] == (large.scalings,) * 4
    found = scales["merged", "mixture"]
    assert scales_from_json(json.loads(json.dumps(scales_to_json(found)))) == found


def test_stats_shows_offsets_and_true_counts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "stats",
        "large",
        "-r",
        "relative_tool",
        "--horizon",
        "0.4s",
        "--control-hz",
        "20",
        "--per-offset",
    ]
    line += ["--weighting", "mixture", "--store", store.url, "--json"]
    assert run(group, "foundry-data", line) == 0
    dims = json.loads(capsys.readouterr().out)["dims"]
    streams = list(dict.fromkeys(row["stream"] for row in dims))
    assert streams == ["state", "next_state", *(f"next_state+{step}" for step in range(8))]
    mixture = make_mixture(store, {"large": 1})
    _, action = representation_statistics(mixture, horizon=8, control_hz=20)
    rows = [row for row in dims if row["stream"] == "next_state"]
    assert [row["count"] for row in rows] == action.counts.tolist()
    assert run(group, "foundry-data", [*line[:4], "--horizon", "soon", "--store", store.url]) != 0
    assert "horizon 'soon' is neither steps" in capsys.readouterr().err


def test_mix_leaves_flagged_frames_out(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "mix",
        "--weights",
        "small=1",
        "--split",
        "all",
        "--skip",
        "terminal",
        "--store",
        store.url,
        "--json",
    ]
    assert run(group, "foundry-data", line) == 0
    (component,) = json.loads(capsys.readouterr().out)["mixture"]["components"]
    assert component["num_samples"] == 36 - 3 and component["selection"]["skip"] == ["terminal"]
