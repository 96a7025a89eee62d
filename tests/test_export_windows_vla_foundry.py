"""Windows in the layout of VLA Foundry, read as its documentation says: with webdataset and numpy.

Legend: H history, T horizon, L steps of a sequence, P those before the anchor, d dims of a field, C of all.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from foundry_testing.exported import exported
from foundry_testing.loader_fixtures import Written, write_version
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.shards.images import decode, encode_jpeg
from robot_foundry.windows.window import WindowSpec

SIZES = {"primary": (12, 16), "wrist_right": (12, 16)}
H, T, P = 3, 6, 2
WINDOW = ("--history", str(H), "--horizon", str(T), "--stride", "2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def written(store: Store) -> Written:
    return write_version(store, "sim", [[21, 15], [17]], cameras=SIZES)


class Exported:
    """An export, read as a trainer would: fields one behind the other, past and future by their masks."""

    def __init__(self, folder: Path) -> None:
        self.params = json.loads((folder / "data_params.yaml").read_text())
        self.config = json.loads((folder / "preprocessing_config.yaml").read_text())
        self.stats = json.loads((folder / "stats.json").read_text())
        lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        tars = [str(folder / f"{line['shard']}.tar") for line in lines]
        self.samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
        assert sum(line["num_sequences"] for line in lines) == len(self.samples)

    def joined(self, sample: dict[str, Any], fields: str) -> NDArray[Any]:
        """[L, C] of `proprioception_fields` or `action_fields`."""
        return np.concatenate([sample["lowdim.npz"][name] for name in self.params[fields]], axis=-1)


@pytest.fixture(scope="module")
def relative(store: Store, written: Written, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("out") / "vla"
    exported(store, "sim", "windows", out, "--layout", "foundry-vla", "--per-shard", "20", *WINDOW)
    return Exported(out)


def test_sequences_are_the_loaders_up_to_the_anchor_and_from_it_on(store: Store, relative: Exported) -> None:
    spec = WindowSpec(history=H, horizon=T, stride=2, cameras=tuple(SIZES))
    with load("sim", spec, seed=0, global_batch=53, store=store, split="all", threads=0) as loader:
        batch = loader.batch(0)
    assert len(relative.samples) == 53
    for k, sample in enumerate(relative.samples):
        about, lowdim = sample["metadata.json"], sample["lowdim.npz"]
        assert about["k"] == batch.k_B[k] == k and about["anchor_relative_idx"] == P
        state_LC = relative.joined(sample, "proprioception_fields")
        action_LC = relative.joined(sample, "action_fields")
        assert state_LC.shape == action_LC.shape == (P + T, 10)
        assert state_LC[: P + 1].tobytes() == batch.state_BHD[k].tobytes()
        assert action_LC[P:].tobytes() == batch.action_BTA[k].tobytes()
        assert np.array_equal(lowdim["future_mask"], [*[False] * P, *batch.step_mask_BT[k]])
        assert not lowdim["past_mask"][P:].any()
        texts = sample["language_instructions.json"]["original"]
        assert batch.instruction[k] in texts or not texts
        for role in SIZES:
            names = [f"{role}_t{offset}.jpg" for offset in relative.params["image_indices"]]
            assert [name in sample for name in names] == batch.image_mask[role][k].tolist()
            for i, name in enumerate(names):
                assert name not in sample or np.array_equal(sample[name], batch.images[role][k, i])


def test_what_lies_before_and_after_is_that_of_the_episode(written: Written, relative: Exported) -> None:
    by_key = {episode.key: episode for episode in written.episodes}
    seen_past = 0
    for sample in relative.samples:
        about, lowdim = sample["metadata.json"], sample["lowdim.npz"]
        episode, anchor = by_key[about["episode_id"]], about["anchor_timestep"]
        last = len(episode.flags) - 1
        action_LC, state_LC = (
            relative.joined(sample, name) for name in ("action_fields", "proprioception_fields")
        )
        for j in range(P):
            row = anchor - 2 * (P - j)
            target = episode.target[max(0, row)]
            anchored = not episode.flags[anchor] & Flag.INVALID_STATE
            is_real = (
                row >= 0
                and anchored
                and not episode.flags[row] & Flag.INVALID_ACTION
                and bool(np.isfinite(target).all())
            )
            assert lowdim["past_mask"][j] == is_real
            expected = seen_from(episode.state[anchor], target) if is_real else np.zeros(10)
            np.testing.assert_allclose(action_LC[j], expected, atol=2e-6)
            seen_past += is_real
        for j in range(1, T):
            row = min(anchor + 2 * j, last)
            is_valid = not episode.flags[row] & Flag.INVALID_STATE
            assert np.array_equal(state_LC[P + j], episode.state[row] * is_valid)
        assert about["past_padding"] == sum(anchor - 2 * j < 0 for j in range(1, P + 1))
        assert about["future_padding"] == sum(anchor + 2 * j > last for j in range(1, T))
        assert about["original_episode_length"] == last + 1
        assert about["image_timesteps"] == [max(0, anchor - 2 * j) for j in (2, 1, 0)]
    assert seen_past > 50


def seen_from(state: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """inv(T_state) · T_target by SciPy, as position, first two columns of the rotation, and the gripper."""

    def turned(values: NDArray[Any]) -> Rotation:
        first, second = values[3:6].astype(float), values[6:9].astype(float)
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1))

    back = turned(state).inv()
    columns = (back * turned(target)).as_matrix()[:, :2].T.reshape(-1)
    return np.concatenate([back.apply(target[:3] - state[:3].astype(float)), columns, target[9:]])


def test_statistics_are_those_of_the_steps_that_count(relative: Exported) -> None:
    fields = [*relative.params["proprioception_fields"], *relative.params["action_fields"]]
    assert set(relative.stats) == set(fields) and len(fields) == 6
    for name in fields:
        values_nLd = np.stack([sample["lowdim.npz"][name] for sample in relative.samples]).astype(np.float64)
        counted_nL = np.stack([_counted(sample, name) for sample in relative.samples])
        told, every_md = relative.stats[name], values_nLd[counted_nL]
        np.testing.assert_allclose(told["mean"], every_md.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(told["std"], every_md.std(axis=0, ddof=1), rtol=1e-9)
        np.testing.assert_allclose(told["min"], every_md.min(axis=0))
        np.testing.assert_allclose(told["max"], every_md.max(axis=0))
        assert told["count"] == counted_nL.sum(axis=0).tolist()
        for t in range(P + T):
            step_md = values_nLd[:, t][counted_nL[:, t]]
            np.testing.assert_allclose(told["mean_per_timestep"][t], step_md.mean(axis=0), atol=1e-9)
            np.testing.assert_allclose(told["max_per_timestep"][t], step_md.max(axis=0))
        for q in (1, 99):
            value_d = told[f"percentile_{q}"]
            assert ((every_md < value_d).mean(axis=0) <= q / 100 + 0.005).all()
            assert ((every_md <= value_d).mean(axis=0) >= q / 100 - 0.005).all()
        state = told["tdigest_state_per_timestep"]
        assert state["shape"] == [P + T, values_nLd.shape[2]]
        assert [sum(weights) for weights in state["digests"]["weights"]] == np.ravel(state["counts"]).tolist()


def _counted(sample: dict[str, Any], name: str) -> NDArray[np.bool_]:
    lowdim = sample["lowdim.npz"]
    steps_L = lowdim["past_mask"] | lowdim["future_mask"]
    # States of an anchor that saw an invalid one are masked as a whole.
    return steps_L & lowdim["state_dim_mask"].all() if name.startswith("state.") else steps_L


def test_the_configuration_names_what_the_tars_hold(relative: Exported) -> None:
    assert relative.params["proprioception_fields"] == [
        "state.right.ee_position",
        "state.right.ee_rot6d",
        "state.right.gripper_opening",
    ]
    assert relative.params["camera_names"] == relative.config["camera_names"] == ["primary", "wrist_right"]
    assert relative.config["image_indices"] == [-2, -1, 0]
    assert (relative.config["past_lowdim_steps"], relative.config["future_lowdim_steps"]) == (P, T - 1)
    assert relative.params["pad_missing_images"] is True


def test_fields_of_a_mixture_are_the_same_for_each_component(store: Store, tmp_path: Path) -> None:
    write_version(store, "a", [[9]], cameras=SIZES)
    write_version(store, "b", [[12]], cameras=SIZES, joints=2, embodiment="ur5")
    report = exported(store, "a=1,b=3", "windows", tmp_path / "out", "--layout", "foundry-vla")
    assert any("a lacks" in warning for warning in report["warnings"])
    params = json.loads((tmp_path / "out" / "data_params.yaml").read_text())
    assert "state.ur5:right.joint_velocity" in params["proprioception_fields"]
    for name, count in (("a", 9), ("b", 12)):
        tar = str(tmp_path / "out" / name / "shard_000000.tar")
        read = list(webdataset.WebDataset(tar, shardshuffle=False).decode())
        assert len(read) == count
        joints = np.stack([sample["lowdim.npz"]["state.ur5:right.joint_velocity"] for sample in read])
        assert bool(joints.any()) == (name == "b")
        stats = json.loads((tmp_path / "out" / name / "stats.json").read_text())
        assert set(stats) == {*params["proprioception_fields"], *params["action_fields"]}


def test_pngs_are_encoded_once_as_its_reader_takes_jpegs_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    written = write_version(store, "png", [[5]], cameras={"primary": (12, 16)}, encode=_png)
    [episode] = written.episodes
    plain = exported(store, "png", "windows", tmp_path / "plain")
    vla = exported(store, "png", "windows", tmp_path / "vla", "--layout", "foundry-vla", "--quality", "80")
    assert plain["images"]["new_images"] == 0 and vla["images"]["new_images"] == vla["images"]["images"] == 10
    read = webdataset.WebDataset(str(tmp_path / "plain" / "shard_000000.tar"), shardshuffle=False)
    for sample in read:
        frame = json.loads(sample["json"])["frame"]
        assert sample["primary.1.png"] == episode.images["primary"][frame]
    for sample in webdataset.WebDataset(str(tmp_path / "vla" / "shard_000000.tar"), shardshuffle=False):
        stored = episode.images["primary"][json.loads(sample["metadata.json"])["anchor_timestep"]]
        assert stored is not None
        assert sample["primary_t0.jpg"] == encode_jpeg(decode(stored), 80)


def _png(rng: np.random.Generator, height: int, width: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()
