"""PushT: its demonstrations, which its spec reads, and its world."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import robot_foundry
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.pusht.demonstrations import PushtDemonstrator
from robot_foundry.evaluation.worlds.pusht.expert import Expert
from robot_foundry.evaluation.worlds.pusht.simulation import Simulation
from robot_foundry.evaluation.worlds.pusht.world import PushtWorlds
from robot_foundry.ingest import ingest
from robot_foundry.runtime.errors import FoundryError

SOLVED = 10


def test_the_expert_puts_the_block_on_its_outline_and_the_world_agrees() -> None:
    demonstrator = PushtDemonstrator("push-t", "sim", (), 96)
    recording = demonstrator.record(SOLVED)
    assert recording.success
    assert recording.arrays["actions"].shape == recording.arrays["obs/eef_pos"].shape
    again = PushtDemonstrator("push-t", "sim", (), 96)
    again.record(3)
    for name, array in again.record(SOLVED).arrays.items():
        np.testing.assert_array_equal(array, recording.arrays[name])


def test_equal_situations_get_equal_answers() -> None:
    """The expert remembers nothing: asked in any order, or anew, it says the same."""
    places = np.random.default_rng(0).uniform(100, 400, (6, 5))
    expert = Expert()
    forth = [expert.target(place[:2], place[2:4], place[4] / 100) for place in places]
    back = [Expert().target(place[:2], place[2:4], place[4] / 100) for place in places[::-1]][::-1]
    np.testing.assert_array_equal(forth, back)


def test_the_state_does_not_say_where_the_block_is() -> None:
    simulation = Simulation()
    simulation.reset(7)
    with closing(open_world(PushtWorlds(), "push-t", "sim", cameras=("primary",), size=32)) as world:
        world.reset(7)
        seen = world.observe()
        np.testing.assert_allclose(seen.state_D, [*simulation.disc_2 / 1000, 0.0])
        assert seen.images["primary"].shape == (32, 32, 3)
        world.aim(seen.state_D[None])
        assert world.reward == 0.0
        assert world.step() is Outcome.RUNNING
        assert world.reward is not None and 0.0 <= world.reward < 1.0


@pytest.mark.parametrize("to", ["hdf5", "lerobot", "rlds", "mcap"])
def test_its_spec_reads_every_format(to: str, tmp_path: Path) -> None:
    made = tmp_path / ("made.hdf5" if to == "hdf5" else "made")
    collect(Request("push-t", "sim", 1, 7, None, 16, "pusht"), made, to=to, quiet=True)
    ingest("pusht", made, store=tmp_path / "store", name="made")
    dataset = robot_foundry.open("made", tmp_path / "store")
    arrays = PushtDemonstrator("push-t", "sim", (), 16).record(scene_seed("collect", 7, 0)).arrays
    command_N3 = [dataset[row]["action.command"] for row in range(len(arrays["actions"]))]
    np.testing.assert_allclose(command_N3, arrays["actions"], atol=1e-6)
    (episode,) = dataset.episodes().to_pylist()
    assert (episode["num_frames"], episode["success"]) == (len(command_N3), True)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(FoundryError, match="did you mean 'push-t'"):
        PushtWorlds().describe("pusht", "sim")
    with pytest.raises(FoundryError, match="no camera 'primari'"):
        PushtDemonstrator("push-t", "sim", ("primari",), 96)
    with pytest.raises(FoundryError, match="16 to 512"):
        PushtDemonstrator("push-t", "sim", None, 8)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foundry_testing.pages import missing_links, run_page

    less = {
        "foundry-eval collect": "--episodes 2 --size 16 --workers 0",
        "foundry-eval rollout": "--episodes 1",
    }
    run_page("docs/pusht.md", tmp_path, less, monkeypatch)
    assert not missing_links("docs/pusht.md")
