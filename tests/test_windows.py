"""Time: steps and seconds, resampling, and that every consumer of windows sees the same ones."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from robot_foundry.catalog.mixture import make_mixture, warnings_for, window_rows
from robot_foundry.catalog.selection import Selection
from robot_foundry.catalog.statistics import chunk_statistics
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import Flag, flag_named
from robot_foundry.catalog.timing import Steps, Timing
from robot_foundry.catalog.windows import (
    Anchors,
    Frames,
    Window,
    WindowPlan,
    chunk_places,
    history_places,
    windows,
)
from robot_foundry.loader.load import Loader, WindowSpec, load
from robot_foundry.normalization.resampling import between
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.runtime.errors import FoundryError

FIXTURES = runpy.run_path(str(Path(__file__).with_name("loader_fixtures.py")))
POSE = ActionSpace(FIXTURES["POSE"])
WEIGHTS = {"sim": 0.5, "real": 0.5}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'sim' at 20 Hz and 'real' at 10 Hz, with flaws."""
    store = Store(tmp_path_factory.mktemp("store"))
    FIXTURES["write_version"](store, "sim", [[12, 19], [17]], cameras={"primary": (16, 16)})
    FIXTURES["write_version"](store, "real", [[11, 2], [23]], cameras={"primary": (16, 16)}, fps=10.0)
    return store


def open_loader(store: Store, ref: Any, **window: Any) -> Loader:
    return load(ref, WindowSpec(**window), seed=3, global_batch=32, store=store, split="all", threads=0)


def arrays(store: Store, ref: Any, **window: Any) -> dict[str, bytes]:
    """All that some batches hold, as bytes."""
    with open_loader(store, ref, **window) as loader:
        batches = [loader.batch(b) for b in range(3)]
    found = {}
    for b, batch in enumerate(batches):
        values = {name: v for name, v in vars(batch).items() if isinstance(v, np.ndarray)}
        values |= batch.images | {f"mask {role}": mask for role, mask in batch.image_mask.items()}
        found |= {
            f"{b} {name}": value.tobytes() + str(value.shape).encode() for name, value in values.items()
        }
    return found


# --- places -------------------------------------------------------------------------------------------------


def test_places_clamp_and_mask() -> None:
    chunk = chunk_places([0, 3, 9], [0, 0, 5], [5, 5, 10], horizon=3, step=2)
    assert chunk.low_nK.tolist() == [[0, 2, 4], [3, 4, 4], [9, 9, 9]]
    assert chunk.inside_nK.tolist() == [[True, True, True], [True, False, False], [True, False, False]]
    seen = history_places([0, 6, 9], [0, 5, 5], history=3)
    assert seen.low_nK.tolist() == [[0, 0, 0], [5, 5, 6], [7, 8, 9]]
    assert seen.inside_nK.tolist() == [[False, False, True], [False, True, True], [True, True, True]]
    assert not chunk.share_nK.any() and not seen.share_nK.any()


def test_places_between_rows() -> None:
    chunk = chunk_places(2, 0, 7, horizon=5, step=1.5)
    assert chunk.low_nK.tolist() == [[2, 3, 5, 6, 6]] and chunk.share_nK.tolist() == [[0, 0.5, 0, 0, 0]]
    assert chunk.inside_nK.tolist() == [[True, True, True, False, False]]  # 6.5 is past the last row
    seen = history_places(2, 0, history=4, step=0.75)
    assert seen.low_nK.tolist() == [[0, 0, 1, 2]] and seen.share_nK.tolist() == [[0, 0.5, 0.25, 0]]
    assert seen.inside_nK.tolist() == [[False, True, True, True]]
    thirds = chunk_places(0, 0, 100, horizon=31, step=20 / 30)
    assert thirds.low_nK[0, 3::3].tolist() == list(range(2, 21, 2)) and not thirds.share_nK[0, ::3].any()


@settings(deadline=None)
@given(
    st.integers(0, 50), st.integers(1, 50), st.integers(1, 8), st.floats(0.05, 4), st.floats(0, 1, width=16)
)
def test_places_stay_inside(start: int, length: int, count: int, step: float, at: float) -> None:
    row = start + min(int(at * length), length - 1)
    chunk = chunk_places(row, start, start + length, count, step)
    seen = history_places(row, start, count, step)
    for places in (chunk, seen):
        high = places.low_nK + (places.share_nK > 0)
        assert places.low_nK.min() >= start and high.max() < start + length
        assert ((places.share_nK >= 0) & (places.share_nK < 1)).all()
    ahead, ago = np.arange(count) * step, np.arange(count - 1, -1, -1) * step
    for places, exact in ((chunk, row + ahead), (seen, row - ago)):
        found = (places.low_nK + places.share_nK)[places.inside_nK]
        np.testing.assert_allclose(found, exact[places.inside_nK[0]], atol=1e-6)


# --- values -------------------------------------------------------------------------------------------------


def window_at(state: Any, target: Any, row: int, steps: Steps, rate: float, flags: Any = None) -> Window:
    """The window of one anchor in an episode of these rows."""
    length = len(state)
    flags = np.zeros(length, np.uint32) if flags is None else flags
    bounds = (np.array([value]) for value in (row, 0, length, 0))
    anchors = Anchors(np.zeros(1, np.int32), *bounds, steps.rows(np.array([rate])))
    plan = WindowPlan(POSE, POSE, "absolute", steps, steps.horizon, steps.history)
    return windows(anchors, {0: Frames(state, target, flags)}, plan)


def screw(time: Any, seed: int) -> np.ndarray:
    """A tool that turns about an axis through itself and moves along it, both at constant speed: float64."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    speed, spin = rng.uniform(-0.3, 0.3), rng.uniform(-8, 8)
    first = axis_angle_to_matrix(rng.normal(size=3))
    turned = axis_angle_to_matrix(np.asarray(time)[:, None] * spin * axis) @ first
    position = rng.uniform(-0.4, 0.4, 3) + np.asarray(time)[:, None] * speed * axis
    opening = 0.2 + 0.1 * np.asarray(time)
    return np.concatenate([position, matrix_to_rot6d(turned), opening[:, None]], axis=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(5, 60), st.floats(5, 60), st.integers(8, 20))
def test_a_screw_of_constant_velocity_is_resampled_exactly(
    seed: int, rate: float, control_hz: float, row: int
) -> None:
    rows = screw(np.arange(30) / rate, seed).astype(np.float32)
    found = window_at(rows, rows, row, Steps(9, 4, 1, control_hz), rate)
    inside = found.inside_nT[0]
    ahead = row / rate + np.arange(9) / control_hz
    np.testing.assert_allclose(found.target_nTA[0][inside], screw(ahead, seed)[inside], atol=1e-6)
    ago = row / rate - np.arange(3, -1, -1) / control_hz
    seen = ago > -1e-9
    np.testing.assert_allclose(found.state_nHS[0][seen], screw(ago, seed)[seen], atol=1e-6)


def test_rotations_turn_as_scipy_turns_them() -> None:
    rng = np.random.default_rng(0)
    ends = Rotation.random(2000, random_state=1)
    rows = rng.normal(size=(2000, 10))
    rows[:, 3:9] = matrix_to_rot6d(ends.as_matrix())
    share = rng.random(1000)
    found = rot6d_to_matrix(between(rows[:1000], rows[1000:], share, POSE)[:, 3:9])
    for i in range(1000):
        expected = Slerp([0, 1], Rotation.concatenate([ends[i], ends[1000 + i]]))(share[i])
        np.testing.assert_allclose(found[i], expected.as_matrix(), atol=1e-9)


def test_a_yaw_takes_the_shorter_way_round() -> None:
    space = ActionSpace([*dims_for("base.position"), *dims_for("base.yaw")])
    low, high = np.array([[0.0, 0, 3.0]]), np.array([[1.0, 2, -3.0]])
    middle = between(low, high, np.array([0.5]), space)[0]
    assert middle[:2].tolist() == [0.5, 1] and abs(middle[2]) == pytest.approx(np.pi)


def test_a_value_between_rows_counts_if_both_rows_are_valid() -> None:
    rows = screw(np.arange(6) / 10, 1).astype(np.float32)
    flags = np.zeros(6, np.uint32)
    flags[2] = Flag.INVALID_ACTION
    found = window_at(rows, rows, 0, Steps(10, 1, 1, 20), 10, flags)  # targets at rows 0, 0.5, 1, …
    assert found.usable_nT[0].tolist() == [True] * 3 + [False] * 3 + [True] * 4
    flags[2] = Flag.INVALID_STATE
    assert window_at(rows, rows, 3, Steps(1, 2, 1, 15), 10, flags).state_mask_nS.sum() == 0  # at 2.33


# --- laws of the loader -------------------------------------------------------------------------------------


def test_the_own_rate_changes_no_bit(store: Store) -> None:
    for representation in ("relative_tool", "delta"):
        window: dict[str, Any] = {"horizon": 5, "representation": representation}
        plain = arrays(store, "sim", **window)
        assert arrays(store, "sim", control_hz=20, **window) == plain
        assert arrays(store, "sim", control_hz=20.0 + 1e-9, **window).keys() == plain.keys()


def test_a_whole_ratio_is_a_stride(store: Store) -> None:
    assert arrays(store, "sim", horizon=4, history=3, control_hz=10) == arrays(
        store, "sim", horizon=4, history=3, stride=2
    )
    assert arrays(store, "sim", horizon=4, history=3, control_hz=20, stride=3) == arrays(
        store, "sim", horizon=4, history=3, stride=3
    )


def test_up_sampling_keeps_the_rows_that_there_are(store: Store) -> None:
    settings = {"representation": "absolute", "cameras": ()}
    with (
        open_loader(store, "real", horizon=5, **settings) as plain,
        open_loader(store, "real", horizon=9, history=4, control_hz=20, **settings) as fine,
    ):
        for b in range(3):
            rows, resampled = plain.batch(b), fine.batch(b)
            kept = rows.step_mask_BT
            assert np.array_equal(resampled.step_mask_BT[:, ::2], kept)
            assert np.array_equal(resampled.action_BTA[:, ::2][kept], rows.action_BTA[kept])
            seen = rows.state_mask_BD & resampled.state_mask_BD
            for ours, theirs in ((3, 1), (1, 0)):  # now, and one row ago
                assert np.array_equal(
                    np.where(seen, resampled.state_BHD[:, ours], 0),
                    np.where(seen, rows.state_BHD[:, theirs], 0),
                )
            assert (resampled.dt_B == np.float32(0.05)).all() and (rows.dt_B == np.float32(0.1)).all()


def test_images_are_the_last_ones_taken_by_then(store: Store) -> None:
    with (
        open_loader(store, "real", history=2, horizon=1) as plain,
        open_loader(store, "real", history=4, horizon=1, control_hz=15) as fine,
    ):
        rows, resampled = plain.batch(0).images["primary"], fine.batch(0).images["primary"]
    # Moments 0, 2/3, 4/3 and 2 rows ago: the last image by then is 0, 1, 2 and 2 rows ago.
    assert np.array_equal(resampled[:, 3], rows[:, 1]) and np.array_equal(resampled[:, 2], rows[:, 0])
    assert np.array_equal(resampled[:, 1], resampled[:, 0])


def test_seconds_are_steps_of_each_dataset(store: Store) -> None:
    assert arrays(store, "sim", horizon="0.25s", history="0.1s", stride="0.1s") == arrays(
        store, "sim", horizon=3, history=2, stride=2
    )
    with open_loader(store, WEIGHTS, horizon="0.4s", history="0.1 s", cameras=()) as loader:
        batch = loader.batch(0)
    names = [component.name for component in loader.mixture.components]
    real = batch.dataset_B == names.index("real")
    assert batch.action_BTA.shape[1] == 8 and batch.state_BHD.shape[1] == 3
    assert not batch.step_mask_BT[real, 4:].any() and batch.step_mask_BT[~real, 4:].any()
    assert np.array_equal(
        batch.state_BHD[real, 0], batch.state_BHD[real, 1]
    )  # 2 moments, the oldest repeated
    usable = batch.step_mask_BT[real, 3]
    assert np.array_equal(
        batch.action_BTA[real][usable, 4:], batch.action_BTA[real][usable, 3:4].repeat(4, 1)
    )
    with open_loader(store, WEIGHTS, horizon="0.4s", stride="0.1s", cameras=()) as loader:
        batch = loader.batch(0)
    assert batch.action_BTA.shape[1] == 4 and (batch.dt_B == np.float32(0.1)).all()


def test_one_rate_makes_one_step_time(store: Store) -> None:
    with open_loader(store, WEIGHTS, horizon="0.8s", control_hz=15, cameras=()) as loader:
        batch = loader.batch(0)
    assert batch.action_BTA.shape[1] == 12
    assert (batch.dt_B == np.float32(1 / 15)).all() and set(batch.dataset_B) == {0, 1}
    assert np.isfinite(batch.action_BTA).all() and np.isfinite(batch.state_BHD).all()


def test_statistics_see_the_windows_of_the_loader(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flagged_version(store)
    settings: dict[str, Any] = {"horizon": "0.4s", "history": 1, "control_hz": 15, "cameras": ()}
    settings["flags"] = {"terminal": "mask", "noop": "skip", "intervention": 3.0}
    for representation in ("relative_tool", "delta", "absolute"):
        window = WindowSpec(representation=representation, **settings)
        with load("sim", window, seed=0, global_batch=1, store=store, threads=0) as loader:
            state, action = loader.normalizer_statistics()
            batches = [loader.batch(b) for b in range(loader.mixture.components[0].num_samples)]
        counted = np.concatenate([batch.action_BTA[batch.step_mask_BT] for batch in batches])
        assert set(action.counts) == {len(counted)}
        for i, digest in enumerate(action.digests):
            assert (digest.min, digest.max) == (counted[:, i].min(), counted[:, i].max())
        states = np.concatenate([batch.state_BHD[:, 0] for batch in batches])
        assert set(state.counts) == {len(states)}
        np.testing.assert_allclose([digest.mean for digest in state.digests], states.mean(0), atol=1e-6)


# --- what is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"horizon": "0.8"}, "horizon '0.8' is neither steps, such as 16, nor seconds, such as 0.8s"),
        ({"horizon": "16sec", "stride": 0}, "horizon '16sec' is neither .*; stride 0 is below 1"),
        ({"history": "0s"}, "history 0s is no time"),
        ({"control_hz": 0.0}, "control_hz 0 is no rate"),
        ({"flags": {"nop": "skip"}}, "no flag 'nop', did you mean 'noop'"),
        (
            {"flags": {"noop": "skp"}},
            "'skp', which is neither skip, mask nor a weight, did you mean 'skip'",
        ),
        ({"flags": {"noop": 0.0}}, "weight 0.0, which is not positive; mask leaves it out"),
    ],
)
def test_what_is_wrong_with_a_window_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(FoundryError, match=said):
        WindowSpec(**settings)


def test_seconds_need_a_rate_that_they_fit() -> None:
    assert Timing("0.8s", "0.2s", "0.1s", 30).steps(None, "x") == Steps(8, 3, 3, 30)
    with pytest.raises(FoundryError, match=r"'x': a stride of 0.1s is 1.5 rows at 15 Hz, not a whole number"):
        Timing(stride="0.1s").steps(15, "x")
    with pytest.raises(FoundryError, match=r"'x' has no one rate, so a horizon of 0.8s is no number of rows"):
        Timing("0.8s").steps(None, "x")


def test_an_episode_without_a_rate_cannot_be_resampled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    FIXTURES["write_version"](store, "blind", [[9]], fps=-1.0)
    with open_loader(store, "blind", cameras=()) as loader:
        assert not loader.batch(0).dt_B.any()
    with (
        open_loader(store, "blind", control_hz=10, cameras=()) as loader,
        pytest.raises(FoundryError, match="the rate of an episode is unknown"),
    ):
        loader.batch(0)


def test_unlike_rates_warn_until_a_step_is_one_time(store: Store) -> None:
    mixture = make_mixture(store, WEIGHTS)
    found = [line for line in warnings_for(store, mixture) if "Hz" in line]
    assert len(found) == 1 and "real 10 Hz, sim 20 Hz" in found[0] and "control_hz" in found[0]
    assert not any("Hz" in line for line in warnings_for(store, mixture, timing=Timing(control_hz=10)))
    (line,) = (s for s in warnings_for(store, mixture, timing=Timing(control_hz=50)) if "Hz" in s)
    assert line.startswith("control_hz 50 is over 4 times the rate of real 10 Hz: most steps")
    assert Timing(control_hz=10).one_step_time and Timing(stride="0.1s").one_step_time
    assert not Timing(horizon="0.8s").one_step_time


def test_a_split_by_time_leaves_the_rows_of_a_window_between(store: Store) -> None:
    mixture = make_mixture(store, WEIGHTS)
    assert window_rows(store, mixture, Timing(16, 2, 3)) == 54
    assert window_rows(store, mixture, Timing("0.8s", 2, 1)) == 18  # at 20 Hz
    assert window_rows(store, mixture, Timing(8, 2, 1, 8)) == 25  # ten steps of 2.5 rows


# --- flags --------------------------------------------------------------------------------------------------


def test_flags_skip_mask_and_weigh(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written = flagged_version(store)
    plain_flags = np.concatenate([episode.flags for episode in written.episodes])
    with open_loader(store, "sim", horizon=3, cameras=()) as loader:
        plain = loader.batch(0)
        assert loader.mixture.components[0].num_samples == len(plain_flags)
    uses = {"noop": "skip", "terminal": "mask", "intervention": 2.0}
    with open_loader(store, "sim", horizon=3, cameras=(), flags=uses) as loader:
        component = loader.mixture.components[0]
        batches = [loader.batch(b) for b in range(2)]
        samples = np.concatenate([loader._order.at(batch.k_B)[2] for batch in batches])
    assert component.selection["skip"] == ["noop"]
    kept = np.flatnonzero((plain_flags & Flag.NOOP) == 0)
    assert component.num_samples == len(kept) < len(plain_flags)
    rows = kept[samples]
    weights = np.concatenate([batch.weight_B for batch in batches])
    assert np.array_equal(weights, np.where(plain_flags[rows] & Flag.INTERVENTION, 2, 1).astype(np.float32))
    masks = np.concatenate([batch.step_mask_BT for batch in batches])
    ends = np.cumsum([len(episode.flags) for episode in written.episodes])
    last = ends[np.searchsorted(ends, rows, side="right")] - 1
    for step in range(3):  # the last row is terminal
        assert np.array_equal(masks[:, step], rows + step < last)
    assert sum(batch.counts["action"] for batch in batches) == masks.sum() * 10
    assert (plain.weight_B == 1).all()


def test_a_dataset_without_a_target_that_counts_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flagged_version(store)
    flagged_version(store, "idle", flags=[Flag.NOOP] * 12)
    both = make_mixture(store, {"sim": 1, "idle": 1})
    assert chunk_statistics(store, both).action.digests[0].count
    with pytest.raises(FoundryError, match="no target of 'idle' counts: .* or flagged noop"):
        chunk_statistics(store, both, masked=["noop"])
    with pytest.raises(FoundryError, match="no frame of idle@v1 is left: all that are selected are noop"):
        make_mixture(store, {"sim": 1, "idle": 1}, skip=["noop"])
    with pytest.raises(FoundryError, match="no action stream 'state' in idle, sim,.*streams of all: next_"):
        chunk_statistics(store, both, stream="state")


def test_what_is_skipped_stays_skipped_in_mixtures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flagged_version(store)
    whole = make_mixture(store, {"sim": 1}, split="all")
    skipped = make_mixture(store, {"sim": 1}, split="all", skip=["noop"])
    assert "skip" not in whole.components[0].selection and whole.id != skipped.id
    with load(whole, WindowSpec(flags={"noop": "skip"}, cameras=()), seed=0, global_batch=1, store=store,
              split="all", threads=0) as loader:  # fmt: skip
        assert loader.mixture == skipped
    with load(
        skipped, WindowSpec(cameras=()), seed=0, global_batch=1, store=store, split="all", threads=0
    ) as loader:
        assert loader.mixture == skipped
    everything = [str(flag.name).lower() for flag in Flag]
    flagged_version(store, "idle", np.full(9, Flag.NOOP, np.uint32))
    with pytest.raises(FoundryError, match="no frame of idle@v1 .*is left"):
        make_mixture(store, {"idle": 1}, split="all", skip=everything)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["train", "val", "all"]),
    st.sampled_from(["episode", "time"]),
    st.sets(st.sampled_from(["noop", "intervention", "terminal"])),
)
def test_a_selection_is_what_it_would_be_less_the_flagged(
    some: tuple[Store, Any], split: str, by: str, skip: set[str]
) -> None:
    store, written = some
    spec = {"split": split, "split_by": by, "val_fraction": "2/5", "gap": 1}
    version = written.version
    whole = Selection.of(store, version, spec)
    kept = Selection.of(store, version, {**spec, "skip": sorted(skip)})
    flags: dict[int, list[np.ndarray]] = {}
    for episode in written.episodes:
        flags.setdefault(int(episode.key[2]), []).append(episode.flags)
    shards = {shard: np.concatenate(parts) for shard, parts in flags.items()}
    bits = int(flag_named(*skip))
    rows = [(shard, row) for shard, start, stop in whole.ranges() for row in range(start, stop)]
    expected = [(shard, row) for shard, row in rows if not shards[shard][row] & bits]
    found = [(shard, row) for shard, start, stop in kept.ranges() for row in range(start, stop)]
    assert found == expected and kept.num_samples == len(expected)
    starts = {shard: np.cumsum([0, *map(len, parts)]) for shard, parts in flags.items()}
    episodes = {(s, int(np.searchsorted(starts[s], row, side="right"))) for s, row in expected}
    assert kept.num_episodes == len(episodes)
    assert (kept.id == whole.id) == (len(expected) == len(rows))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Any]:
    """Many episodes with flags, some of a single frame."""
    store = Store(tmp_path_factory.mktemp("flags"))
    return store, flagged_version(store, lengths=[[14, 1, 9, 11], [17, 30], [10, 12, 9, 13]])


def flagged_version(store: Store, name: str = "sim", flags: Any = None, lengths: Any = ((14,), (17,))) -> Any:
    """Episodes with idle frames, interventions and a terminal frame, or one with these flags."""

    def flag(episode: Any, garbage: float) -> None:
        rng = np.random.default_rng(len(episode.flags))
        episode.flags |= np.uint32(Flag.NOOP) * (rng.random(len(episode.flags)) < 0.3)
        episode.flags |= np.uint32(Flag.INTERVENTION) * (rng.random(len(episode.flags)) < 0.4)
        episode.flags[-1] |= Flag.TERMINAL
        if flags is not None:
            episode.flags[:] = flags

    lengths = lengths if flags is None else [[len(flags)]]
    return FIXTURES["write_version"](store, name, lengths, spoil=flag)


def test_replacing_a_window_keeps_its_settings() -> None:
    window = WindowSpec(horizon="0.8s", control_hz=10, flags={"noop": "skip", "intervention": 3})
    assert replace(window, cameras=()).timing == window.timing
    assert window.skipped == ("noop",) and window.masked == ()
