"""Opened datasets, SQL over a store, and the commands that show and mix."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.catalog_stores import POSE, make_version

import robot_foundry
from robot_foundry.catalog import Catalog
from robot_foundry.catalog.mixture import as_mixture, commit_mixture
from robot_foundry.catalog.refs import resolve, tag
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run
from robot_foundry.normalization.interop import from_centroids
from robot_foundry.normalization.space import Dim, dims_for
from robot_foundry.runtime.errors import FoundryError, UsageError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    make_version(store, "sim", [[5, 4], [3, 6, 2]], seed=1, images=True)
    make_version(store, "sim", [[5, 4], [3, 6, 2], [7]], seed=1, images=True)
    joints = [*POSE, *dims_for("right.joint_position", count=2)]
    make_version(store, "real", [[40, 20]], seed=2, fps=50.0, embodiment="ur5", state=joints)
    steps = [Dim("right.ee_position.x", "m", "position", "delta")]
    make_version(
        store, "gaps", [[5, 4, 3, 6], [4, 2]], seed=6, images=True, left_out=[(0, 1), (0, 3), (1, 0)]
    )
    make_version(store, "steps", [[9]], seed=5, state=steps, action=steps)
    tag(store, resolve(store, "sim@v1"), "paper")
    commit_mixture(as_mixture(store, {"sim": 1, "real": 1}), "blend")
    return store


def test_dataset_gives_frames_images_and_tables(store: Store) -> None:
    dataset = robot_foundry.open("sim:paper", store.url)
    assert len(dataset) == 20 and str(dataset.version) == "sim@v1"
    frames, episodes = dataset.frames(), dataset.episodes()
    assert frames.num_rows == 20 and episodes["num_frames"].to_pylist() == [5, 4, 3, 6, 2]
    for i, frame in enumerate(dataset):
        row = frames.slice(i, 1).to_pylist()[0]
        assert (frame["key"], frame["frame"], frame["flags"]) == (row["key"], row["frame"], row["flags"])
        np.testing.assert_array_equal(frame["state"], np.array(row["state"], np.float32))
        np.testing.assert_array_equal(
            frame["action.next_state"], np.array(row["action.next_state"], np.float32)
        )
        image = frame["image.primary"]
        assert image.shape == (16, 24, 3) and image.dtype == np.uint8
        ordinal = [row["key"] for row in episodes.to_pylist() if row["shard"] == frames["shard"][i].as_py()]
        assert abs(int(image.mean()) - (10 * ordinal.index(frame["key"]) + row["frame"])) <= 1
    np.testing.assert_array_equal(dataset[-1]["state"], dataset[19]["state"])
    assert dataset.space("next_state").names == dataset.space().names
    assert dataset.statistics(stream="state")["right.ee_position.x"].count == 20
    chunk = dataset.statistics("relative_tool", horizon=2)
    assert chunk.space.dims[0].representation == "relative_tool"
    with pytest.raises(IndexError, match="no frame 20"):
        dataset[20]


def test_dataset_of_one_split(store: Store) -> None:
    whole = robot_foundry.open("real", store)
    train = robot_foundry.open("real", store, split="train")
    assert len(whole) == 60 and train.frames().num_rows == len(train)
    assert train[0]["state"].tolist() == train.frames()["state"][0].as_py()
    assert "image.primary" not in whole[0]
    with pytest.raises(FoundryError, match="blend@v1 is a mixture"):
        robot_foundry.open("blend", store)


def test_rows_of_quarantined_episodes_are_not_seen(store: Store) -> None:
    dataset = robot_foundry.open("gaps", store)
    frames = dataset.frames()
    assert len(dataset) == frames.num_rows == dataset.manifest.counts["frames"] == 10
    keys = dataset.episodes()["key"].to_pylist()
    assert frames["key"].to_pylist() == [keys[0]] * 5 + [keys[1]] * 3 + [keys[2]] * 2
    for i, frame in enumerate(dataset):
        assert frame["key"] == frames["key"][i].as_py() and frame["frame"] == frames["frame"][i].as_py()
        np.testing.assert_array_equal(frame["state"], np.array(frames["state"][i].as_py(), np.float32))
        assert int(frame["image.primary"].mean()) % 10 == frame["frame"]
    assert Catalog(store).sql("SELECT count(*), count(DISTINCT key) FROM frames_gaps").to_pylist() == [
        {"count_star()": 10, 'count(DISTINCT "key")': 3}
    ]


def test_catalog_lists_and_answers(store: Store) -> None:
    catalog = Catalog(store)
    listed = {entry.version.dataset: entry for entry in catalog.ls()}
    assert sorted(listed) == ["blend", "gaps", "real", "sim", "steps"]
    assert (listed["sim"].versions, listed["sim"].groups, listed["sim"].tags) == (2, 6, ("paper",))
    assert listed["sim"].version == catalog.resolve("sim") == resolve(store, "sim@v2")

    def one(query: str) -> object:
        return catalog.sql(query).column(0)[0].as_py()

    assert one("SELECT count(*) FROM versions") == 6
    assert one("SELECT sum(frames) FROM shards WHERE version = 'sim@v2'") == 27
    assert one("SELECT count(*) FROM episodes WHERE dataset = 'sim'") == 6
    assert one("SELECT count(*) FROM FRAMES_sim") == 27
    assert one('SELECT count(*) FROM "frames_sim@v1"') == 20
    assert one("SELECT list(DISTINCT text ORDER BY text) FROM annotations_sim") == [
        "lift the cube 0",
        "lift the cube 1",
    ]
    assert one("SELECT sum(share) FROM components WHERE version = 'blend@v1'") == pytest.approx(1)
    assert one("SELECT reason FROM quarantine WHERE dataset = 'real'") == "no actions"
    assert one("SELECT count(*) FROM runs") == 0
    per_key = catalog.sql("SELECT key, count(*) AS n FROM frames_sim GROUP BY key ORDER BY key").to_pylist()
    episodes = robot_foundry.open("sim", store).episodes().to_pylist()
    assert {row["key"]: row["n"] for row in per_key} == {e["key"]: e["num_frames"] for e in episodes}
    highest = one("SELECT max(state[1]) FROM frames_sim")
    rows = robot_foundry.open("sim", store).frames()["state"].to_pylist()
    assert highest == max(row[0] for row in rows)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DROP TABLE versions", "read-only"),
        ("COPY versions TO 'x.csv'", "disabled"),
        ("FROM read_text('/etc/hostname')", "disabled"),
        ("SET enable_external_access = true", "locked|cannot"),
        ("SELECT framez FROM datasets", "framez"),
        ("FROM frames_smi", "did you mean 'sim'"),
        ("FROM read_csv", "read_csv"),
        ("", "not a query"),
    ],
)
def test_queries_cannot_write_or_leave_the_store(store: Store, query: str, message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        Catalog(store).sql(query)


def test_an_opened_catalog_reads_a_manifest_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, reads = Catalog(store.url), list[str]()
    catalog.ls()  # makes the snapshot, from manifests that are read anew
    read = catalog.store.storage.read_bytes

    def noted(path: str) -> bytes:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(catalog.store.storage, "read_bytes", noted)
    for _ in range(2):
        catalog.sql("SELECT count(*) FROM episodes, annotations, frames_sim, episodes_real")
    manifests = [path for path in reads if path.endswith("manifest.json")]
    assert len(manifests) == len(set(manifests)) == 5


def test_python_variables_are_not_tables(store: Store) -> None:
    secret = pa.table({"x": [1]})
    with pytest.raises(UsageError, match="secret"):
        Catalog(store).sql("FROM secret")
    assert secret.num_rows == 1


def test_threads_may_query_at_once(store: Store) -> None:
    catalog = Catalog(store)
    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(lambda _: catalog.sql("FROM episodes").num_rows, range(8))
    assert set(counts) == {12}


def test_snapshot_follows_the_listing_and_can_be_lost(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    catalog = Catalog(store)
    assert catalog.ls() == []
    version = make_version(store, "sim", [[3]])
    assert [entry.version for entry in catalog.ls()] == [version]
    snapshot = tmp_path / "store" / "catalog.duckdb"
    before = snapshot.stat()
    catalog.ls()
    assert snapshot.stat().st_ino == before.st_ino  # nothing new, not rebuilt
    with duckdb.connect(str(snapshot), read_only=True) as reader:  # a reader holds no writer up
        tag(store, version, "good")
        assert catalog.ls()[0].tags == ("good",)
        assert reader.execute("SELECT count(*) FROM tags").fetchone() == (0,)
    snapshot.write_bytes(b"not a database")
    assert len(catalog.ls()) == 1
    snapshot.unlink()
    assert len(catalog.ls()) == 1
    assert [p.name for p in (tmp_path / "store").iterdir() if p.name.startswith(".tmp")] == []


def test_an_object_store_works_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(f"memory://{tmp_path.name}")
    version = make_version(store, "sim", [[3, 2]], images=True)
    assert [entry.version for entry in Catalog(store).ls()] == [version]
    assert Catalog(store).sql("FROM frames_sim").num_rows == 5
    dataset = robot_foundry.open("sim", store)
    assert dataset[4]["image.primary"].shape == (16, 24, 3)
    assert as_mixture(store, "sim").mixture.components[0].num_samples > 0
    assert list(tmp_path.rglob("catalog.duckdb"))


class Shell:
    def __init__(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.capsys = store, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = run(group, "foundry-data", [*arguments, "--store", self.store.url])
        out, err = self.capsys.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> dict:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def shell(store: Store, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(store, capsys)


def test_ls(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = shell("ls")
    assert code == 0 and "sim@v2" in out and "sim@v1" not in out
    assert [row["version"] for row in shell.json("ls", "sim")["versions"]] == ["sim@v1", "sim@v2"]
    assert {row["dataset"] for row in shell.json("ls")["datasets"]} == {
        "blend",
        "gaps",
        "real",
        "sim",
        "steps",
    }
    code, _, err = shell("ls", "smi")
    assert code == 1 and "did you mean 'sim'" in err and "Hint: foundry-data ls" in err
    code, out, err = Shell(Store(tmp_path / "none"), capsys)("ls")
    assert code == 0 and "is empty" in err


def test_show(shell: Shell) -> None:
    code, out, _ = shell("show", "sim:paper")
    assert code == 0
    for part in ("sim@v1", "panda", "primary: agentview, 16 × 24", "no actions", "'lift the cube 0' × 3"):
        assert part in out
    shown = shell.json("show", "sim:paper")
    assert (shown["seq"], shown["tags"], shown["episodes"]["frames_max"]) == (1, ["paper"], 6)
    code, out, _ = shell("show", "blend")
    assert code == 0 and "ur5:right.joint_position.0" in out


def test_stats(shell: Shell, store: Store) -> None:
    rows = shell.json("stats", "real", "--stream", "state")["dims"]
    values = np.array(robot_foundry.open("real", store).frames()["state"].to_pylist())
    assert [row["count"] for row in rows] == [60] * 12
    np.testing.assert_allclose([row["max"] for row in rows], values.max(axis=0))
    assert all(len(row["shape"]) == 16 for row in rows)
    mixed = shell.json("stats", "sim=1,real=1", "-r", "relative_tool", "--horizon", "2")["dims"]
    assert {row["stream"] for row in mixed} == {"state", "next_state"}
    assert "ur5:right.joint_position.1" in [row["dim"] for row in mixed]
    leaves = shell.json("stats", "real", "--stream", "state", "--centroids")["dims"]
    assert from_centroids(leaves[0]["centroids"]).percentile(50) == leaves[0]["p50"] == rows[0]["p50"]
    code, _, err = shell("stats", "real", "--centroids")
    assert code == 2 and "--json --centroids" in err
    code, out, _ = shell("stats", "sim")
    assert code == 0 and "right.gripper_opening" in out
    code, _, err = shell("stats", "blend")
    assert code == 2 and "-r relative_tool" in err
    code, _, err = shell("stats", "sim", "--horizon", "4")
    assert code == 2 and "--horizon is of training chunks: say which with -r" in err
    code, _, err = shell("stats", "sim=1,real=1")
    assert code == 2 and "is part of a mixture" in err
    code, _, err = shell("stats", "sim", "-r", "relative_tol")
    assert code == 1 and "did you mean 'relative_tool'" in err


def test_query(shell: Shell) -> None:
    code, out, _ = shell(
        "query", "SELECT key, tags FROM datasets JOIN episodes USING (dataset)", "--format", "csv"
    )
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 12 and {row["tags"] for row in rows} == {"", '["paper"]'}
    whole = shell.json("query", "SELECT sum(n)::HUGEINT AS n FROM (VALUES (9007199254740993)) AS t(n)")
    assert whole["rows"] == [{"n": 9007199254740993}]
    found = shell.json("query", "SELECT 1.5 AS x, DATE '2026-01-02' AS d, 'a'::BLOB AS b, [1] AS l")
    assert found["rows"] == [{"x": 1.5, "d": "2026-01-02", "b": "61", "l": [1]}]
    code, out, err = shell("query", "SELECT frame FROM frames_sim ORDER BY frame", "--max-rows", "2")
    assert code == 0 and out.split() == ["frame", "0", "0"] and "25 more rows" in err
    code, _, err = shell("query", "SELEC 1")
    assert code == 2 and "syntax error" in err and "foundry-data query --help" in err


def test_mix(shell: Shell, store: Store) -> None:
    result = shell.json("mix", "--weights", "sim=0.6,real=0.4")
    mixture = as_mixture(store, {"sim": 0.6, "real": 0.4})
    assert result["id"] == mixture.mixture.id and result["version"] is None
    assert shell.json("mix", "--weights", "sim=0.6", "--weights", "real=0.4")["id"] == result["id"]
    samples = {c["name"]: c["num_samples"] for c in result["mixture"]["components"]}
    assert result["epochs"]["sim"] == pytest.approx(0.6e6 / samples["sim"])
    joint = next(d for d in result["dims"]["state"] if d["name"] == "ur5:right.joint_position.0")
    assert joint["components"] == {"real": True, "sim": False}
    assert any("50 Hz" in warning for warning in result["warnings"])

    assert shell.json("mix", "--weights", "sim=1", "--as", "new", "--dry-run")["version"] is None
    with pytest.raises(FoundryError, match="no dataset 'new'"):
        resolve(store, "new")
    code, out, err = shell("mix", "--weights", "sim=0.2,real=0.2", "--as", "even")
    assert code == 0 and "stored as even@v1" in out and "sum to 0.4;" in err
    assert (
        shell.json("mix", "--weights", "even=1")["id"] == shell.json("mix", "--weights", "real=1,sim=1")["id"]
    )

    for arguments, code, message in (
        (("--weights", "sim=1,steps=1"), 1, "'right.ee_position.x' has the representation"),
        (("--weights", "sim=1,reel=1"), 1, "did you mean 'real'"),
        (("--weights", "sim"), 2, "not REF=WEIGHT"),
        (("--weights", "sim=1", "--as", "real"), 1, "'real' is a dataset"),
        (("--weights", "sim=1", "--as", "New"), 2, "not allowed"),
        (("--weights", "sim=1", "--where", "nope > 1"), 2, "nope"),
        (("--weights", "sim=1", "--split", "val", "--val-fraction", "1/1000000"), 1, "val split is empty"),
    ):
        found, _, err = shell("mix", *arguments)
        assert found == code and message in err, (arguments, err)
