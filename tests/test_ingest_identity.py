"""What an episode is known by: its split wherever its file lies, its key, and files that are there twice."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path

import h5py
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st
from make_robomimic import make

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import as_store
from robot_foundry.ingest import remapping
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files

HERE = Path(__file__).parent
PLACES = """
layout: hdf5
content: {fps: 10, hdf5: {length: action}}
mapping:
  embodiment: panda
  instruction: [{text: go}]
  state: {right.joint_position: {key: action}}
  actions: {command: {right.joint_position: {key: action}}}
"""


def ingest(source, store, name="made", spec="robomimic", **options):
    return run(load_spec(spec), source, store=store, name=name, options=Options(**options))


def hashes(report, store):
    """The split hash of each episode by its number of frames and id, which name it here."""
    table = OpenVersion(as_store(store), report.version).table("episodes")
    return {(row["num_frames"], row["id"]): row["split_hash"] for row in table.to_pylist()}


def sides(report, store, val_fraction="1/3"):
    spec = SelectionSpec(split="val", val_fraction=val_fraction)
    return OpenVersion(as_store(store), report.version).select(spec).ranges()


def keyed(*parts):
    """`runtime.keyed.key`, as docs/order.md and its own page tell it."""
    state = blake2b(digest_size=8)
    for part in parts:
        state.update(b"s" + len(part.encode()).to_bytes(8, "little") + part.encode())
    return int.from_bytes(state.digest(), "little")


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """raw/lab/day/{a,b}.hdf5 of 4 and 5 demonstrations."""
    folder = tmp_path_factory.mktemp("moved") / "raw" / "lab" / "day"
    folder.mkdir(parents=True)
    make(folder / "a.hdf5", seed=1, episodes=4, frames=5, size=16)
    make(folder / "b.hdf5", seed=2, episodes=5, frames=6, size=16)
    return folder


def test_the_split_follows_the_content_wherever_the_source_lies(day, tmp_path):
    first = hashes(ingest(day, tmp_path), tmp_path)
    for (frames, name), found in first.items():
        file = day / ("a.hdf5" if frames == 5 else "b.hdf5")
        assert found == keyed("split", blake3(file.read_bytes()).hexdigest(), name)
    assert len(set(first.values())) == len(first) == 9
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    shutil.copy(day / "a.hdf5", renamed / "zzz.h5")
    shutil.copy(day / "b.hdf5", renamed / "0.hdf5")
    for number, source in enumerate(
        (day.parent, day.parent.parent, f"{day.parent}/*/*.hdf5", f"{day.parent.parent}/**/*.hdf5", renamed)
    ):
        report = ingest(source, tmp_path, name=f"other_{number}")
        assert hashes(report, tmp_path) == first, source
    one = ingest(day / "b.hdf5", tmp_path, name="single")
    assert hashes(one, tmp_path) == {named: found for named, found in first.items() if named[0] == 6}
    remapped = remapping.run(
        "made", load_spec("robomimic", ["mapping.instruction=[{text: other}]"]), store=tmp_path
    )
    assert not remapped.noop and hashes(remapped, tmp_path) == first
    bound = Fraction(1, 3) * 2**64
    table = OpenVersion(as_store(tmp_path), remapped.version).table("episodes").to_pylist()
    held_out = [row for row in table if row["split_hash"] < bound]
    assert 0 < len(held_out) < 9
    chosen = OpenVersion(as_store(tmp_path), remapped.version).select(SelectionSpec("val", "1/3"))
    assert chosen.num_groups == len(held_out)
    assert chosen.num_samples == sum(row["num_frames"] for row in held_out)


def test_a_file_that_is_an_episode_keeps_its_side_under_another_name(tmp_path):
    spec, source = tmp_path / "own.yaml", tmp_path / "logs"
    spec.write_text(PLACES)
    source.mkdir()
    for number in range(3):
        with h5py.File(source / f"ep_{number}.h5", "w") as file:
            file["action"] = np.linspace(0, 1 + number, 7 * (4 + number)).reshape(-1, 7)
    before = hashes(ingest(source, tmp_path / "store", spec=spec), tmp_path / "store")
    for path in sorted(source.iterdir()):
        path.rename(source / f"again {path.stem}.hdf5")
    after = hashes(ingest(source, tmp_path / "store", "other", spec), tmp_path / "store")
    assert sorted(before.values()) == sorted(after.values()) and len(before) == 3
    assert {frames: found for (frames, _), found in before.items()} == {
        frames: found for (frames, _), found in after.items()
    }
    contents = {blake3(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert set(after.values()) == {keyed("split", content, "") for content in contents}


def test_links_are_taken_once_and_copies_told_and_on_one_side(day, tmp_path):
    source, store = tmp_path / "source", tmp_path / "store"
    shutil.copytree(day, source / "day")
    (source / "latest.hdf5").symlink_to("day/a.hdf5")
    (source / "best").symlink_to("day")
    (source / "gone").symlink_to("nothing")
    (source / "lost.hdf5").symlink_to("nothing.hdf5")
    shutil.copy(day / "b.hdf5", source / "b (copy).hdf5")
    report = ingest(source, store)
    rows = OpenVersion(as_store(store), report.version).table("episodes").to_pylist()
    assert sorted({row["source"] for row in rows}) == ["b (copy).hdf5", "day/a.hdf5", "day/b.hdf5"]
    assert (report.written, report.discovered) == (14, 15)
    assert report.quarantined[0][0] == "lost.hdf5" and "leads nowhere" in report.quarantined[0][1]
    told = "\n".join(report.warnings)
    for link, file in (
        ("best/a.hdf5", "day/a.hdf5"),
        ("latest.hdf5", "day/a.hdf5"),
        ("best/b.hdf5", "day/b.hdf5"),
    ):
        assert f"{link} is {file} again" in told
    assert "day/b.hdf5 holds what b (copy).hdf5 holds" in told
    assert "gone is a link that leads nowhere" in told and "passed over" not in told
    twice: dict[str, set[int]] = {}
    for row in rows:
        if row["num_frames"] == 6:
            twice.setdefault(row["id"], set()).add(row["split_hash"])
    assert len(twice) == 5 and all(len(found) == 1 for found in twice.values())


def test_a_link_alone_is_a_file_like_another(day, tmp_path):
    (tmp_path / "one.hdf5").symlink_to(day / "a.hdf5")
    (tmp_path / "two.hdf5").symlink_to(day / "a.hdf5")
    report = ingest(tmp_path / "one.hdf5", tmp_path / "store")
    assert report.written == 4 and not any("again" in told for told in report.warnings)
    both = ingest(str(tmp_path / "*.hdf5"), tmp_path / "store", "both")
    assert both.written == 4 and any("two.hdf5 is one.hdf5 again" in told for told in both.warnings)


def test_a_file_alone_has_nothing_beside_it_looked_at(day, tmp_path, monkeypatch):
    shutil.copy(day / "a.hdf5", tmp_path / "a.hdf5")
    monkeypatch.setattr(files, "walk", lambda root: pytest.fail(f"{root} was listed"))
    assert ingest(tmp_path / "a.hdf5", tmp_path / "store").written == 4


def test_what_is_read_with_a_file_and_is_not_there_is_told(tmp_path):
    from foundry_testing import rlds_directories

    made = rlds_directories.simple(tmp_path / "source", 2)
    (made.folder / "dataset_info.json").unlink()
    (made.folder / "dataset_info.json").symlink_to("gone.json")
    (made.folder / "other.json").symlink_to("gone.json")
    spec = tmp_path / "own.yaml"
    spec.write_text(rlds_directories.SPEC)
    one = ingest(made.folder / "toy-train.tfrecord-00000-of-00001", tmp_path / "store", spec=spec)
    assert "dataset_info.json is a link that leads nowhere" in one.warnings
    all_told = ingest(made.root, tmp_path / "store", "folder", spec).warnings
    assert any(
        "dataset_info.json, toy/1.0.0/other.json are links that lead nowhere" in told for told in all_told
    )


def test_if_all_would_be_held_out_copies_stay_together_on_the_side_of_training(day, tmp_path):
    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    make(source / "a.hdf5", seed=1, episodes=1, frames=5, size=16)
    shutil.copy(source / "a.hdf5", source / "b.hdf5")
    report = ingest(source, store)
    for fraction in ("1/10", "999/1000", str(1 - Fraction(1, 10**30))):
        assert (
            OpenVersion(as_store(store), report.version).select(SelectionSpec("train", fraction)).num_groups
            == 2
        )


@pytest.mark.parametrize(
    "names",
    [
        ("demo_1", "demo_01", "demo_001"),
        ("demo_1", "demo_000001", "demo_2"),
        ("Demo_1", "demo_1", "DEMO_1"),
        ("demo_é", "demo_e\u0301", "demo_e"),
        ("demo_²", "²", "demo_٣", "demo_3"),
        ("demo_" + "9" * 5000, "demo_" + "9" * 4999 + "8", "demo_" + "x" * 100 + "1"),
        ("demo 1", "demo-1", "demo.1"),
    ],
)
def test_names_that_look_alike_are_episodes_of_their_own(names, tmp_path):
    path = make(tmp_path / "in.hdf5", seed=0, episodes=len(names), frames=4, size=16)
    with h5py.File(path, "a") as file:
        for number in range(len(names)):
            file["data"].move(f"demo_{number}", f"moved{number}")
        for number, name in enumerate(names):
            file["data"].move(f"moved{number}", name)
    report = ingest(path, tmp_path / "store")
    rows = OpenVersion(as_store(tmp_path / "store"), report.version).table("episodes").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(names) and not report.quarantined
    assert len({row["key"] for row in rows}) == len({row["split_hash"] for row in rows}) == len(names)


def test_keys_of_ordinary_names_are_as_they_were(tmp_path):
    path = make(tmp_path / "in.hdf5", seed=0, episodes=12, frames=4, size=16)
    report = ingest(path, tmp_path / "store")
    rows = OpenVersion(as_store(tmp_path / "store"), report.version).table("episodes").to_pylist()
    assert [row["id"] for row in rows] == [f"demo_{number}" for number in range(12)]
    for number, row in enumerate(rows):
        padded = f"demo_{number:06d}"
        digest = hashlib.sha256(f'["in.hdf5","{padded}"]'.encode()).hexdigest()
        assert row["key"] == f"{padded}-{digest[:12]}"


def tree(folder: Path, entries: list[tuple[str, str | None]]) -> None:
    """Files, and links with where they lead."""
    for path, target in entries:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            place.write_text(path)
        else:
            place.symlink_to(target)


def test_many_circles_end(tmp_path):
    tree(tmp_path, [("a/x.h5", None), ("b/y.h5", None), ("c/d/z.h5", None)])
    for folder, others in (("a", "bc"), ("b", "ac"), ("c/d", "ab")):
        for other in others:
            for number in range(2):
                tree(tmp_path, [(f"{folder}/to_{other}_{number}", str(tmp_path / other))])
        tree(tmp_path, [(f"{folder}/up", str(tmp_path)), (f"{folder}/here", ".")])
    tree(tmp_path, [("self.h5", "self.h5")])
    for found in (list(files.walk(str(tmp_path))), list(files.matching(str(tmp_path), "**/*.h5"))):
        real = {os.path.realpath(tmp_path / file.path) for file in found if file.stamp}
        assert real == {str(tmp_path / path) for path in ("a/x.h5", "b/y.h5", "c/d/z.h5")}
        assert len({file.path for file in found}) == len(found) < 200
        assert [file.path for file in found if not file.stamp] == ["self.h5"]


PARTS = st.sampled_from(["a", "b", "[ab]", "*", "**", "?.h5", "*.h5", ".*", "a*", "c.h5", "[!a]*"])


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join))
@example("c.h5/**")
def test_a_pattern_matches_what_python_says(tmp_path_factory, pattern):
    root = tmp_path_factory.getbasetemp() / "matched"
    if not root.exists():
        names = ("c.h5", "a/c.h5", "a/b/d.h5", "a/.h/e.h5", "b/.f.h5", "b/a/a/c.h5", ".g/c.h5", "x/c.txt")
        tree(root, [(name, None) for name in names])
        tree(root, [("b/link", "../a/b"), ("a/link.h5", "../c.h5")])
    # As text: "c.h5/", which glob gives for c.h5/** in some versions, is no file; pathlib drops the slash.
    names = glob.glob(pattern, root_dir=root, recursive=True)
    expected = {name for name in names if os.path.isfile(f"{root}/{name}")}
    found = [file.path for file in files.matching(str(root), pattern)]
    assert set(found) == expected and len(found) == len(expected)


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(day, tmp_path):
    for name in ("data[1]", "a*b", "what?"):
        shutil.copytree(day, tmp_path / name / "sub")
    shutil.copytree(day, tmp_path / "data1")
    for number, source in enumerate(
        (tmp_path / "data[1]", tmp_path / "a*b" / "sub", f"{tmp_path}/what?/sub/*.hdf5")
    ):
        report = ingest(source, tmp_path / "store", f"literal_{number}")
        rows = OpenVersion(as_store(tmp_path / "store"), report.version).table("episodes").to_pylist()
        assert len(rows) == 9 and not any("copies" in told for told in report.warnings)
        assert {Path(row["source"]).name for row in rows} == {"a.hdf5", "b.hdf5"}
