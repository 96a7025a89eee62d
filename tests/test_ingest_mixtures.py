"""Named mixtures: their files, their weights by numbers of samples, and what ingest and mix make of them."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from foundry_testing import rlds_directories

from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run
from robot_foundry.ingest.engine import run as ingest
from robot_foundry.ingest.spec.mixture_files import MixtureFile, builtin_mixtures, load_mixture
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec, specs_of
from robot_foundry.runtime.errors import UsageError


def foundry(*arguments) -> int:
    return run(foundry_data.group, "foundry-data", [*map(str, arguments)])


def test_weights_of_packaged_mixtures_are_those_of_their_sources():
    soup = load_mixture("@oxe_magic_soup_plus")
    assert len(soup.weights) == 27 and soup.power == 1
    told = {
        "kuka": "0.8341046294",
        "bridge": "1",
        "droid": "0.06",
        "bc_z": "0.2",
        "fmb": "1",
        "language_table": "0.1",
    }
    assert {name: soup.weights[name] for name in told} == {name: Fraction(w) for name, w in told.items()}
    assert len(load_mixture("@oxe_magic_soup").weights) == 23
    octo = load_mixture("@octo_magic_soup")
    assert len(octo.weights) == 25 and "nyu_door_opening_surprising_effectiveness" in octo.weights
    assert load_mixture("@pi0_open").power == Fraction("0.43")


@pytest.mark.parametrize("name", builtin_mixtures())
def test_every_dataset_of_a_packaged_mixture_has_a_spec(name):
    specs = specs_of(load_mixture(f"@{name}").weights, name)
    assert specs and set(specs) <= set(builtin_specs())


def test_shares_are_weights_times_samples_to_the_power():
    samples = {"a": 10, "b": 1000}
    weights = {"a": Fraction(2), "b": Fraction(1)}
    assert MixtureFile("m", weights).shares(samples.get) == weights
    assert MixtureFile("m", weights, Fraction(1)).shares(samples.get) == {"a": 20, "b": 1000}
    raised = MixtureFile("m", weights, Fraction("0.43")).shares(samples.get)
    assert float(raised["b"] / raised["a"]) == pytest.approx(100**0.43 / 2)


def test_a_file_is_read_strictly(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("powr: 1\nweights: {a: -1}")
    with pytest.raises(
        UsageError, match=r"2 problems:\n.*weights: .*above 0.*\n.*powr: is not a key"
    ) as error:
        load_mixture(f"@{path}")
    assert "docs/oxe.md" in error.value.hint
    with pytest.raises(UsageError, match="did you mean 'oxe_magic_soup'"):
        load_mixture("@oxe_magic_sou")
    path.write_text("weights: {a: 1}")
    with pytest.raises(UsageError, match="of which no packaged spec is: a"):
        specs_of(load_mixture(f"@{path}").weights, "it")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Datasets `toy` and `other`, of 4 and 4 + 8 frames."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, lengths in (("toy", (4,)), ("other", (4, 8))):
        made = rlds_directories.simple(folder / name, *lengths)
        path = folder / f"{name}.yaml"
        path.write_text(rlds_directories.SPEC)
        ingest(load_spec(path), made.root, store=folder / "store", name=name)
    return folder / "store"


def test_mix_reads_a_file(store, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("power: 1\nweights: {toy: 3, other: 1}")
    assert foundry("mix", "--weights", f"@{path}", "--split", "all", "--store", store, "--json") == 0
    mixed = json.loads(capsys.readouterr().out)["mixture"]
    told = {each["name"]: Fraction(each["weight"]) for each in mixed["components"]}
    assert told["toy"] / told["other"] == Fraction(3 * 4, 12)
    assert foundry("mix", "--weights", "@oxe_magic_soup", "--store", store) == 2
    shown = capsys.readouterr().err
    assert "the store lacks 23 of the 23 datasets of oxe_magic_soup: fractal20220817_data, kuka" in shown
    assert foundry("mix", "--weights", f"@{path}", "--weights", "toy=1", "--store", store) == 2
    assert "a named mixture goes with no other weights" in capsys.readouterr().err


def test_several_specs_are_ingested_from_where_they_say(tmp_path, monkeypatch, capsys):
    for name in ("left", "right"):
        made = rlds_directories.simple(tmp_path / name, 3)
        said = f"name: {name}\nlocations: [{made.root}]\n{rlds_directories.SPEC}"
        (tmp_path / f"{name}.yaml").write_text(said)
    both = f"{tmp_path / 'left.yaml'},{tmp_path / 'right.yaml'}"
    assert foundry("ingest", both, "--store", tmp_path / "store", "--json") == 0
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert [report["version"] for report in reports] == ["left@v1", "right@v1"]
    assert foundry("ingest", both, tmp_path / "left", "--store", tmp_path / "store") == 2
    assert "several specs take no SOURCE" in capsys.readouterr().err
    monkeypatch.delenv("FOUNDRY_RAW", raising=False)
    assert foundry("ingest", "oxe/rh20t,oxe/droid_wipe", "--store", tmp_path / "store") == 2
    assert "oxe/rh20t is not at $FOUNDRY_RAW/rh20t (not set)" in capsys.readouterr().err


def test_sources_tell_what_is_known_and_what_is_not(capsys):
    assert foundry("sources", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["spec"]: row for row in told["sources"]}
    assert len(rows) >= 70 and told["mixtures"] == builtin_mixtures()
    viola, net = rows["oxe/viola"], rows["oxe/robo_net"]
    expected = {"robot": "Franka", "modality": "robot", "rate_hz": 20.0, "episodes": 150, "licence": "mit"}
    assert {key: viola[key] for key in expected} == expected and viola["verified"] == "features"
    assert viola["state"] == 7 + 3 + 6 + 1 and viola["actions"]["next_state"] == 7 + 3 + 6 + 1
    assert net["verified"] == "table" and net["licence"] == "unknown" and net["hours"] is None
    assert rows["bridge"]["verified"] == "data"
    assert foundry("sources", "--mixture", "octo_rtx") == 0
    shown = capsys.readouterr().out
    assert "oxe/kuka" in shown and "0.834105" in shown and "oxe/bc_z" not in shown
