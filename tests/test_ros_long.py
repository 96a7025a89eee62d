"""A bag that is too long for one tar: cut into segments, read across them, trained on."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.ros_bags import arm, joints, spec_file, write_bag
from foundry_testing.trainer_runs import TINY

import robot_foundry
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.ingest.sources.robot.shared import MOST_FRAMES
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.windows.window import WindowSpec

MANY_BYTES = 1 << 30


def segments(made: Ingested) -> list[list[int]]:
    """First and last frame (exclusive) of each part of the only episode."""
    told = made.episode("take").get("segments", [])
    starts = [0, *(part["start"] for part in told), made.rows["take"]["num_frames"]]
    assert [part["end"] for part in told] == starts[2:]
    return [list(part) for part in zip(starts, starts[1:], strict=False)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same bag in one tar and in several."""
    folder = tmp_path_factory.mktemp("bags")
    bag, spec = write_bag(folder / "take", arm(4.0)), spec_file(folder)
    sizes = {"whole": MANY_BYTES, "cut": bag.joinpath("take.mcap").stat().st_size // 10}
    return [
        Ingested(spec, bag, folder / name, [f"content.shard_bytes={size}"]) for name, size in sizes.items()
    ]


def test_a_bag_of_many_bytes_is_cut_and_stays_the_same(both):
    whole, cut = both
    assert (segments(whole), segments(cut)) == ([[0, 79]], [[0, 26], [26, 52], [52, 79]])
    assert cut.images("take", "front") == whole.images("take", "front")
    assert cut.frames("take") == whole.frames("take")


def test_windows_are_read_across_the_borders_of_segments(both):
    spec = WindowSpec(cameras=("primary",), history=3, horizon=4)
    batches = []
    for made in both:
        loader = robot_foundry.load(
            "made", window=spec, seed=0, global_batch=79, store=made.folder.parents[2]
        )
        batch = next(iter(loader))
        batches.append((batch, np.argsort(batch.state_BHD[:, -1, 0], kind="stable")))
    (one, one_B), (other, other_B) = batches
    assert one.image_mask["primary"].all() and len(one_B) == 79
    assert np.array_equal(one.images["primary"][one_B], other.images["primary"][other_B])
    assert np.array_equal(one.action_BTA[one_B], other.action_BTA[other_B])


def test_segments_are_validated_and_trained_on(both, tmp_path):
    store = both[1].folder.parents[2]
    (checked,) = validate("made", store=store, deep=True)
    assert not checked.damage
    where = ("data.mix=made", f"data.store={Store(store).url}", f"run.dir={tmp_path / 'run'}")
    recipe = read_recipe(None, [*TINY, *where, "run.steps=2", "data.window.horizon=4"])
    outcome = run_task(resolve_vla(recipe), quiet=True)
    assert outcome.step == 2 and outcome.skipped == 0


def test_a_bag_of_many_frames_and_few_bytes_is_cut(tmp_path):
    """Frames at 1 kHz between joints at 10 Hz: what it will be shows in how long it lasts."""
    seconds = MOST_FRAMES // 1000 + 1
    sent = [joints("/joint_states", n / 10, {"a": n / 10, "b": 0.0}) for n in range(10 * seconds + 1)]
    bag = write_bag(tmp_path / "take", sent)
    none = {"cameras": {}}
    made = Ingested(spec_file(tmp_path, {"rate": 1000, **none}, none), bag, tmp_path / "store")
    assert bag.joinpath("take.mcap").stat().st_size < 100_000
    assert segments(made) == [[0, 500 * seconds], [500 * seconds, 1000 * seconds + 1]]
