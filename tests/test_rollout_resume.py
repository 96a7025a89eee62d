"""Rollouts are the same with one process and with four, and killed at any of its named places one goes on and
ends as one that was not; in every world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.gymnasium_worlds import GANTRY, HILL
from foundry_testing.kills import killed_each
from foundry_testing.rollout_worlds import ABSENT, EVERY_WORLD, assert_alike, skip_without_memory

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.rollout import GROUP, RolloutSpec, decided_by, rollout, save
from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.evaluation.rollouts.kept_rows import ROWS, KeptRows, kept_rows
from robot_foundry.runtime.errors import FoundryError, FoundryWarning

RANDOM = ActorSpec(run=None)
REACH = RolloutSpec(RANDOM, "reach", episodes=20, seed=3, max_steps=12)
ROLL = """
from pathlib import Path
from foundry_testing.rollout_worlds import EVERY_WORLD
from robot_foundry.evaluation.rollout import rollout
def work(world, folder):
    rollout(EVERY_WORLD[world], quiet=True, films=0, keep=Path(folder))
"""
# Where rollouts are killed, and how many rows that leaves.
KILLED = (
    *((world, "rollout-rows-kept:2", 2 * spec.together) for world, spec in EVERY_WORLD.items()),
    ("gantry", "rollout-rows-torn:3", None),  # the header, a group, and a part of the next
    ("gantry", "rollout-rows-torn:1", 0),
)


def in_worlds(*cases: Any) -> list[Any]:
    """Cases for parametrize, which begin with the name of a world; those of absent worlds are skipped."""
    return [
        pytest.param(*case, marks=pytest.mark.skipif(case[0] in ABSENT, reason=ABSENT.get(case[0], "")))
        for case in cases
    ]


def files_of(folder: Path) -> dict[str, Any]:
    """What a finished rollout leaves, without how long it took."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["rollout.json"] = json.loads(files["rollout.json"]) | {"seconds": None}
    return files


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each of KILLED left, by its world and place."""
    root = tmp_path_factory.mktemp("killed")
    here = [(world, place) for world, place, _ in KILLED if world not in ABSENT]
    killed_each(ROLL, [(place, world, root / world / place) for world, place in here])
    return root


@pytest.mark.parametrize(("world", "place", "kept"), in_worlds(*KILLED))
def test_killed_and_run_again_it_ends_as_if_it_had_not_been(
    world: str, place: str, kept: int | None, left: Path, tmp_path: Path
) -> None:
    spec, folder = EVERY_WORLD[world], left / world / place
    there = kept_rows(folder, decided_by(spec))
    assert len(there) == kept if kept is not None else GROUP <= len(there) < 2 * GROUP
    again = rollout(spec, quiet=True, films=2, keep=folder)
    whole = rollout(spec, quiet=True, films=2, keep=tmp_path / "whole")
    assert (again.kept, whole.kept, again.episodes) == (len(there), 0, whole.episodes)
    save(again, folder)
    save(whole, tmp_path / "whole")
    one, other = files_of(folder), files_of(tmp_path / "whole")
    # A group that was torn is run and kept again, so its rows may be there twice.
    del one[ROWS], other[ROWS]
    assert one == other
    assert rollout(spec, quiet=True, films=0, keep=folder).kept == 20


@pytest.mark.parametrize("world", in_worlds(*([world] for world in EVERY_WORLD)))
def test_four_processes_find_what_one_does(world: str, four_workers: int, tmp_path: Path) -> None:
    skip_without_memory(world, four_workers)
    spec = EVERY_WORLD[world]
    spec = replace(spec, episodes=4 * spec.together, max_steps=2, execute=1)
    parallel = rollout(spec, workers=four_workers, quiet=True, films=2, keep=tmp_path / "four")
    inline = rollout(spec, quiet=True, films=2, keep=tmp_path / "one")
    assert_alike(inline, parallel)
    assert kept_rows(tmp_path / "four", decided_by(spec)) == kept_rows(tmp_path / "one", decided_by(spec))


def test_scenes_go_alike_however_many_run_beside_each_other(tmp_path: Path) -> None:
    spec = EVERY_WORLD["tabletop"]
    eight = rollout(spec, quiet=True, films=2)
    for together in (1, 3):
        assert_alike(eight, rollout(replace(spec, together=together), quiet=True, films=2))


def test_four_processes_go_on_with_what_one_began(four_workers: int, tmp_path: Path) -> None:
    inline = rollout(REACH, quiet=True, films=0)
    rollout(replace(REACH, episodes=GROUP), quiet=True, films=0, keep=tmp_path)
    parallel = rollout(REACH, workers=four_workers, quiet=True, films=0, keep=tmp_path)
    assert (parallel.kept, parallel.episodes) == (GROUP, inline.episodes)


def test_rows_of_anything_else_are_no_rows_of_it(tmp_path: Path) -> None:
    spec = replace(REACH, episodes=2)
    first = rollout(spec, quiet=True, films=0, keep=tmp_path)
    longer = rollout(replace(spec, episodes=5), quiet=True, films=0, keep=tmp_path)
    assert longer.kept == 2 and longer.episodes[:2] == first.episodes
    others = replace(spec, words_of=("push",))  # of no scene: none are shuffled
    assert rollout(others, quiet=True, films=0, keep=tmp_path).kept == 2
    assert rollout(spec, quiet=True, films=0, keep=tmp_path, again=True).kept == 0
    changes: list[dict[str, Any]] = [
        {"execute": 4}, {"variant": "real"}, {"blank": True}, {"together": 3}, {"size": 32}
    ]  # fmt: skip
    for change in changes:
        with pytest.warns(FoundryWarning, match=r"2 rows in .* give way: .*spec\." + next(iter(change))):
            assert rollout(replace(spec, **change), quiet=True, films=0, keep=tmp_path).kept == 0
    with pytest.warns(FoundryWarning, match="spec.seed was 3 and is 4, spec.size was 32 and is 64$"):
        assert rollout(replace(spec, seed=4), quiet=True, films=0, keep=tmp_path).kept == 0


def test_what_a_row_says_comes_back_and_two_do_not_write_at_once(tmp_path: Path) -> None:
    spec = RolloutSpec(RANDOM, "touch", episodes=3, seed=3, max_steps=12, world=GANTRY)
    result = rollout(spec, quiet=True, films=0)
    assert result.world.name == "gantry" and result.episodes[0].reward is not None
    for episode in result.episodes:
        again = RolloutEpisode.from_row(json.loads(json.dumps(episode.to_row())))
        assert again == episode and again.executed is not None and episode.executed is not None
        np.testing.assert_array_equal(again.executed.target_TA, episode.executed.target_TA)
        assert sum(again.executed.aims) == episode.steps
    with KeptRows(tmp_path, {"a": 1}) as rows:
        rows.add(result.episodes)
        with pytest.raises(FoundryError, match="another rollout writes to"):
            KeptRows(tmp_path, {"a": 1})
    with KeptRows(tmp_path, {"a": 1}) as rows:
        assert list(rows.rows.values()) == list(result.episodes)


def test_returns_ends_and_starts_are_told() -> None:
    """A gymnasium environment says rewards, the tabletop none; a start does not depend on who acts."""
    hill = rollout(RolloutSpec(RANDOM, "climb", episodes=2, max_steps=20, world=HILL), quiet=True).to_json()
    assert all(scene["ended"] == "out of time" and scene["return"] < 0 for scene in hill["scenes"])
    assert hill["mean_return"] == pytest.approx(np.mean([scene["return"] for scene in hill["scenes"]]))
    one = rollout(replace(REACH, episodes=3), quiet=True, films=0).to_json()
    other = rollout(replace(REACH, episodes=3, execute=2), quiet=True, films=0).to_json()
    assert one["mean_return"] is None and {scene["return"] for scene in one["scenes"]} == {None}
    starts = [scene["start"] for scene in one["scenes"]]
    assert starts == [scene["start"] for scene in other["scenes"]] and len(set(starts)) == 3


def test_films_show_both_ends_and_find_a_world_that_does_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RolloutSpec(RANDOM, "reach", episodes=24, seed=4)
    result = rollout(spec, quiet=True, films=4)
    filmed = [episode for episode in result.episodes if episode.film is not None]
    assert len(filmed) == 4 and sum(episode.success for episode in filmed) == 2
    assert all(len(episode.film.frames) == episode.steps + 1 for episode in filmed if episode.film)
    from robot_foundry.evaluation.worlds.tabletop.world import TabletopWorld

    reset = TabletopWorld.reset
    calls = iter(range(10**6))
    monkeypatch.setattr(TabletopWorld, "reset", lambda self, seed: reset(self, next(calls)))
    with pytest.warns(FoundryWarning, match="does not repeat its episodes"):
        rollout(replace(spec, episodes=GROUP), quiet=True, films=8)
