"""Selections, mixtures and statistics on small stores."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.catalog_stores import POSE, make_version
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.mixture import (
    as_mixture,
    commit_mixture,
    make_mixture,
    parse_weights,
)
from robot_foundry.catalog.opened import OpenMixture, OpenVersion, OpenVersions
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.robot.leaves import version_statistics
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.selection import Selection, SelectionSpec, rows_of_split
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.normalization.rotation import rot6d_to_matrix
from robot_foundry.normalization.space import Dim, dims_for
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.windows.chunk_statistics import representation_statistics
from robot_foundry.windows.mixtures import warnings_for

MANY = [[5, 4, 3], [2, 6], [7, 1, 1, 8]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    make_version(store, "sim", MANY, seed=1)
    make_version(store, "gaps", [[5, 4, 3, 6], [4, 2]], seed=6, left_out=[(0, 1), (0, 3), (1, 0)])
    make_version(store, "real", [[40], [30, 20]], seed=2, fps=15.0)
    make_version(store, "one", [[200]], seed=3)
    joints = [*POSE, *dims_for("right.joint_position", count=2)]
    make_version(store, "joints", [[20, 20]], seed=4, state=joints, embodiment="ur5")
    steps = [Dim("right.ee_position.x", "m", "position", "delta")]
    make_version(store, "steps", [[9]], seed=5, state=steps, action=steps)
    return store


def rows_of(selection: Selection) -> set[tuple[int, int]]:
    return {(shard, row) for shard, start, stop in selection.ranges() for row in range(start, stop)}


def select(store: Store, ref: str, **spec: object) -> Selection:
    return OpenVersion(store, resolve(store, ref)).select(SelectionSpec(**spec))


def test_train_and_val_part_the_whole_by_episode(store: Store) -> None:
    whole = select(store, "sim", split="all")
    train, val = (select(store, "sim", split=split, val_fraction="1/3") for split in ("train", "val"))
    assert whole.num_samples == 37 and whole.ranges() == [(0, 0, 12), (1, 0, 8), (2, 0, 17)]
    assert rows_of(train) | rows_of(val) == rows_of(whole) and not rows_of(train) & rows_of(val)
    assert train.num_groups + val.num_groups == 9 and len({whole.id, train.id, val.id}) == 3
    # A larger fraction moves episodes one way only, and an episode's side does not depend on the others.
    assert rows_of(val) < rows_of(select(store, "sim", split="val", val_fraction="9/10"))
    filtered = select(store, "sim", split="val", val_fraction="1/3", where="num_frames > 2")
    assert rows_of(filtered) <= rows_of(val)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["train", "val", "all"]), st.sampled_from(["episode", "time"]), st.data())
def test_locate_agrees_with_ranges(store: Store, split: str, by: str, data: st.DataObject) -> None:
    selection = select(store, "sim", split=split, split_by=by, val_fraction="1/3", gap=1)
    expected = [(shard, row) for shard, start, stop in selection.ranges() for row in range(start, stop)]
    assert len(expected) == selection.num_samples
    n = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=8))
    shard_n, row_n = selection.locate(np.array(n, np.int64))
    assert list(zip(shard_n.tolist(), row_n.tolist(), strict=True)) == [expected[i] for i in n]
    with pytest.raises(FoundryError, match="outside"):
        selection.locate(np.array([selection.num_samples]))


def test_one_episode_is_train_and_val_says_why(store: Store) -> None:
    assert select(store, "one").num_samples == 200
    assert select(store, "one", val_fraction="99/100").num_samples == 200
    with pytest.raises(FoundryError, match="one@v1 has 1 episode and none") as error:
        select(store, "one", split="val")
    assert "split_by 'time'" in (error.value.hint or "")


def test_split_by_time_holds_out_the_tail_behind_a_gap(store: Store) -> None:
    train = select(store, "one", split_by="time")
    val = select(store, "one", split="val", split_by="time")
    assert train.ranges() == [(0, 0, 164)] and val.ranges() == [(0, 180, 200)]
    assert select(store, "sim", split_by="time").num_samples == 37  # too short: all train
    with pytest.raises(FoundryError, match="too short"):
        select(store, "sim", split="val", split_by="time")
    assert train.id != select(store, "one", split_by="time", gap=8).id


def test_where_reads_episodes_and_instructions(store: Store) -> None:
    chosen = select(store, "sim", split="all", where="success AND num_frames >= 5")
    episodes = OpenVersion(store, chosen.version).table("episodes").to_pylist()
    wanted = {
        (e["shard"], e["row_start"] + i)
        for e in episodes
        if e["success"] and e["num_frames"] >= 5
        for i in range(e["num_frames"])
    }
    assert rows_of(chosen) == wanted
    cube = select(store, "sim", split="all", where="instruction LIKE '%cube 1%' -- odd ones")
    assert cube.num_groups == 4
    for where, message in (
        ("num_framez > 1", "num_frames"),
        ("num_frames > 1000", "no frames of sim@v1"),
        ("id IN (SELECT column0 FROM read_csv('/etc/hostname'))", "disabled"),
    ):
        with pytest.raises(FoundryError, match=message):
            select(store, "sim", where=where)


def test_spec_names_what_is_wrong(store: Store) -> None:
    for spec, message in (
        ({"split": "trian"}, "did you mean 'train'"),
        ({"val_fraction": "1"}, r"not in \[0, 1\)"),
        ({"val_fraction": "x"}, "not a number"),
        ({"split_by": "frame"}, "episode, time"),
        ({"gap": -1}, "negative"),
        ({"splitt": "val"}, "did you mean 'split'"),
    ):
        with pytest.raises(UsageError, match=message):
            SelectionSpec.from_json(spec)
    assert SelectionSpec(val_fraction="0.10").to_json() == SelectionSpec().to_json()
    assert SelectionSpec(gap=3).to_json() == SelectionSpec().to_json()  # no time split, so no gap


def test_weights_are_exact() -> None:
    assert parse_weights("sim=0.6, real@v2=2/5") == {"sim": Fraction(3, 5), "real@v2": Fraction(2, 5)}
    for text, message in (
        ("sim", "not REF=WEIGHT"),
        ("sim=", "not REF=WEIGHT"),
        ("sim=a", "not a number"),
        ("sim=0", "not positive"),
        ("sim=1/0", "not a number"),
        ("sim=1,sim=2", "twice"),
        ("sim=nan", "not a number"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_weights(text)


def test_equal_content_has_the_equal_id(store: Store) -> None:
    opened = as_mixture(store, {"sim": 0.6, "real": 0.4})
    inline, version = opened.mixture, commit_mixture(opened, "blend")
    sim = resolve(store, "sim").version_id
    same = [
        as_mixture(store, "real=2/5,sim=3/5"),
        as_mixture(store, {"real@v1": 4, f"sim@{sim[:8]}": 6}),
        as_mixture(store, "blend"),
        as_mixture(store, version),
        as_mixture(store, {"blend": 0.5, "sim": 0.3, "real": 0.2}),
        as_mixture(store, as_mixture(store, inline, split="all")),
        as_mixture(store, inline),
    ]
    plain = Mixture.from_json(json.loads(json.dumps(inline.to_json())))
    assert {plain.id, *(other.mixture.id for other in same)} == {inline.id}
    assert commit_mixture(opened, "blend") == version
    assert [(c.name, c.weight) for c in inline.components] == [("real", "2/5"), ("sim", "3/5")]
    others = [
        as_mixture(store, {"sim": 0.5, "real": 0.5}),
        as_mixture(store, {"sim": 0.6, "real": 0.4}, split="all"),
        make_mixture(store, {"sim": 0.6, "real": 0.4}, lanes=32),
    ]
    assert len({inline.id, *(other.mixture.id for other in others)}) == 4
    assert read_manifest(store, version).mixture == inline


def test_nested_mixtures_multiply_weights(store: Store) -> None:
    commit_mixture(make_mixture(store, {"sim": 1, "real": 3}, lanes=32, span=8), "quarter")
    nested = make_mixture(store, {"quarter": "1/2", "one": "1/2"}).mixture
    assert {c.name: c.weight for c in nested.components} == {"sim": "1/8", "real": "3/8", "one": "1/2"}
    assert (nested.lanes, nested.span) == (32, 8)


def test_two_selections_of_one_dataset_keep_apart(store: Store) -> None:
    short = make_mixture(store, {"real": 1}, split="all", where="num_frames < 25")
    commit_mixture(short, "short")
    both = make_mixture(store, {"short": 1, "real": 1}, split="all").mixture
    names = [component.name for component in both.components]
    assert len(set(names)) == 2 and all(name.startswith("real@") for name in names)
    assert sorted(component.num_samples for component in both.components) == [20, 90]
    assert [part.select().num_samples for part in OpenMixture.of(store, both).parts] == [
        c.num_samples for c in both.components
    ]


def test_spaces_of_a_mixture(store: Store) -> None:
    union = unions_of(as_mixture(store, {"sim": 1, "joints": 1}))
    assert "ur5:right.joint_position.1" in union.state.names and len(union.state) == 12
    assert list(union.streams) == ["next_state"] and len(union.streams["next_state"]) == 10
    with pytest.raises(FoundryError, match="cannot be mixed.*right.ee_position.x.*representation"):
        as_mixture(store, {"sim": 1, "steps": 1})


def test_warnings_and_refusals(store: Store) -> None:
    weights = {"one": Fraction(1), "real": Fraction(1), "sim": Fraction(100)}
    found = warnings_for(make_mixture(store, weights), weights)
    assert not any("sum to" in line for line in found)  # ratios
    shares = {"sim": 0.6, "real": 0.5}
    assert any("sum to 1.1;" in line for line in warnings_for(make_mixture(store, shares), shares))
    tenths = {"sim": 0.7, "real": 0.2, "one": 0.1}  # as floats they sum to 0.9999999999999999
    assert not any("sum to" in line for line in warnings_for(make_mixture(store, tenths), tenths))
    assert any("'sim' is repeated" in line for line in found)
    assert any("tool frame" in line for line in found)
    with pytest.raises(FoundryError, match="'sim' is a dataset"):
        commit_mixture(as_mixture(store, "real"), "sim")
    with pytest.raises(FoundryError, match="did you mean 'real'"):
        as_mixture(store, "reel")
    with pytest.raises(UsageError, match="at least one"):
        make_mixture(store, {})


def test_a_component_that_no_longer_selects_the_same_rows_is_refused(store: Store) -> None:
    from dataclasses import replace

    component = as_mixture(store, "sim").mixture.components[0]
    with pytest.raises(FoundryError, match="was made with 3"):
        OpenVersions(store).open_part(replace(component, num_samples=3)).select()


def test_version_statistics_are_those_of_the_rows(store: Store) -> None:
    version = resolve(store, "real")
    found = version_statistics(OpenVersion(store, version), "next_state")
    shards = read_manifest(store, version).shards
    rows = np.concatenate(
        [
            column_matrix(OpenVersion(store, version).table(f"frames/{s.key}"), "action.next_state")
            for s in shards
        ]
    )
    for q in (0, 1, 50, 99, 100):
        below = (rows <= found.percentiles([q])[0]).mean(axis=0)
        assert np.all(np.abs(below - q / 100) < 0.02), q
    np.testing.assert_allclose([d.mean for d in found.digests], rows.mean(axis=0), atol=1e-6)


def test_chunk_statistics_against_a_loop(store: Store) -> None:
    """Second source: every window written out, inv(T_state) · T_target by plain matrices."""
    horizon, stride = 4, 2
    mixture = as_mixture(store, {"sim": 1, "real": 1, "gaps": 1})
    state, action = representation_statistics(mixture, horizon=horizon, stride=stride)
    expected_state, expected_action = [], []
    for part in mixture.parts:
        selection = part.select()
        episodes = OpenVersion(store, selection.version).table("episodes").to_pylist()
        shards = read_manifest(store, selection.version).shards
        for shard, start, stop in selection.ranges():
            table = OpenVersion(store, selection.version).table(f"frames/{shards[shard].key}")
            states = column_matrix(table, "state").astype(float)
            targets = column_matrix(table, "action.next_state").astype(float)
            for t in range(start, stop):
                episode = next(
                    e for e in episodes if e["shard"] == shard and 0 <= t - e["row_start"] < e["num_frames"]
                )
                if table["flags"][t].as_py() & Flag.INVALID_STATE:
                    continue
                expected_state.append(states[t])
                for k in range(horizon):
                    row = t + k * stride
                    if row >= episode["row_start"] + episode["num_frames"]:
                        continue
                    if table["flags"][row].as_py() & Flag.INVALID_ACTION:
                        continue
                    turn = rot6d_to_matrix(states[t, 3:9]).T
                    goal = turn @ rot6d_to_matrix(targets[row, 3:9])
                    place = turn @ (targets[row, :3] - states[t, :3])
                    grip = targets[row, 9:]
                    expected_action.append(np.concatenate([place, goal[:, 0], goal[:, 1], grip]))
    for found, rows in ((state, expected_state), (action, expected_action)):
        assert found.counts.tolist() == [len(rows)] * 10
        np.testing.assert_allclose([d.mean for d in found.digests], np.mean(rows, axis=0), atol=1e-5)
        np.testing.assert_allclose([d.std for d in found.digests], np.std(rows, axis=0), atol=1e-5)
        np.testing.assert_allclose([d.max for d in found.digests], np.max(rows, axis=0), atol=1e-5)


def test_chunk_statistics_are_cached_and_repeatable(store: Store, tmp_path: Path) -> None:
    mixture = as_mixture(store, {"sim": 1, "joints": 1})
    first = representation_statistics(mixture, horizon=3)
    cached = [path for path in store.storage.list("cache/statistics")]
    again = representation_statistics(as_mixture(store, mixture, split="all"), horizon=3)
    assert [s.to_json() for s in again] == [s.to_json() for s in first]
    assert store.storage.list("cache/statistics") == cached
    for path in cached:
        store.storage.delete(path)
    remade = representation_statistics(mixture, horizon=3)
    assert [s.to_json() for s in remade] == [s.to_json() for s in first]
    # Dims that one component lacks hold the values of the other alone.
    names, counts = first[0].space.names, first[0].counts
    samples = {c.name: c.num_samples for c in mixture.mixture.components}
    # One row of each has an invalid state; that of sim is in the val split.
    assert counts[names.index("ur5:right.joint_position.0")] == samples["joints"] - 1
    assert counts[names.index("right.ee_position.x")] == sum(samples.values()) - 1
    with pytest.raises(FoundryError, match="did you mean 'next_state'"):
        representation_statistics(mixture, stream="nextstate")


FRACTIONS = st.fractions(0, 1, max_denominator=10**25).filter(lambda share: share < 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12), FRACTIONS, st.data())
def test_a_split_is_exact_and_train_is_never_empty(
    hashes: list[int], fraction: Fraction, data: st.DataObject
) -> None:
    # Hashes on the border, too, where a float would err.
    border = fraction * 2**64
    hashes += [int(border) + step for step in (-1, 0, 1) if 0 <= int(border) + step < 2**64]
    length_E = np.array([data.draw(st.integers(0, 3)) for _ in hashes])
    length_E[0] = 1
    hash_E = np.array(hashes, np.uint64)
    held_out = {
        split: rows_of_split(SelectionSpec(split=split, val_fraction=str(fraction)), hash_E, length_E)
        for split in ("train", "val")
    }
    expected = [Fraction(found, 2**64) < fraction for found in hashes]
    filled = [found for found, length in zip(hashes, length_E, strict=True) if length]
    if all(Fraction(found, 2**64) < fraction for found in filled):
        expected = [side and found != max(filled) for side, found in zip(expected, hashes, strict=True)]
    for split, (begin_E, end_E) in held_out.items():
        chosen_E = np.array(expected) == (split == "val")
        assert not begin_E.any() and np.array_equal(end_E, np.where(chosen_E, length_E, 0))
    assert held_out["train"][1].any()
