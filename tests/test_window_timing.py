"""Time: steps and seconds, resampling, and that every consumer of windows sees the same ones.

Legend: B rows, H history, T horizon, D state dims, A action dims.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.loader_fixtures import write_version
from foundry_testing.window_loaders import flagged_version, open_loader

from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.windows.mixtures import warnings_for, window_rows
from robot_foundry.windows.timing import Steps, Timing
from robot_foundry.windows.window import WindowSpec

WEIGHTS = {"sim": 0.5, "real": 0.5}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'sim' at 20 Hz and 'real' at 10 Hz, with flaws."""
    store = Store(tmp_path_factory.mktemp("store"))
    write_version(store, "sim", [[12, 19], [17]], cameras={"primary": (16, 16)})
    write_version(store, "real", [[11, 2], [23]], cameras={"primary": (16, 16)}, fps=10.0)
    return store


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
    write_version(store, "blind", [[9]], fps=-1.0)
    with open_loader(store, "blind", cameras=()) as loader:
        assert not loader.batch(0).dt_B.any()
    with (
        open_loader(store, "blind", control_hz=10, cameras=()) as loader,
        pytest.raises(FoundryError, match="the rate of an episode is unknown"),
    ):
        loader.batch(0)


def test_unlike_rates_warn_until_a_step_is_one_time(store: Store) -> None:
    mixture = make_mixture(store, WEIGHTS)
    found = [line for line in warnings_for(mixture) if "Hz" in line]
    assert len(found) == 1 and "real 10 Hz, sim 20 Hz" in found[0] and "control_hz" in found[0]
    assert not any("Hz" in line for line in warnings_for(mixture, timing=Timing(control_hz=10)))
    (line,) = (s for s in warnings_for(mixture, timing=Timing(control_hz=50)) if "Hz" in s)
    assert line.startswith("control_hz 50 is over 4 times the rate of real 10 Hz: most steps")
    assert Timing(control_hz=10).one_step_time and Timing(stride="0.1s").one_step_time
    assert not Timing(horizon="0.8s").one_step_time


def test_a_split_by_time_leaves_the_rows_of_a_window_between(store: Store) -> None:
    mixture = make_mixture(store, WEIGHTS)
    assert window_rows(mixture, Timing(16, 2, 3)) == 54
    assert window_rows(mixture, Timing("0.8s", 2, 1)) == 18  # at 20 Hz
    assert window_rows(mixture, Timing(8, 2, 1, 8)) == 25  # ten steps of 2.5 rows


def test_replacing_a_window_keeps_its_settings() -> None:
    window = WindowSpec(horizon="0.8s", control_hz=10, flags={"noop": "skip", "intervention": 3})
    assert replace(window, cameras=()).timing == window.timing
    assert window.skipped == ("noop",) and window.masked == ()
