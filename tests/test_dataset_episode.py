"""One episode by name, rows counted over the dataset, and attributes that SQL can ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_robomimic import make

from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.duck import query_tables
from robot_foundry.catalog.query.snapshot import Catalog
from robot_foundry.catalog.robot.episode_tables import field_names, geometry_of, structs
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.open import open as open_dataset
from robot_foundry.runtime.errors import FoundryError, UsageError

# By episode number; `lang` and `Lang` differ by case alone.
ATTRIBUTES: dict[int, dict[str, Any]] = {
    0: {
        "success": True,
        "lang": "lift",
        "trial number": 3,
        "score.mean": 0.5,
        "mixed": 1,
        "weights": [1.0, 2.0],
    },
    1: {"success": False, "Lang": "LIFT", "trial number": 4, "score.mean": float("nan"), "mixed": "two"},
    2: {"trial number": 5},
}


def source(folder: Path, files: int, episodes: int) -> Path:
    for i in range(files):
        path = folder / f"part_{i}.hdf5"
        make(path, seed=i, episodes=episodes, frames=6 + i, size=16)
        with h5py.File(path, "r+") as file:
            for number, values in ATTRIBUTES.items():
                file[f"data/demo_{number}"].attrs.update(values)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'many' of three files and as many shards or more, 'other' of one file."""
    folder = tmp_path_factory.mktemp("store")
    small = load_spec("robomimic", ["content.shard_bytes=20000"])
    run(small, source(tmp_path_factory.mktemp("many"), 3, 3), store=folder, name="many")
    make(tmp_path_factory.getbasetemp() / "other.hdf5", seed=9, episodes=1, frames=5, size=16)
    run(load_spec("robomimic"), tmp_path_factory.getbasetemp() / "other.hdf5", store=folder, name="other")
    return Store(folder)


def test_rows_are_counted_over_the_dataset(store: Store) -> None:
    dataset = open_dataset("many", store)
    episodes, frames = dataset.episodes().to_pylist(), dataset.frames()
    assert len({row["shard"] for row in episodes}) > 1
    assert [row["row_start"] for row in episodes] != [row["shard_row_start"] for row in episodes]
    for row in episodes:
        first = row["row_start"]
        assert frames["key"][first].as_py() == dataset[first]["key"] == row["key"]
        assert frames["frame"][first].as_py() == dataset[first]["frame"] == 0
        own = frames.slice(first, row["num_frames"])
        assert own["frame"].to_pylist() == list(range(row["num_frames"]))
    in_sql = Catalog(store).sql("SELECT row_start, shard_row_start FROM episodes_many").to_pylist()
    assert in_sql == [{name: row[name] for name in ("row_start", "shard_row_start")} for row in episodes]


def test_a_split_counts_its_own_rows(store: Store) -> None:
    whole = set(open_dataset("many", store).episodes()["key"].to_pylist())
    parts = [open_dataset("many", store, split=split) for split in ("train", "val")]
    keys = [part.episodes()["key"].to_pylist() for part in parts]
    assert {*keys[0], *keys[1]} == whole and not {*keys[0]} & {*keys[1]}
    for part in parts:
        for row in part.episodes().to_pylist():
            assert part[row["row_start"]]["key"] == row["key"] and part[row["row_start"]]["frame"] == 0
    with pytest.raises(FoundryError, match="has no episode"):
        parts[1].episode(keys[0][0])


def test_an_episode_is_its_rows_frames_attributes_and_annotations(store: Store) -> None:
    dataset = open_dataset("many", store)
    for row in dataset.episodes().to_pylist():
        episode = dataset.episode(row["key"])
        assert (episode.key, episode.id, len(episode)) == (row["key"], row["id"], row["num_frames"])
        for i in (0, len(episode) - 1, -1):
            frame = dataset[row["row_start"] + i % len(episode)]
            assert frame["key"] == row["key"] and frame["image.primary"].shape == (16, 16, 3)
            assert all(np.array_equal(episode[i][name], value) for name, value in frame.items())
            for name, values in episode.rows.items():
                assert np.array_equal(values[i], frame[name]), name
        assert episode.rows["state"].dtype == np.float32
        (note,) = episode.annotations
        assert (note["start"], note["end"], note["kind"]) == (0, len(episode), "instruction")
        assert len(list(episode)) == len(episode)
        number = int(row["id"].removeprefix("demo_"))
        assert episode.attributes["trial number"] == number + 3
    with pytest.raises(IndexError, match="there is no frame 99"):
        episode[99]


def test_names_that_are_not_there_or_not_one(store: Store) -> None:
    assert open_dataset("other", store).episode("demo_0").id == "demo_0"
    with pytest.raises(FoundryError, match="has no episode 'demo_9', did you mean 'demo_0'"):
        open_dataset("other", store).episode("demo_9")
    with pytest.raises(FoundryError, match="has 3 episodes with the id 'demo_0'") as error:
        open_dataset("many", store).episode("demo_0")
    keys = [row["key"] for row in open_dataset("many", store).episodes().to_pylist() if row["id"] == "demo_0"]
    assert error.value.hint == f"give the key: {', '.join(keys)}"


@pytest.mark.parametrize("wrong", [0, None, b"demo_0"])
def test_an_episode_is_asked_for_by_name(store: Store, wrong: Any) -> None:
    with pytest.raises(FoundryError, match=f"has episodes by name, not by {type(wrong).__name__}") as error:
        open_dataset("other", store).episode(wrong)
    assert error.value.hint


@pytest.mark.parametrize("wrong", ["a", None, 1.0, slice(0, 2)])
def test_a_frame_is_asked_for_by_number(store: Store, wrong: Any) -> None:
    dataset = open_dataset("other", store)
    for frames in (dataset, dataset.episode("demo_0")):
        assert frames[np.int32(1)]["frame"] == frames[1]["frame"] == 1
        with pytest.raises(FoundryError, match=f"has frames by number, not by {type(wrong).__name__}"):
            frames[wrong]


def test_attributes_are_columns_of_sql_and_of_where(store: Store) -> None:
    version = open_dataset("many", store).version
    for where, expected in (
        ("attributes.success", {"demo_0"}),
        ("attributes.success = false", {"demo_1"}),
        ("attributes.success IS NULL", {"demo_2"}),
        ("attributes.\"trial number\" > 3.5", {"demo_1", "demo_2"}),
        ("attributes.\"score.mean\" < 1", {"demo_0"}),
        ("isnan(attributes.\"score.mean\")", {"demo_1"}),
        ("attributes.Lang = 'LIFT'", {"demo_1"}),
        ("attributes.lang_2 = 'lift'", {"demo_0"}),
        ("attributes.mixed IN ('1', 'two')", {"demo_0", "demo_1"}),
        ("attributes.weights = '[1.0,2.0]'", {"demo_0"}),
        ("row_start = 0", {"demo_0"}),
    ):  # fmt: skip
        chosen = OpenVersion(store, version).select(SelectionSpec(split="all", where=where))
        stored = OpenVersion(store, version).table("episodes")
        assert (
            set(stored.filter(pa.array(chosen.holds(geometry_of(stored))))["id"].to_pylist()) == expected
        ), where
    with pytest.raises(UsageError, match="sucess"):
        make_mixture(store, {"many": 1}, where="attributes.sucess")
    counts = 'dataset, count(attributes."trial number") AS told, count(*) AS number'
    rows = Catalog(store).sql(f"SELECT {counts} FROM episodes GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [("many", 9, 9), ("other", 0, 1)]


def test_types_are_those_of_all_episodes() -> None:
    rows = [
        {
            "a": 1,
            "b": 1,
            "c": True,
            "d": True,
            "e": {"x": [1]},
            "f": 2**63,
            "g": None,
            "h": "inf",
            "k": 0.5,
            "i": "nan",
        },
        {"a": 2, "b": 0.5, "c": False, "d": 1, "e": "text", "f": 1, "g": None, "h": 1, "i": "nan", "k": True},
        {},
    ]
    table = structs([json.dumps(row) for row in rows] + [None])
    types = {field.name: str(field.type) for field in table.type}
    assert types == {
        "a": "int64", "b": "double", "c": "bool", "d": "string", "e": "string", "f": "string", "g": "bool",
        "h": "double", "i": "string", "k": "string",
    }  # fmt: skip
    assert table.to_pylist()[0]["e"] == '{"x":[1]}' and table.to_pylist()[0]["f"] == str(2**63)
    assert table.to_pylist()[0]["h"] == float("inf") and table.to_pylist()[1]["d"] == "1"
    assert all(value is None for row in table.to_pylist()[2:] for value in row.values())
    assert structs([None, "{}"]).to_pylist() == [None, None]


@settings(max_examples=20, deadline=None)
@given(st.sets(st.text(st.sampled_from('aAbB_2 ."'), max_size=4), min_size=1, max_size=8))
def test_any_names_become_fields_that_sql_tells_apart(names: set[str]) -> None:
    told = field_names(sorted(names))
    assert len({name.lower() for name in told}) == len(names) and all(told)
    table = pa.table({"attributes": structs([json.dumps({name: i for i, name in enumerate(sorted(names))})])})
    for i, name in enumerate(told):
        quoted = name.replace('"', '""')
        found = query_tables(f'SELECT attributes."{quoted}" AS v FROM e', {"e": table}, "test")
        assert found["v"].to_pylist() == [i]
