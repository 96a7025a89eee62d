"""Starting from another run: weights by name, dims by name, normalisers kept or fitted anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing import llm_runs, trainer_runs
from foundry_testing.catalog_stores import POSE, make_version
from foundry_testing.trainer_runs import TINY, make_store, tensors, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run
from robot_foundry.normalization.normalizer_report import HEADERS
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints.checkpoint import read_json
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.tasks.vla.origins.policy import DIM_AXES, Origin
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

KEEP = "init.normalizer=keep"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_store(tmp_path_factory.mktemp("store"))
    far = [f"left.{name.removeprefix('right.')}" for name in POSE]
    make_version(
        store, "two", [[10, 12], [9, 13]], state=[*POSE, *far], action=[*POSE, *far], images=True, seed=3
    )
    return store


@pytest.fixture(scope="module")
def first(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 'lift' and 'seven'."""
    folder = tmp_path_factory.mktemp("first")
    trainer_runs.run(store, folder, "data.mix=lift=1,seven=1", "optim.lr=0.01")
    return folder


def started(store: Store, first: Path, run_dir: Path, *overrides: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A job that starts from `first`, and its first weights by name."""
    job = resolve_vla(tiny(store, run_dir, f"init.weights={first}", "seed=5", *overrides))
    model = initialise(job.build_model(), job.config.seed)
    job.origin.load_weights(model, job.spaces, job.config.init.only)
    return job, {name: p.detach() for name, p in model.named_parameters()}


def averaged(run_dir: Path) -> dict[str, torch.Tensor]:
    stored = tensors(Origin.find(str(run_dir)).folder)
    return {n.removeprefix("ema/"): tensor for n, tensor in stored.items() if n.startswith("ema/")}


def test_an_equal_model_starts_with_the_averaged_weights(store: Store, first: Path, tmp_path: Path) -> None:
    _, weights = started(store, first, tmp_path, "data.mix=lift=1,seven=1")
    before = averaged(first)
    assert weights.keys() == before.keys()
    assert all(weights[name].equal(before[name]) for name in weights)


def test_dims_are_moved_by_name_and_new_ones_start_fresh(store: Store, first: Path, tmp_path: Path) -> None:
    job, weights = started(
        store, first, tmp_path, "data.mix=six=1,two=1,seven=1", "init.weights=" + str(first)
    )
    before, old = averaged(first), Origin.find(str(first)).spaces
    fresh = dict(initialise(job.build_model(), 5).named_parameters())
    for name, (union, axis, repeats) in DIM_AXES.items():
        now, then = (getattr(spaces, union).names for spaces in (job.spaces, old))
        assert now.index("seven:right.joint_position.0") != then.index("seven:right.joint_position.0")
        assert "left.ee_position.x" in now and "six:right.joint_position.5" in now
        for block in range(repeats):
            for i, dim in enumerate(now):
                column = weights[name].select(axis, block * len(now) + i)
                if dim in then:
                    expected = before[name].select(axis, block * len(then) + then.index(dim))
                else:
                    expected = fresh[name].select(axis, block * len(now) + i)
                assert column.equal(expected), (name, dim)
    same = [name for name in weights if name not in DIM_AXES]
    assert len(same) > 30 and all(weights[name].equal(before[name]) for name in same)


def test_joints_are_known_by_their_robot_in_a_mixture_and_alone(
    store: Store, first: Path, tmp_path: Path
) -> None:
    """'seven:right.joint_position.0' of the mixture is 'right.joint_position.0' of 'seven' alone."""
    job, weights = started(store, first, tmp_path, "data.mix=seven")
    assert "right.joint_position.0" in job.spaces.action.names
    then = Origin.find(str(first)).spaces.action.names
    out, before = weights["head.action_out.weight"], averaged(first)["head.action_out.weight"]
    for i in range(7):
        ours = job.spaces.action.index(f"right.joint_position.{i}")
        assert out[ours].equal(before[then.index(f"seven:right.joint_position.{i}")])
    alone, _ = started(store, first, tmp_path / "six", "data.mix=lift=1,six=1")
    notes = alone.origin.load_weights(initialise(alone.build_model(), 0), alone.spaces)
    assert "start fresh: six:right.joint_position.0, six:right.joint_position.1" in notes[0]


def test_every_mismatch_is_named(store: Store, first: Path, tmp_path: Path) -> None:
    other = (
        "data.mix=lift",
        "model.head.depth=2",
        "data.window.horizon=6",
        "data.window.representation=delta",
    )
    with pytest.raises(FoundryError) as caught:
        started(store, first, tmp_path, *other)
    text = caught.value.message
    for expected in (
        "head.blocks.1.modulation is not there",
        "head.action_position is (4, 16) there and (6, 16) here",
        "action right.ee_position.x has the representation relative_tool there and delta here",
    ):
        assert expected in text
    with pytest.raises(FoundryError, match=r"backbone\.decoder\.blocks\.1\.\S+ is there alone"):
        started(store, first, tmp_path, "data.mix=lift", "model.backbone.decoder.depth=1", "model.taps=1")
    with pytest.raises(FoundryError, match="no parameter begins with 'hed', did you mean 'head'"):
        started(store, first, tmp_path, "data.mix=lift", "init.only=[hed]")


def test_only_a_part_may_be_taken(store: Store, first: Path, tmp_path: Path) -> None:
    other = ("data.mix=lift", "model.head.depth=2", "data.window.representation=delta")
    job, weights = started(store, first, tmp_path, *other, "init.only=[backbone]")
    before = averaged(first)
    fresh = dict(initialise(job.build_model(), 5).named_parameters())
    for name, tensor in weights.items():
        assert tensor.equal(before[name] if name.startswith("backbone.") else fresh[name]), name


def test_statistics_are_fitted_anew_unless_they_are_kept(store: Store, first: Path, tmp_path: Path) -> None:
    mix = "data.mix=seven"
    kept = resolve_vla(tiny(store, tmp_path, f"init.weights={first}", mix, KEEP)).first_scales()
    refit = resolve_vla(tiny(store, tmp_path, f"init.weights={first}", mix)).first_scales()
    fitted = resolve_vla(tiny(store, tmp_path, mix)).first_scales()
    assert refit == fitted != kept
    before = Origin.find(str(first)).scales
    for ours, theirs in ((kept.state[0], before.state[0]), (kept.action[0], before.action[0])):
        for dim, scaling in zip(ours.space, ours.scalings, strict=True):
            known = dim.name if dim.shared else f"seven:{dim.name}"
            assert scaling == theirs.scalings[theirs.space.index(known)]
        assert (ours.clip, ours.percentiles) == (theirs.clip, theirs.percentiles)


def test_dims_without_statistics_there_are_named(store: Store, first: Path, tmp_path: Path) -> None:
    def keep(*overrides: str) -> Any:
        return resolve_vla(tiny(store, tmp_path, f"init.weights={first}", KEEP, *overrides)).first_scales()

    with pytest.raises(
        FoundryError, match=r"no state six:right\.joint_position\.0, .*no action six:right\.joint_pos"
    ):
        keep("data.mix=lift=1,six=1")
    with pytest.raises(FoundryError, match="right.ee_position.x has the representation relative_tool there"):
        keep("data.mix=lift", "data.window.representation=absolute")
    with pytest.raises(FoundryError, match="is merged, it cannot be kept as per_dataset"):
        keep("data.mix=lift", "data.normalization=per_dataset")
    with pytest.raises(FoundryError, match="is 1.5, it cannot be kept as 2.0") as caught:
        keep("data.mix=lift", "data.clip=2")
    assert caught.value.hint == "data.clip=1.5, or init.normalizer=refit"
    with pytest.raises(FoundryError, match=r"is \[1.0, 99.0\], it cannot be kept as \[2.0, 98.0\]"):
        keep("data.mix=lift", "data.percentiles=[2, 98]")


def test_scales_of_a_dataset_are_kept_for_that_dataset(store: Store, tmp_path: Path) -> None:
    own = ("data.normalization=per_dataset", "run.steps=1")
    trainer_runs.run(store, tmp_path / "a", "data.mix=lift=1,seven=1", *own)
    settings = (f"init.weights={tmp_path / 'a'}", KEEP, *own)
    job = resolve_vla(tiny(store, tmp_path / "b", "data.mix=seven=1", *settings))
    before = Origin.find(str(tmp_path / "a"))
    kept = job.first_scales()
    ours, theirs = kept.action[0], before.scales.action[before.spaces.dataset("seven")]
    at = theirs.space.index("seven:right.joint_position.6")
    assert ours.scalings[ours.space.index("right.joint_position.6")] == theirs.scalings[at]
    assert len(kept.action) == 1 and {s.rule for s in ours.scalings} <= {"percentiles", "identity", "range"}
    with pytest.raises(FoundryError, match="not trained on 'six'"):
        resolve_vla(tiny(store, tmp_path / "c", "data.mix=seven=1,six=1", *settings)).first_scales()


def test_a_run_says_what_it_started_from_and_goes_on_without_it(
    store: Store, first: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(first, source)
    arguments = (
        "data.mix=lift",
        f"init.weights={source}",
        KEEP,
        "run.save_every=1",
        "optim.schedule=constant",
    )
    arguments += ("optim.warmup=0",)
    begun = trainer_runs.run(store, tmp_path / "tuned", *arguments, "run.steps=2")
    lineage = read_json(begun.checkpoint, "lineage.json")["init"]
    assert lineage["checkpoint"] == str(source / "checkpoints" / "step-00000006") and lineage["step"] == 6
    assert Policy.load(tmp_path / "tuned").scales.action[0].space.names == tuple(
        name for name in Origin.find(str(first)).spaces.action.names if "joint" not in name
    )
    shutil.rmtree(source)
    resumed = trainer_runs.run(store, tmp_path / "tuned", *arguments, "run.steps=4")
    whole = trainer_runs.run(
        store, tmp_path / "whole", *(a.replace(str(source), str(first)) for a in arguments), "run.steps=4"
    )
    assert (resumed.resumed_from, resumed.weights) == (2, whole.weights)
    assert read_json(resumed.checkpoint, "lineage.json")["init"] == lineage
    with pytest.raises(FoundryError, match="does not exist"):
        resolve_vla(tiny(store, tmp_path / "never", *arguments))

    # Another checkpoint at the same place is another start.
    trainer_runs.run(store, source, "data.mix=lift", "run.steps=1")
    with pytest.raises(FoundryError, match="cannot be resumed: origin is"):
        trainer_runs.run(store, tmp_path / "tuned", *arguments, "run.steps=4")


def test_a_run_from_scratch_does_not_go_on_as_one_that_started_from_weights(
    store: Store, tmp_path: Path
) -> None:
    trainer_runs.run(store, tmp_path / "scratch", "run.steps=1")
    with pytest.raises(FoundryError, match="cannot be resumed: init is None there"):
        trainer_runs.run(store, tmp_path / "scratch", "run.steps=2", f"init.weights={tmp_path / 'typo'}")


def test_a_run_of_another_task_is_no_beginning(store: Store, tmp_path: Path) -> None:
    llm_runs.run(llm_runs.make_store(tmp_path / "store"), tmp_path / "words", "run.steps=1")
    with pytest.raises(FoundryError, match="is no checkpoint of a policy") as caught:
        resolve_vla(tiny(store, tmp_path / "run", f"init.weights={tmp_path / 'words'}"))
    assert "foundry-train vla" in caught.value.hint


def test_keys_that_need_a_run_say_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="init.weights: is missing"):
        tiny(store, tmp_path, KEEP)
    with pytest.raises(
        UsageError, match="init.normalizer: 'keeep' is none of keep, refit, did you mean 'keep'"
    ):
        tiny(store, tmp_path, "init.normalizer=keeep", "init.weights=x")


def test_dry_run_and_checkpoint_report_every_dim(
    store: Store, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["vla", *TINY, "data.mix=two", f"run.dir={tmp_path / 'new'}", "--store", store.url]
    assert run(group, "foundry-train", [*arguments, "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["normalizer"]
    assert len(rows) == 40 and {row["of"] for row in rows} == {"state", "action"}
    by_dim = {(row["of"], row["dim"]): row for row in rows}
    assert by_dim["state", "left.ee_position.z"]["rule"] == "percentiles"
    assert by_dim["action", "right.ee_rot6d.0"]["rule"] == "identity"
    assert run(group, "foundry-train", [*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "clipped_percent" in out and "left.gripper_opening" in out
    text = (Origin.find(str(first)).folder / "normalizer.txt").read_text()
    assert text.splitlines()[0].split() == ["of", "dataset", *HEADERS]
    assert "seven:right.joint_position.6" in text

    broken = [*arguments, f"init.weights={first}", "model.head.depth=2", "--dry-run"]
    assert run(group, "foundry-train", broken) == 1
    assert "head.blocks.1.modulation is not there" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_before_a_key_goes_on_and_is_kept_as_with_its_default(
    store: Store, tmp_path: Path
) -> None:
    trainer_runs.run(store, tmp_path / "old", "data.mix=seven", "run.steps=2")
    state_file = Origin.find(str(tmp_path / "old")).folder / "state.json"
    state = json.loads(state_file.read_text())
    for key in ("normalization_scope", "normalization_weights"):
        del state["identity"]["data"][key]
    for key in ("control_hz", "flags"):
        del state["identity"]["data"]["window"][key]
    del state["format"]  # older than manifests, too
    (state_file.parent / "manifest.json").unlink()
    state_file.write_text(json.dumps(state))
    new = ("data.mix=seven", f"init.weights={tmp_path / 'old'}", KEEP)
    kept = resolve_vla(tiny(store, tmp_path / "new", *new)).first_scales()
    assert kept == Origin.find(str(tmp_path / "old")).scales
    with pytest.raises(FoundryError, match="is pooled, it cannot be kept as per_offset"):
        resolve_vla(tiny(store, tmp_path, *new, "data.normalization_scope=per_offset")).first_scales()
    with pytest.raises(FoundryError, match="data.normalization_weights is 'count' there and 'mixture' here"):
        trainer_runs.run(store, tmp_path / "old", "data.mix=seven", "data.normalization_weights=mixture")
    assert trainer_runs.run(store, tmp_path / "old", "data.mix=seven", "run.steps=3").resumed_from == 2


def test_origins_of_equal_runs_are_equal(store: Store, first: Path) -> None:
    origin = Origin.find(str(first))
    later = replace(origin, state={**origin.state, "step": 7})
    assert origin.id == Origin.find(str(origin.folder)).id != later.id
