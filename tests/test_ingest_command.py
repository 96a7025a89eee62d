"""`foundry-data ingest` at a terminal and off it: what it tells, asks and refuses."""

from __future__ import annotations

import io
import json
import shlex
import shutil

import pytest
from make_robomimic import make

from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run
from robot_foundry.ingest.spec.locations import locate
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.storage.storage import open_storage


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    make(folder / "lift.hdf5", episodes=3, frames=20, size=64)
    return folder / "lift.hdf5"


def spec_at(folder, *locations, **changes):
    """A spec of one's own, `kitchen.yaml`, that is the builtin one with some places to look."""
    values = load_spec("robomimic").to_json() | {"name": "kitchen", "locations": list(locations)} | changes
    path = folder / "kitchen.yaml"
    path.write_text(json.dumps(values))
    return str(path)


def ingest(*arguments):
    return run(foundry_data.group, "foundry-data", ["ingest", *map(str, arguments)])


def test_a_dry_run_tells_what_a_run_then_makes(source, tmp_path, capsys):
    store = ["--store", tmp_path]
    assert ingest("robomimic", source, *store, "--dry-run", "--json") == 0
    dry = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "shards").exists() and not (tmp_path / "datasets").exists()
    assert ingest("robomimic", source, *store, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["version"] == "robomimic@v1" and dry["version"] is None
    same = ("build_id", "discovered", "written", "shards_written", "episodes", "frames")
    assert {name: dry[name] for name in same} == {name: made[name] for name in same}
    assert 0.9 < dry["bytes"] / made["bytes"] < 1.1
    preview = dry["preview"]
    assert preview["source_bytes"] == source.stat().st_size
    assert preview["growth"] == pytest.approx(dry["bytes"] / source.stat().st_size)
    (manifest,) = (tmp_path / "datasets" / "robomimic").rglob("manifest.json")
    assert preview["schema"] == json.loads(manifest.read_text())["schema"]

    assert ingest("robomimic", source, *store, "--dry-run", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["noop"] and again["version"] == "robomimic@v1"


def test_what_is_left_out_and_warnings_name_the_commands_that_go_on(source, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copy(source, folder / "good.hdf5")
    (folder / "cut.hdf5").write_bytes(source.read_bytes()[:4000])
    monkeypatch.setenv("FOUNDRY_STORE", str(tmp_path / "store"))
    assert ingest("robomimic", folder, "--as", "lift", "--set", "mapping.instruction=[]") == 0
    told = capsys.readouterr().err
    commands = [
        line.removeprefix("Hint: ") for line in told.splitlines() if line.startswith("Hint: foundry-data")
    ]
    asked, mapped, checked = commands
    assert mapped.startswith("foundry-data remap lift@v1 ") and checked.startswith(
        "foundry-data validate lift@v1 "
    )
    _, *arguments = shlex.split(asked)[:3]
    assert run(foundry_data.group, "foundry-data", arguments) == 0
    assert "cut.hdf5" in capsys.readouterr().out


def test_a_dry_run_needs_no_store_that_it_could_write_to(source, capsys):
    assert ingest("robomimic", source, "--store", source / "store", "--dry-run") == 0
    assert "would write 1 shard" in capsys.readouterr().out
    assert ingest("robomimic", source, "--store", source / "store") == 1
    assert "Error: Not a directory: " in capsys.readouterr().err


def test_a_dry_run_reads_well(source, tmp_path, capsys):
    assert ingest("robomimic", source, "--store", tmp_path, "--dry-run") == 0
    shown = capsys.readouterr().out
    for expected in (
        "would write 1 shard and reuse 0",
        "3 episodes, 60 frames, 3.",
        "times the",
        "state: 10 dims: right.ee_position 3, right.ee_rot6d 6, right.gripper_opening 1",
        "camera robot0_eye_in_hand: wrist_right, 64 x 64",
        "build ",
    ):
        assert expected in shown


def test_a_dry_run_tells_why_a_mapping_does_not_fit(source, tmp_path, capsys):
    wrong = ["--set", "mapping.state.right.ee_position.key=obs/robot0_eef_ps"]
    assert ingest("robomimic", source, "--store", tmp_path, "--dry-run", *wrong) == 3
    shown = capsys.readouterr()
    assert "could be read with this mapping" in shown.err
    assert "dims and cameras are not known" in shown.out
    assert "did you mean 'obs/robot0_eef_pos'" in shown.err


def test_without_a_source_the_places_of_the_spec_are_looked_at_in_order(source, tmp_path, monkeypatch):
    spec = load_spec(spec_at(tmp_path, "$KITCHEN_LOGS/raw", "${KITCHEN_LOGS}/a.hdf5", str(source)))
    assert locate(spec, {})[0] == str(source)
    here = {"KITCHEN_LOGS": str(source.parent)}
    assert locate(spec, here)[0] == str(source)
    (tmp_path / "raw").mkdir()
    make(tmp_path / "raw" / "b.hdf5", episodes=1, frames=3, size=16)
    assert locate(spec, {"KITCHEN_LOGS": str(tmp_path)})[0] == str(tmp_path / "raw")
    nowhere = load_spec(spec_at(tmp_path, "$KITCHEN_LOGS/raw", "/no/such/folder"))
    with pytest.raises(UsageError, match=r"kitchen is not at \$KITCHEN_LOGS/raw \(not set\), /no"):
        locate(nowhere, {})
    far = load_spec(spec_at(tmp_path, "$KITCHEN_LOGS/raw", "memory://no/logs"))
    with pytest.raises(
        UsageError, match=r"not at \$KITCHEN_LOGS/raw \(not set\), and .*memory://no"
    ) as caught:
        locate(far, {})
    assert caught.value.hint.endswith("or set the variable")
    with pytest.raises(UsageError, match="names no place to look"):
        locate(load_spec("robomimic"))

    monkeypatch.setenv("KITCHEN_LOGS", str(tmp_path))
    assert ingest(spec_at(tmp_path, "$KITCHEN_LOGS/raw"), "--store", tmp_path / "store") == 0
    assert (tmp_path / "store" / "refs" / "kitchen" / "v1").is_file()


def test_a_place_far_away_is_confirmed(source, tmp_path, capsys, monkeypatch):
    """Bytes in memory stand for a bucket: to the command they are as far."""
    open_storage("memory://far/logs").write("lift.hdf5", source.read_bytes())
    spec, store = spec_at(tmp_path, "memory://far/logs"), tmp_path / "store"
    assert ingest(spec, "--store", store) == 2
    told = capsys.readouterr().err
    assert "kitchen is at memory://far/logs: 1 file, " in told and "needs --yes" in told
    assert not store.exists()
    assert ingest(spec, "--store", store, "--yes") == 0
    assert (store / "refs" / "kitchen" / "v1").is_file()

    assert ingest(spec, "--store", tmp_path / "other", "--dry-run") == 0
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert ingest(spec, "--store", tmp_path / "other") == 130
    assert not (tmp_path / "other" / "refs").exists()
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert ingest(spec, "--store", tmp_path / "other") == 0
    assert (tmp_path / "other" / "refs" / "kitchen" / "v1").is_file()


class Terminal(io.StringIO):
    """Somebody types this."""

    def isatty(self):
        return True


def test_the_form_that_the_source_has_is_taken(source, tmp_path):
    """robosuite files have no obs, and the name of a file is all that a layout goes by."""
    from robot_foundry.ingest.files.scan import choose

    spec = load_spec(spec_at(tmp_path, forms=["tabletop"]), ["content.fps=7"])
    chosen, found = choose(source, spec)
    assert chosen.name == "kitchen" and [file.status.path for file in found.files] == ["lift.hdf5"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no file of the layout robomimic"):
        choose(tmp_path / "empty", spec)
    # A file that is named is the spec's own, unless its name is of a form.
    for name, layout in (("lift", "robomimic"), ("lift.mcap", "ros"), ("lift.tfrecord", "rlds")):
        (tmp_path / name).touch()
        assert choose(tmp_path / name, load_spec("tabletop"))[0].layout == layout
    # Settings must suit the forms that are looked at, and no others.
    rows = load_spec("tabletop", ["content.extra_row=next_state"])
    assert choose(source, rows)[0].content.extra_row == "next_state"
    with pytest.raises(UsageError, match="extra_row"):
        choose(tmp_path / "lift.mcap", rows)


def test_every_builtin_spec_names_itself():
    assert [load_spec(name).name for name in builtin_specs()] == builtin_specs()


def test_an_empty_source_is_no_source_that_was_left_out(tmp_path, capsys):
    """As of a variable that is not set: the next place to look could be a bucket of terabytes."""
    assert ingest("droid", "", "--store", tmp_path, "--yes") == 2
    assert "SOURCE is empty" in capsys.readouterr().err
