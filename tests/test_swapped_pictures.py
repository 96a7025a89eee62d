"""Samples that show the pictures of others, whose words are unlike."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import make_version

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.vla import Inputs
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import TRAIN
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.windows.window import WindowSpec

CAMERAS = {"agentview": "primary", "eye": "wrist_right"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("swapped") / "store")
    # No two frames look alike; words are of even and of odd episodes.
    make_version(store, "lift", [[10] * 12], images=True, cameras=CAMERAS)
    make_version(store, "front", [[10] * 12], images=True, seed=1)
    make_version(store, "blind", [[10] * 12], seed=2)
    return store


def loader(store: Store, share: float, mix: str = "lift", **options: int) -> Loader[Batch]:
    window = WindowSpec(history=2, cameras=tuple(CAMERAS.values()), swapped_pictures=share)
    given = {"seed": 3, "global_batch": 64, "threads": 0} | options
    return load(mix, window, store=store, **given)


def pictures(batch: Batch) -> list[bytes]:
    """Of each row what all cameras show."""
    return [
        b"".join(batch.images[role][row].tobytes() for role in sorted(batch.images))
        for row in range(len(batch))
    ]


def test_rows_show_what_stands_elsewhere_under_other_words_and_are_else_the_same(store: Store) -> None:
    with loader(store, 0) as plain, loader(store, 0.5) as swapped:
        batches = [(plain.batch(b), swapped.batch(b)) for b in range(12)]
    words_of: dict[bytes, set[str]] = {}
    for own, _ in batches:
        for seen, words in zip(pictures(own), own.instruction, strict=True):
            words_of.setdefault(seen, set()).add(words)
    changed = 0
    for own, other in batches:
        assert own.instruction == other.instruction
        for name in ("k_B", "state_BHD", "action_BTA", "step_mask_BT", "weight_B"):
            np.testing.assert_array_equal(getattr(own, name), getattr(other, name))
        for before, after, words in zip(pictures(own), pictures(other), own.instruction, strict=True):
            if before != after:
                changed += 1
                assert words not in words_of[after]
    # Half are drawn, and half of what is drawn finds the same words.
    assert abs(changed / (12 * 64) - 0.25) < 0.06


def test_who_and_whose_depend_on_the_position_alone(store: Store) -> None:
    with loader(store, 0.5) as whole:
        expected = {int(k): seen for b in (0, 5) for k, seen in _rows(whole.batch(b))}
    for world, threads in ((2, 0), (4, 2)):
        for rank in range(world):
            with loader(store, 0.5, rank=rank, world=world, threads=threads) as part:
                assert all(expected[int(k)] == seen for b in (5, 0) for k, seen in _rows(part.batch(b)))
    with loader(store, 0.5, seed=4) as another:
        assert any(expected.get(int(k)) != seen for k, seen in _rows(another.batch(0)))


def _rows(batch: Batch) -> list[tuple[np.int64, bytes]]:
    return list(zip(batch.k_B, pictures(batch), strict=True))


def test_a_row_shows_the_cameras_that_its_own_dataset_has(store: Store) -> None:
    for other in ("front", "blind"):
        mix = f"lift=0.5,{other}=0.5"
        with loader(store, 0.0, mix) as plain, loader(store, 1.0, mix) as swapped:
            own, shown = plain.batch(0), swapped.batch(0)
        assert any(np.any(own.images[role] != shown.images[role]) for role in own.images)
        for role, mask_BH in own.image_mask.items():
            np.testing.assert_array_equal(mask_BH, shown.image_mask[role])


def test_where_the_pictures_of_the_other_are_corrupt_a_row_shows_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make_version(store, "good", [[10] * 12], images=True, cameras=CAMERAS)
    make_version(store, "bad", [[10] * 12], images=True, cameras=CAMERAS, seed=1)
    for tar in (tmp_path / "store/shards/bad").glob("*.tar"):
        with tarfile.open(tar) as members:
            places = [member.offset_data for member in members if member.name.endswith(".jpg")]
        data = bytearray(tar.read_bytes())
        for place in places[: len(places) // 2]:
            data[place + 30] ^= 255
        tar.write_bytes(data)
    with loader(store, 1.0, "good=0.5,bad=0.5") as swapped:
        batches = [swapped.batch(b) for b in range(3)]
        lost = {item.k for item in swapped.substitutions}
        assert {item.dataset for item in swapped.substitutions} == {"bad"}
        good = [component.name for component in swapped.mixture.components].index("good")
    with loader(store, 0.0, "good=0.5,bad=0.5") as plain:
        for batch in batches:
            own = plain.batch(batch.step)
            of_good = [row for row in range(64) if own.dataset_B[row] == good]
            assert of_good and not {int(own.k_B[row]) for row in of_good} & lost
            np.testing.assert_array_equal(own.state_BHD[of_good], batch.state_BHD[of_good])


def test_what_has_no_words_or_the_same_ones_shows_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    texts = (("take it", "grasp it"), ("put it down",), ())
    make_version(store, "lift", [[10] * 12], images=True, cameras=CAMERAS, texts=texts)
    with loader(store, 0.0) as plain, loader(store, 1.0) as swapped:
        batches = [(plain.batch(b), swapped.batch(b)) for b in range(6)]
    texts_of = {
        seen: words for own, _ in batches for seen, words in zip(pictures(own), own.instruction, strict=True)
    }
    put = "put it down"
    for own, other in batches:
        for before, after, words in zip(pictures(own), pictures(other), own.instruction, strict=True):
            assert words or before == after
            assert before == after or (words == put) != (texts_of[after] == put) and texts_of[after]
        assert pictures(own) != pictures(other)


def test_what_is_held_out_shows_its_own(store: Store, tmp_path: Path) -> None:
    shown = {}
    for share in (0.0, 1.0):
        more = f"data.window.swapped_pictures={share}"
        task = resolve_vla(trainer_runs.tiny(store, tmp_path, more))
        measured = task.measured(task.measure())
        for split in (TRAIN, "val"):
            with measured.open_stream(split, Ranks(0, 1, torch.device("cpu"))) as stream:
                inputs = stream.batch(0).inputs[0]
            assert isinstance(inputs, Inputs)
            shown[split, share] = inputs.image_BVHWC
    assert torch.equal(shown["val", 0.0], shown["val", 1.0])
    assert not torch.equal(shown[TRAIN, 0.0], shown[TRAIN, 1.0])


def test_words_that_are_all_the_same_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make_version(store, "lift", [[12], [15]], images=True)  # one episode a shard, each the first
    task = resolve_vla(trainer_runs.tiny(store, tmp_path, "data.window.swapped_pictures=0.1"))
    told = task.measured(task.measure()).warnings()
    assert any(line.startswith("data.window.swapped_pictures: no picture is swapped") for line in told)


def test_a_share_outside_0_to_1_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"swapped_pictures must lie in 0 … 1, not 1.5"):
        trainer_runs.run(store, tmp_path / "run", "data.window.swapped_pictures=1.5")
