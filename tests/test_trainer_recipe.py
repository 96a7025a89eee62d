"""Recipes: layers, presets, every problem at once, and the command line over them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.trainer_runs import TINY, make_store, tiny
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.sizes.presets import DECODERS, FLOWS
from robot_foundry.trainer.optim.schedule import multiplier
from robot_foundry.trainer.recipes.form import PACKAGED, resolved
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml
from robot_foundry.trainer.tasks.run_identity import decisive, default_dir
from robot_foundry.trainer.tasks.vla.recipe import from_resolved, read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def problems(*overrides: str, recipe: Path | None = None) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read_recipe(recipe, overrides)
    title, *lines = str(caught.value).splitlines()
    assert f"{len(lines)} problem" in title
    return [line.strip() for line in lines]


def test_every_packaged_recipe_needs_only_data() -> None:
    names = [path.stem for path in PACKAGED.glob("vla_*.yaml")]
    assert "vla_tiny" in names
    for name in names:
        assert read_recipe(name, ["data.mix=lift"]).name == name
        assert [line.split(":")[0] for line in problems(recipe=PACKAGED / f"{name}.yaml")] == ["data.mix"]


def test_all_problems_come_at_once_with_the_nearest_key() -> None:
    found = problems(
        "data.mixx=lift", "model.head.dept=2", "model.head.width=100", "model.backbone.decoder.heads=3",
        "run.stpes=3", "optim.lr=fast", "optim.optimizer=adam", "data.percentiles=[1]", "seed=true",
        "data.window.horizon=0", "data.global_batch=30", "run.accumulate=4",
    )  # fmt: skip
    text = "\n".join(found)
    for expected in (
        "data.mixx: is not a key, did you mean 'mix'?",
        "model.head.dept: is not a key, did you mean 'depth'?",
        "model.backbone.decoder.width: 128 is no multiple of heads (3)",
        "run.stpes: is not a key, did you mean 'steps'?",
        "optim.lr: needs a number, not 'fast'",
        "optim.optimizer: 'adam' is none of adamw, muon, did you mean 'adamw'?",
        "data.percentiles: needs a list of 2 × a number, not [1]",
        "seed: needs a whole number, not True",
        "data.window: horizon 0 is below 1",
        "data.global_batch: 30 is no multiple of run.accumulate (4)",
        "data.mix: is missing",
    ):
        assert expected in text
    # A width of 100 is fine for 4 heads; 3 heads divide neither the width nor among the 4 key heads.
    assert len(found) == 12 and "model.backbone.decoder.heads: 3 is no multiple of kv_heads (4)" in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=vla_tinny", "model: there is no preset 'vla_tinny', did you mean 'vla_tiny'?"),
        ("model.head=3", "model.head: needs keys of its own, not 3"),
        ("data=lift", "data: needs keys of its own, not 'lift'"),
        ("data.window.cameras=primary", "data.window.cameras: needs a list of text, not 'primary'"),
        ("data.mix=3", "data.mix: needs text or null, not 3"),
        ("data.window.image=[60, 64]", "data.window.image height: 60 is no multiple of"),
        ("data.window.representation=relativ_tool", "did you mean 'relative_tool'?"),
        ("data.window.horizon=0.8", "data.window: horizon '0.8' is neither steps, such as 16, nor"),
        ("data.window.horizn=0.8s", "data.window.horizn: is not a key, did you mean 'horizon'?"),
        ("data.window.horizon=true", "data.window.horizon: needs a whole number or text, not True"),
        ("data.window.flags={nop: skip}", "there is no flag 'nop', did you mean 'noop'?"),
        ("data.window.flags=skip", "data.window.flags: needs names, each with a number or text or null"),
        ("data.window.flags={noop: null}", "flags: needs names, each with a number or text or null, not"),
        ("data.window.flags={noop: true}", "flags: needs names, each with a number or text or null, not"),
        ("data.clip=.inf", "data.clip: must be at least 1 and finite, not inf"),
        ("data.normalization_scope=offset", "'offset' is none of pooled, per_offset"),
        ("data.normalization_weights=counts", "'counts' is none of count, mixture, did you mean 'count'?"),
        ("model.taps=5", "model.taps: 5 layers cannot be read from a decoder of depth 4"),
        ("model.backbone.decoder.vocabulary=256", "vocabulary: must be at least 258, not 256"),
        ("model.backbone.vision.patch=6", "a conv stem needs a power of two, not 6"),
        ("run.samples=null", "run: give the length as either run.steps or run.samples"),
        ("optim.betas=[0.9, 1.0]", "optim.betas: must lie in [0, 1)"),
    ],
)
def test_each_kind_of_problem_is_one_line(override: str, expected: str) -> None:
    found = problems("data.mix=lift", override) if not override.startswith("data") else problems(override)
    assert any(expected in line for line in found), found


def test_times_and_flags_survive_the_saved_configuration() -> None:
    config = read_recipe(
        None,
        [
            "data.mix=lift", "run.steps=7", "data.window={horizon: 0.8s, stride: 2, control_hz: 15}",
            "data.window.flags={noop: skip}", "data.window.flags.intervention=2",
        ],
    )  # fmt: skip
    window = config.data.window
    assert (window.horizon, window.stride, window.control_hz) == ("0.8s", 2, 15.0)
    assert window.flags == {"noop": "skip", "intervention": 2.0}
    assert from_resolved(read_yaml(write_yaml(resolved(config)), "config.yaml")) == config


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe 'vla_tinny', did you mean 'vla_tiny'"):
        read_recipe("vla_tinny")
    with pytest.raises(UsageError, match="'run' is not key=value"):
        read_recipe(None, ["run"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(UsageError, match="is no valid YAML"):
        read_recipe(broken)
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text("seed: !!python/object/apply:os.getcwd []")
    with pytest.raises(UsageError, match="is no valid YAML"):
        read_recipe(tagged)


def test_layers_and_presets() -> None:
    config = read_recipe(None, ["data.mix={sim: 0.6, real: 0.4}", "model.head.depth=2", "run.steps=7"])
    assert config.data.mix == "sim=0.6,real=0.4"
    assert (config.num_steps, config.run.samples) == (7, None)
    assert config.model.head == replace(FLOWS["flow_tiny"], depth=2)
    assert read_recipe(None, ["data.mix=sim=0.6,real=0.4"]).data.mix == "sim=0.6,real=0.4"
    larger = read_recipe(
        None, ["data.mix=a", "model.backbone.decoder=llm_100m", "model.head.preset=flow_100m"]
    )
    assert larger.model.backbone.decoder == DECODERS["llm_100m"]
    assert larger.model.head == FLOWS["flow_100m"]
    assert read_recipe(None, ["data.mix=a", "data.global_batch=30", "run.samples=64"]).num_steps == 3


def test_the_resolved_configuration_reads_back_equal() -> None:
    config = read_recipe(None, ["data.mix=lift", "optim.lr=1e-3", "run.keep_every=100"])
    assert config.optim.lr == 0.001
    text = write_yaml(resolved(config))
    assert from_resolved(YAML(typ="safe").load(text)) == config
    assert list(YAML(typ="safe").load(text)) == ["name", "seed", "data", "model", "init", "optim", "run"]


def test_what_does_not_decide_weights_does_not_decide_the_folder() -> None:
    base = read_recipe(None, ["data.mix=lift"])
    same = read_recipe(
        None, ["data.mix=lift@v1", "run.steps=5", "run.log_every=3", "data.threads=2", "run.dir=x"]
    )
    other = read_recipe(None, ["data.mix=lift", "optim.lr=0.1"])
    assert decisive(base) == decisive(same) != decisive(other)
    assert default_dir(base, "m") == default_dir(same, "m") != default_dir(other, "m")
    assert default_dir(base, "m") != default_dir(base, "n")


def test_keys_that_came_later_leave_the_folder_as_it_was_until_they_are_set() -> None:
    base = read_recipe(None, ["data.mix=lift"])
    assert default_dir(base, "m") == "runs/vla_tiny-295d71ca"  # as it was before decoders had `norm_eps`
    later = [
        read_recipe(None, ["data.mix=lift", f"model.backbone.decoder.{set_so}"])
        for set_so in ("qk_norm=true", "norm_eps=1e-5", "rope_scaling.factor=2", "head_width=64")
    ]
    assert len({default_dir(config, "m") for config in (base, *later)}) == 5


@given(st.integers(1, 500), st.floats(0, 0.5), st.sampled_from(["cosine", "trapezoid"]))
def test_schedules_rise_then_fall_to_almost_nothing(total: int, warmup: float, kind: str) -> None:
    rates = [multiplier(step, total, kind=kind, warmup=warmup) for step in range(total)]
    rise = round(warmup * total)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:rise] == sorted(rates[:rise]) and rates[rise:] == sorted(rates[rise:], reverse=True)
    assert multiplier(total, total, kind=kind, warmup=warmup) == pytest.approx(0, abs=1e-9)
    assert multiplier(total * 7 // 10, total, kind="trapezoid", warmup=0.1) == 1
    assert multiplier(total - 1, total, kind="constant", warmup=0) == 1


def foundry(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(group, "foundry-train", arguments)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_dry_run_says_what_would_be_trained_and_writes_nothing(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("vla", "data.mix=lift=0.2,seven=0.6", "--store", store.url, "run.samples=640", "--dry-run")
    code, out, err = foundry(capsys, *arguments)
    assert code == 0 and "recipe: vla_tiny (packaged)" in err and "weights sum to 0.8;" in err
    assert "20 steps of 32 samples, into runs/vla_tiny-" in out and "config" not in out.splitlines()[0]
    code, out, _ = foundry(capsys, *arguments, "--json")
    plan = json.loads(out)
    assert plan["parameters"]["vision"] == 276_720
    assert [(row["name"], row["weight"]) for row in plan["mixture"]] == [("lift", "1/4"), ("seven", "3/4")]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("data.mix=lifft",), 1, "did you mean 'lift'?"),
        (
            ("data.mix=lift", "data.window.cameras=[wrist]"),
            1,
            "no dataset of the mixture has a camera 'wrist'",
        ),
        (("data.mix=lift", "run.stepz=1"), 2, "run.stepz: is not a key, did you mean 'steps'?"),
        (("nothing.yaml",), 2, "there is no recipe 'nothing.yaml'"),
        (("/",), 2, "the recipe '/' is a folder"),
        (("vla_1_7b",), 2, "say it there, as model=vla_1_7b"),
    ],
)
def test_mistakes_end_with_one_sentence(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, expected: str
) -> None:
    found, out, err = foundry(capsys, "vla", *arguments, "--store", store.url)
    assert (found, out) == (code, "") and expected in err and "Traceback" not in err


def test_a_run_ends_with_its_losses_and_the_next_command(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = tmp_path / "versions" / "policy.json"
    arguments = ("vla", *TINY, "data.mix=lift", f"run.dir={tmp_path}", "run.steps=2", "--store", store.url)
    arguments += ("--pointer", str(pointer))
    code, out, err = foundry(capsys, *arguments)
    assert code == 0, err
    following = (f"foundry-eval openloop {tmp_path}", f"foundry-eval scorecard {tmp_path}")
    for expected in ("final loss", "held-out loss", "step-00000002", *following):
        assert expected in out
    code, out, _ = foundry(capsys, *arguments, "--json")
    again = json.loads(out)
    assert checkpoint.find(pointer) == tmp_path / "checkpoints" / "step-00000002"
    assert json.loads(pointer.read_text())["weights"] == again["weights"]
    assert (again["resumed_from"], again["step"]) == (2, 2) and again["held_out_loss"] > 0
    files = sorted(path.name for path in (tmp_path / "checkpoints/step-00000002").iterdir())
    expected_files = ["config.yaml", "lineage.json", "manifest.json", "normalizer.json", "robots.json"]
    expected_files += ["spaces.json", "state.json"]
    assert [name for name in files if name.endswith(("json", "yaml"))] == [*expected_files, "tokenizer.json"]


def test_what_a_stored_mixture_holds_out_is_not_overridden_in_silence(store: Store, tmp_path: Path) -> None:
    commit_mixture(make_mixture(store, {"lift": 1}, val_fraction="1/3"), "third")

    def job(*overrides: str) -> Any:
        return resolve_vla(tiny(store, tmp_path, *overrides))

    stored = job("data.mix=third")
    selection = stored.mixture.components[0].selection
    assert (selection["val_fraction"], selection["split_by"]) == ("1/3", "episode")
    for same in ("data.val_fraction=1/3", "data.val_fraction=2/6", "data.split_by=episode"):
        assert job("data.mix=third", same).mixture.id == stored.mixture.id
    for key, here, there in (("val_fraction", "1/10", "1/3"), ("split_by", "time", "episode")):
        for mix in ("third", "third=0.5,six=0.5"):
            with pytest.raises(
                UsageError, match=f"data.{key} is {here}, but .* 'third' was made with {there}"
            ):
                job(f"data.mix={mix}", f"data.{key}={here}")
    assert job("data.mix=lift").mixture.id == job("data.mix=lift", "data.val_fraction=1/10").mixture.id
