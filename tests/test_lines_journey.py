"""A kind that is not of the package, all the way: text files, shards, mixtures, batches, and what is refused.

What is expected is told from the text files themselves, and which sample is which from the Arrow files.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.lines import known
from foundry_testing.lines.loader.kind import Lines, LinesWindow
from foundry_testing.shells import Shell
from make_robomimic import make as make_robots

import robot_foundry
from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group as foundry_data
from robot_foundry.cli.foundry_train import group as foundry_train
from robot_foundry.cli.output import run
from robot_foundry.loader.load import Loader
from robot_foundry.loader.order import Order
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.index import read_index
from robot_foundry.windows.window import WindowSpec

WEIGHTS = {"notes": "2/3", "letters": "1/3"}
COPIED = ("n01.txt", "n06.txt", "n13.txt")
HANG_S = 60  # a child that waits for a thread of its parent would wait for ever
Texts = dict[str, list[str]]  # lines by file


@dataclass(frozen=True)
class Source:
    """A folder of text files for each dataset, a spec, and the lines of each file by dataset."""

    folder: Path
    spec: Path
    texts: dict[str, Texts]


@pytest.fixture(scope="module", autouse=True)
def lines_are_known() -> Iterator[None]:
    with known():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Notes of 1 to 7 lines, letters of 2 and 3; some lines are blank, and three letters copies of notes."""
    notes = {f"n{i:02d}.txt": [f"note {i} line {n}" for n in range(1 + i % 7)] for i in range(20)}
    notes["n13.txt"][3:3] = ["", ""]
    letters = {f"a/l{i:02d}.txt": [f"letter {i}", *["äöü"] * (1 + i % 2)] for i in range(12)}
    letters |= {f"b/{name}": notes[name] for name in COPIED}
    folder = tmp_path_factory.mktemp("source")
    for dataset, texts in {"notes": notes, "letters": letters}.items():
        for name, lines in texts.items():
            path = folder / dataset / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    spec = folder / "texts.yaml"
    spec.write_text("name: texts\nlayout: lines\ncontent: {shard_bytes: 120}\n")
    return Source(folder, spec, {"notes": notes, "letters": letters})


@pytest.fixture(scope="module")
def made(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of notes, letters, both mixed as `reading` and `half`, and the robots of `sim`."""
    folder, spec = source.folder, str(source.spec)
    make_robots(folder / "sim.hdf5", episodes=2, frames=6, size=16)
    store = tmp_path_factory.mktemp("store")
    weights = ",".join(f"{name}={weight}" for name, weight in WEIGHTS.items())
    for arguments in (
        ["ingest", spec, str(folder / "notes"), "--as", "notes"],
        ["ingest", spec, str(folder / "letters"), "--as", "letters"],
        ["ingest", "robomimic", str(folder / "sim.hdf5"), "--as", "sim"],
        ["mix", "--weights", weights, "--split", "all", "--as", "reading"],
        ["mix", "--weights", weights, "--val-fraction", "1/2", "--as", "half"],
    ):
        assert run(foundry_data, "foundry-data", [*arguments, "--store", str(store)]) == 0
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """One that may be damaged."""
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture
def shell(made: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    capsys.readouterr()
    return Shell(capsys)


def loader_of(store: Path, ref: Any = "reading", **options: Any) -> Loader[Any]:
    """Of all documents, unless a split is asked for."""
    defaults = {"seed": 7, "global_batch": 12, "split": "all", "store": store}
    loader: Loader[Any] = robot_foundry.load(ref, options.pop("window", None), **(defaults | options))
    return loader


def texts_of(batch: Lines) -> dict[int, tuple[str, int, str]]:
    """Document, number and text of each row, by position."""
    rows = zip(batch.k_B.tolist(), batch.line_B, strict=True)
    return {k: (line.source, line.number, line.text) for k, line in rows}


def samples_of(store: Path, dataset: str) -> list[tuple[str, int, str]]:
    """All lines of a version in the order of shards and rows, as its Arrow files have them."""
    [folder] = (store / "datasets" / dataset).iterdir()
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    documents = table(folder / "documents.arrow")
    samples = []
    for ordinal, shard in enumerate(shards):
        rows = table(folder / "lines" / f"{shard['key']}.arrow")
        here = [document for document in documents if document["shard"] == ordinal]
        for document in sorted(here, key=lambda document: document["row_start"]):
            start = document["row_start"]
            for row in rows[start : start + document["num_lines"]]:
                samples.append((document["source"], row["line"], row["text"]))
    return samples


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_file(path).read_all().to_pylist()
    return rows


def in_files(texts: Texts) -> list[tuple[str, int, str]]:
    return [(name, n, line) for name, lines in texts.items() for n, line in enumerate(lines)]


def test_commands_show_what_the_files_hold(made: Path, source: Source, shell: Shell) -> None:
    listed = {row["dataset"]: row for row in shell.json(made, "ls")["datasets"]}
    for name in WEIGHTS:
        texts = source.texts[name]
        expected = len(texts), len(in_files(texts))
        assert (listed[name]["documents"], listed[name]["lines"]) == expected
        assert sorted(samples_of(made, name)) == sorted(in_files(texts))
        lengths = [len(lines) for lines in texts.values()]
        shown = shell.json(made, "show", name)
        assert shown["documents"] == {"lines_min": min(lengths), "lines_max": max(lengths)}
        query = f"SELECT source, num_lines FROM documents_{name}"
        rows = shell.json(made, "query", query)["rows"]
        assert {row["source"]: row["num_lines"] for row in rows} == dict(zip(texts, lengths, strict=True))
    both = [listed[name] for name in WEIGHTS]
    assert (listed["reading"]["kind"], listed["reading"]["holds"]) == ("mixture", "lines")
    for what in ("documents", "lines"):
        assert listed["reading"][what] == sum(row[what] for row in both)


def test_a_mixture_selects_documents_by_sql_split_and_flag(made: Path, source: Source, shell: Shell) -> None:
    def selected(*options: str) -> int:
        mixed = shell.json(made, "mix", "--weights", "notes=1", *options)["mixture"]
        return int(mixed["components"][0]["num_samples"])

    lengths = [len(lines) for lines in source.texts["notes"].values()]
    long = sum(length for length in lengths if length > 3)
    assert selected("--split", "all", "--where", "num_lines > 3 AND source LIKE 'n%'") == long
    # In Python: what --skip may be was read when the command was imported, perhaps before the kind was known.
    unflagged = make_mixture(Store(made), {"notes": 1}, split="all", skip=("blank",)).mixture
    assert unflagged.components[0].num_samples == sum(lengths) - 2
    half = "--val-fraction", "1/2"
    train, val = selected(*half), selected(*half, "--split", "val")
    assert min(train, val) > 0 and train + val == sum(lengths)
    code, _, err = shell(made, "mix", "--weights", "notes=1", "--where", "num_frames > 3")
    assert code == 2 and "num_frames" in err
    shown = shell.json(made, "show", "reading")["mixture"]
    assert {c["name"]: c["weight"] for c in shown["components"]} == WEIGHTS


def test_copies_are_on_one_side_and_documents_held_out_whole(made: Path, source: Source) -> None:
    """By the mixture `half`, which holds out half of the documents."""
    sides = {}
    for split in ("train", "val"):
        with loader_of(made, "half", split=split) as loader:
            sides[split] = {row for _ in range(20) for row in texts_of(next(loader)).values()}
    every = {row for name in WEIGHTS for row in in_files(source.texts[name])}
    assert sides["val"] and sides["train"] and not sides["train"] & sides["val"]
    assert sides["train"] | sides["val"] == every
    documents = {split: {name for name, _, _ in side} for split, side in sides.items()}
    assert not documents["train"] & documents["val"]
    for name in COPIED:
        assert (name in documents["val"]) == (f"b/{name}" in documents["val"])


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_batches_hold_what_the_order_says(made: Path, threads: int, world: int) -> None:
    given: dict[int, tuple[str, int, str]] = {}
    for rank in range(world):
        with loader_of(made, rank=rank, world=world, threads=threads) as loader:
            for step in range(20):
                batch = next(loader)
                assert batch.step == step and len(batch.k_B) == 12 // world
                given |= texts_of(batch)
            mixture: Mixture = loader.mixture
            assert loader.substitutions == ()
    samples = [samples_of(made, component.dataset) for component in mixture.components]
    dataset_n, _, sample_n = Order(mixture, seed=7).at(np.arange(240))
    expected = [samples[d][s] for d, s in zip(dataset_n.tolist(), sample_n.tolist(), strict=True)]
    assert [given[k] for k in range(240)] == expected
    shares = np.bincount(dataset_n) / 240
    assert dict(zip([c.name for c in mixture.components], shares, strict=True)) == {
        "letters": pytest.approx(1 / 3), "notes": pytest.approx(2 / 3)
    }  # fmt: skip


def test_weights_and_the_stored_mixture_are_the_same_data(made: Path) -> None:
    with loader_of(made) as stored, loader_of(made, WEIGHTS) as inline, loader_of(made, threads=0) as other:
        assert stored.mixture.id == inline.mixture.id
        assert texts_of(next(stored)) == texts_of(next(inline)) == texts_of(other.batch(0))


def test_windows_are_settings_of_the_kind(made: Path) -> None:
    with loader_of(made, {"notes": 1}, window=LinesWindow(skip_blank=True), global_batch=50) as loader:
        epoch = [line for _ in range(2) for line in texts_of(next(loader)).values()]
        assert loader.mixture.components[0].num_samples == len(samples_of(made, "notes")) - 2
    assert all(text for _, _, text in epoch)
    with pytest.raises(UsageError, match="a window of lines is a LinesWindow, not a WindowSpec"):
        loader_of(made, window=WindowSpec())
    with pytest.raises(UsageError, match="a window of frames is a WindowSpec, not a LinesWindow"):
        loader_of(made, "sim", window=LinesWindow())


@pytest.mark.parametrize("threads", [0, 2])
def test_it_prepares_and_resumes_with_the_very_same_batches(made: Path, threads: int) -> None:
    with loader_of(made, threads=threads, prepare=texts_of) as loader:
        given = [next(loader) for _ in range(9)]
    with loader_of(made, threads=threads, prepare=texts_of) as stopped:
        assert [next(stopped) for _ in range(4)] == given[:4]
        state = json.loads(json.dumps(stopped.state_dict()))
    with loader_of(made, threads=threads, prepare=texts_of) as resumed:
        resumed.load_state_dict(state)
        assert [next(resumed) for _ in range(5)] == given[4:]
    with (
        loader_of(made, seed=8) as another,
        pytest.raises(FoundryError, match="belongs to another order of samples: it has seed 7"),
    ):
        another.load_state_dict(state)


def two_more(loader: Loader[Any], queue: Any) -> None:
    queue.put([next(loader) for _ in range(2)])


@pytest.mark.usefixtures("no_ray")
def test_it_goes_on_pickled_and_in_a_forked_process(made: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with loader_of(made, threads=2, prepare=texts_of) as loader:
        next(loader)
        child = context.Process(target=two_more, args=(loader, queue))
        child.start()
        forked = queue.get(timeout=HANG_S)
        child.join()
        with pickle.loads(pickle.dumps(loader)) as copied:
            pickled = [next(copied) for _ in range(2)]
        assert forked == pickled == [next(loader) for _ in range(2)]


def test_open_gives_lines_and_refuses_a_mixture(made: Path) -> None:
    dataset = robot_foundry.open("notes", made)
    assert [(line.source, line.number, line.text) for line in dataset] == samples_of(made, "notes")
    with pytest.raises(FoundryError, match="reading@v1 is a mixture, which has no lines of its own"):
        robot_foundry.open("reading", made)


@pytest.mark.parametrize("depth", [[], ["--deep"]])
def test_a_store_as_written_is_clean(made: Path, shell: Shell, depth: list[str]) -> None:
    code, out, err = shell(made, "validate", "reading", *depth)
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines() if "nothing found" in line] == [
        *["reading@v1", "letters@v1", "notes@v1"]
    ]


def flip_a_text(store: Path, dataset: str, phrase: bytes) -> str:
    """Change a byte of the text that has this phrase; its member."""
    for tar in sorted((store / "shards" / dataset).glob("*.tar")):
        data = bytearray(tar.read_bytes())
        for row in read_index(Store(tar.parent).storage, f"{tar.stem}.index.arrow").to_pylist():
            text = data[row["offset"] : row["offset"] + row["size"]]
            if row["name"].endswith(".txt") and phrase in text:
                data[row["offset"]] ^= 1
                tar.write_bytes(data)
                return str(row["name"])
    raise AssertionError(f"no text has {phrase!r}")


def test_a_damaged_text_is_found_and_its_lines_replaced_and_told(store: Path, shell: Shell) -> None:
    with loader_of(store) as loader:
        whole = {k: row for _ in range(30) for k, row in texts_of(next(loader)).items()}
    member = flip_a_text(store, "notes", b"note 6 line 5")
    assert shell(store, "validate", "reading")[0] == 0
    code, out, _ = shell(store, "validate", "reading", "--deep")
    assert code == 3 and member in out
    with loader_of(store) as loader, loader_of(store, threads=0) as other:
        given = {k: row for _ in range(30) for k, row in texts_of(next(loader)).items()}
        assert given == {k: row for _ in range(30) for k, row in texts_of(next(other)).items()}
        told = {substitution.k: substitution for substitution in loader.substitutions}
        state = loader.state_dict()
    lost = {k for k, (name, _, _) in whole.items() if name == "n06.txt"}
    assert lost and set(told) == lost and state["substituted"] == len(lost)
    samples = samples_of(store, "notes")
    for k, row in given.items():
        assert row == (samples[told[k].substitute] if k in lost else whole[k])
    assert {(one.dataset, one.member) for one in told.values()} == {("notes", member)}
    assert all(row[0] != "n06.txt" for row in given.values())
    with (
        loader_of(store, max_substitutions=1, max_substituted=0.0) as strict,
        pytest.raises(FoundryError, match="2 samples were corrupt, above the limit of 1"),
    ):
        for _ in range(30):
            next(strict)


def test_kinds_are_not_mixed(made: Path, shell: Shell) -> None:
    code, _, err = shell(made, "mix", "--weights", "notes=1,sim=1")
    expected = "a mixture is of one kind of data, and these are not alike: notes of lines, sim of robot"
    assert code == 1 and expected in err
    with pytest.raises(FoundryError, match="letters of lines, notes of lines, sim of robot"):
        loader_of(made, "reading=0.5,sim=0.5")


NO_ROBOT = "'notes' holds lines, not robot data"
MAPPED = "notes@v1 holds lines, and only a robot dataset has a mapping"
REFUSED = {
    "stats notes --stream state": "notes has no numbers of 'state' (there are: document)",
    "stats notes --plot x.png": NO_ROBOT,
    "stats notes -r delta": NO_ROBOT,
    "remap notes --set mapping.state.x=1": MAPPED,
    "remap notes --spec robomimic": MAPPED,
    "remap half --spec robomimic": "half@v1 is a mixture, and only a robot dataset has a mapping",
    "remap sim --spec {spec}": "texts.yaml is of the kind lines, not robot",
    "ingest {spec} {notes} --as sim": "'sim' holds frames; give these lines another name",
    "ingest {spec} {notes} --as half": "'half' is a mixture; give these lines another name",
    "mix --weights sim=1 --as half": "'half' mixes lines; give this mixture of frames another name",
    "mix --weights notes=1 --skip noop": "there is no flag 'noop' (flags: blank)",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_of_another_kind_is_refused(made: Path, source: Source, shell: Shell, command: str) -> None:
    before = sorted((made / "refs").rglob("*"))
    arguments = command.format(spec=source.spec, notes=source.folder / "notes").split()
    code, out, err = shell(made, *arguments)
    assert code in (1, 2) and err.startswith("Error: ") and REFUSED[command] in err and out == ""
    assert sorted((made / "refs").rglob("*")) == before


def test_training_a_robot_policy_refuses_lines(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    arguments = ["vla", "data.mix=notes", "--store", str(made), "--dry-run"]
    assert run(foundry_train, "foundry-train", arguments) == 2
    assert "data.mix: 'notes' is of the kind lines, this trains on robot" in capsys.readouterr().err
