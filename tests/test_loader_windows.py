"""Windows in batches are those of the written episodes, by SciPy and Pillow; masks, spaces and refusals.

Legend: B rows, H history, T horizon, D state dims, A action dims.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from foundry_testing import batch_loaders
from foundry_testing.batch_loaders import WINDOW, open_loader
from foundry_testing.loader_fixtures import write_version
from PIL import Image
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.windows.window import WindowSpec

# Fixtures.
written = batch_loaders.written


def reference(episode, frame, schema, window, spaces):
    state_space, action_space = spaces
    rows = [max(0, frame - lag * window.stride) for lag in reversed(range(window.history))]
    own = schema.state_space()
    at = [state_space.index(n if n in state_space else f"{schema.embodiment}:{n}") for n in own.names]
    state, state_mask = np.zeros((window.history, len(state_space))), np.zeros(len(state_space), bool)
    state[:, at] = episode.state[rows]
    state_mask[at] = not any(episode.flags[row] & Flag.INVALID_STATE for row in rows)
    state *= state_mask
    action, step_mask = np.zeros((window.horizon, len(action_space))), np.zeros(window.horizon, bool)
    anchored = not episode.flags[frame] & Flag.INVALID_STATE
    seen_from, seen_from_ok = episode.state[frame, :10], anchored
    for step in range(window.horizon):
        row = min(frame + step * window.stride, len(episode.flags) - 1)
        target = episode.target[row]
        target_ok = np.isfinite(target).all() and not episode.flags[row] & Flag.INVALID_ACTION
        usable = anchored and seen_from_ok and target_ok
        if usable:
            origin, frame_of_reference = pose_of(seen_from)
            position, rotation = pose_of(target)
            relative = (frame_of_reference.inv() * rotation).as_matrix()
            action[step, :3] = frame_of_reference.inv().apply(position - origin)
            action[step, 3:9] = relative[:, :2].T.reshape(-1)
            action[step, 9] = target[9]
        step_mask[step] = usable and frame + step * window.stride < len(episode.flags)
        if window.representation == "delta":
            seen_from, seen_from_ok = target, target_ok
    images, masks = {}, {}
    for role in window.cameras:
        stored = episode.images.get(role, [None] * len(episode.flags))
        images[role] = np.stack([picture(stored[row], window.image) for row in rows])
        masks[role] = [stored[row] is not None for row in rows]
    texts = {text for start, end, text in episode.notes if start <= frame < end} or {""}
    return state, state_mask, action, step_mask, images, masks, texts


def pose_of(values):
    """Position and rotation of (x y z, rot6d, …); rot6d holds the first two columns."""
    first, second = values[3:6].astype(float), values[6:9].astype(float)
    return values[:3].astype(float), Rotation.from_matrix(
        np.stack([first, second, np.cross(first, second)], axis=1)
    )


def picture(data, size):
    if data is None:
        return np.zeros((*size, 3), np.uint8)
    image = Image.open(io.BytesIO(data))
    return np.asarray(
        image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.BILINEAR)
    )


@pytest.mark.parametrize(
    "window",
    [
        WINDOW,
        WindowSpec(horizon=4, history=3, stride=2, image=(16, 16)),
        WindowSpec(representation="delta", cameras=()),
    ],
    ids=["plain", "strided", "delta"],
)
def test_windows_are_those_of_the_stored_episodes(written, window):
    store, made = written
    with open_loader(store, window=window) as loader:
        names = [component.name for component in loader.mixture.components]
        seen = {name: 0 for name in names}
        for b in range(8):
            batch = loader.batch(b)
            dataset, _, sample = loader._order.at(batch.k_B)
            for i in range(len(batch)):
                source = made[names[dataset[i]]]
                episode, frame = source.rows()[sample[i]]
                expected = reference(episode, frame, source.schema, window, loader.spaces)
                state, state_mask, action, step_mask, images, masks, texts = expected
                assert np.array_equal(batch.state_BHD[i], state.astype(np.float32))
                assert np.array_equal(batch.state_mask_BD[i], state_mask)
                assert np.array_equal(batch.step_mask_BT[i], step_mask)
                np.testing.assert_allclose(batch.action_BTA[i], action, atol=2e-6)
                assert batch.action_dim_mask_BA[i].all()
                for role in window.cameras:
                    assert np.array_equal(batch.images[role][i], images[role])
                    assert batch.image_mask[role][i].tolist() == masks[role]
                assert batch.instruction[i] in texts
                assert batch.dt_B[i] == np.float32(window.stride / source.schema.fps)
                assert loader.embodiments[batch.embodiment_B[i]] == source.schema.embodiment
                seen[names[dataset[i]]] += 1
            assert batch.counts["action"] == batch.step_mask_BT.sum() * 10
    assert all(count >= len(made[name].rows()) for name, count in seen.items())


@pytest.mark.parametrize("representation", ["relative_tool", "relative_base", "delta", "absolute"])
def test_nothing_is_nan_and_what_is_masked_is_zero(written, representation):
    store, _ = written
    window = WindowSpec(representation=representation, horizon=4, cameras=())
    with open_loader(store, window=window, global_batch=64) as loader:
        batches = [loader.batch(b) for b in range(3)]
    for batch in batches:
        for values in (batch.state_BHD, batch.action_BTA, batch.dt_B, batch.weight_B):
            assert np.isfinite(values).all()
        assert not (batch.state_BHD * ~batch.state_mask_BD[:, None]).any()
        assert not (batch.action_BTA * ~batch.action_dim_mask_BA[:, None]).any()
    assert any(not batch.state_mask_BD.all() for batch in batches)
    assert any(not batch.step_mask_BT.all() for batch in batches)


def test_what_is_stored_where_a_flag_says_invalid_has_no_influence(tmp_path):
    batches = []
    for garbage in (1e6, np.nan):
        store = Store(tmp_path / str(garbage))
        write_version(store, "sim", [[12, 9]], cameras={"primary": (16, 16)}, garbage=garbage)
        with open_loader(store, ref="sim", window=WindowSpec(horizon=4), global_batch=21) as loader:
            batch = loader.batch(0)
            _, _, sample = loader._order.at(batch.k_B)
        batches.append([batch.rows(slice(i, i + 1)) for i in np.argsort(sample)])
    for one, other in zip(*batches, strict=True):
        for name in ("state_BHD", "state_mask_BD", "action_BTA", "step_mask_BT"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_statistics_count_what_an_epoch_of_batches_holds(tmp_path):
    store = Store(tmp_path)
    write_version(store, "sim", [[12, 9], [30]], flaws=False)
    window = WindowSpec(horizon=4, cameras=())
    with load("sim", window, seed=0, global_batch=1, store=store, threads=0) as loader:
        state, action = loader.normalizer_statistics()
        samples = loader.mixture.components[0].num_samples
        counted = sum(int(loader.batch(b).step_mask_BT.sum()) for b in range(samples))
    assert {digest.count for digest in action.digests} == {counted}
    assert {digest.count for digest in state.digests} == {samples}


def test_windows_that_the_datasets_cannot_give_are_refused(written):
    store, _ = written
    with pytest.raises(FoundryError, match=r"role 'primry', did you mean 'primary'\?"):
        open_loader(store, window=WindowSpec(cameras=("primry",)))
    with pytest.raises(FoundryError, match="unlike sizes .24 x 32, 30 x 40."):
        open_loader(store, window=WindowSpec())
    with pytest.raises(FoundryError, match="next_stat"):
        open_loader(store, window=WindowSpec(stream="next_stat"))
    with pytest.raises(FoundryError, match="did you mean 'relative_tool'"):
        WindowSpec(representation="relativ_tool")
    with pytest.raises(FoundryError, match="horizon 0 is below 1; stride -1 is below 1"):
        WindowSpec(horizon=0, stride=-1)


def test_a_representation_needs_its_reference_in_the_state(tmp_path):
    store = Store(tmp_path)
    write_version(store, "blind", [[9]], state=["right.gripper_opening"])
    with pytest.raises(FoundryError, match="'blind', stream 'next_state': .*state"):
        open_loader(store, ref="blind", window=WindowSpec(cameras=()))
    with open_loader(store, ref="blind", window=WindowSpec(cameras=(), representation="absolute")) as loader:
        assert next(loader).action_BTA.shape == (16, 16, 10)


def test_unions_qualify_joints_and_name_the_spaces_of_datasets(written):
    store, made = written
    with open_loader(store) as loader:
        state, action = loader.spaces
        own_state, own_action = loader.dataset_spaces["real"]
    joints = [dim.name for dim in dims_for("right.joint_velocity", count=6)]
    assert set(state.names) == set(made["sim"].schema.state_space().names) | {
        f"ur5:{name}" for name in joints
    }
    assert isinstance(action, ActionSpace) and action.dims[0].representation == "relative_tool"
    assert own_state == made["real"].schema.state_space()
    assert own_action.dims[-1].representation == "absolute"


def test_a_window_of_another_class_is_refused_by_the_name_of_the_right_one(tmp_path: Path) -> None:
    write_version(Store(tmp_path), "sim", [[9]])
    with pytest.raises(UsageError, match="a window of frames is a WindowSpec, not a dict"):
        load("sim", {"horizon": 4}, seed=0, global_batch=4, store=tmp_path)  # type: ignore[arg-type]
