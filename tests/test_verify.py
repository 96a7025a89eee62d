"""What a run logged comes out again from its checkpoints, or it is said in what it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from foundry_testing import llm_runs, trainer_runs, vlm_runs
from foundry_testing.tokens import write_tokens

from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_train
from robot_foundry.cli.output import run as run_command
from robot_foundry.trainer.meters import METRICS, read_metrics
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm

SHORT = ("run.steps=4", "run.eval_samples=1")
MODULES = {"llm": llm_runs, "vlm": vlm_runs, "vla": trainer_runs}


@pytest.fixture(scope="module", params=MODULES)
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of each task: four steps, a checkpoint every two, a record every one."""
    root = tmp_path_factory.mktemp(request.param)
    module = MODULES[request.param]
    store = module.make_store(root / "store")
    module.run(store, root / "run", *SHORT)
    return SimpleNamespace(task=request.param, module=module, store=store, run_dir=root / "run", root=root)


def verified(capsys: Any, *arguments: str) -> tuple[int, Any]:
    code = run_command(foundry_train.group, "foundry-train", ["verify", *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else said.err


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_it_is_equal_to_the_bit_and_the_run_is_only_read(trained: SimpleNamespace, capsys: Any) -> None:
    before = stamps(trained.run_dir)
    code, found = verified(capsys, str(trained.run_dir), "--records", "2")
    assert (code, found["equal"], found["differences"]) == (0, True, [])
    assert (found["start"], found["records"], found["checkpoints"]) == (2, [3, 4], [4])
    assert stamps(trained.run_dir) == before


def test_few_samples_are_learnt_by_heart(trained: SimpleNamespace, capsys: Any) -> None:
    """Another run, by its name too; nothing is held out."""
    settings = {
        "llm": ("optim.lr=0.02", "run.steps=80"),
        "vlm": ("optim.lr=0.02", "optim.muon_lr=0.02", "run.steps=80"),
        "vla": ("optim.lr=0.01", "run.steps=50"),
    }[trained.task]
    few = ("data.overfit=2", "data.global_batch=4", "run.log_every=10", "run.save_every=100", *settings)
    with pytest.warns(UserWarning, match="no held-out loss: data.overfit"):
        outcome = trained.module.run(trained.store, trained.root / "few", *few)
    losses = [record["loss"] for record in read_metrics(outcome.run_dir)]
    assert losses[-1] < 0.05 * losses[0], losses
    assert outcome.held_out_loss is None


# --- of language models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("words")
    store = llm_runs.make_store(root / "store")
    llm_runs.run(store, root / "run", *SHORT)
    return SimpleNamespace(store=store, run_dir=root / "run", root=root)


def tampered(words: SimpleNamespace, folder: Path, name: str, by: float) -> Path:
    """A copy of the run whose third record has another number."""
    shutil.copytree(words.run_dir, folder)
    records = read_metrics(folder)
    records[2][name] += by
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_the_step_the_field_and_how_much_are_named(
    words: SimpleNamespace, tmp_path: Path, capsys: Any, name: str
) -> None:
    folder = tampered(words, tmp_path / "run", name, 1e-9)
    code, found = verified(capsys, str(folder))
    [difference] = found["differences"]
    assert code == 3 and (difference["step"], difference["field"]) == (3, name)
    assert difference["difference"] == pytest.approx(1e-9, rel=1e-3)
    assert run_command(foundry_train.group, "foundry-train", ["verify", str(folder)]) == 3
    assert name in capsys.readouterr().out


def test_other_threads_are_named_where_it_differs(
    words: SimpleNamespace, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the user says how many, so it is not that of the checkpoint
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        _, found = verified(capsys, str(words.run_dir))
    finally:
        torch.set_num_threads(before)
    assert found["environment"] == [f"threads: {before} there and {before + 1} here"]


def test_data_that_moved_or_is_gone(words: SimpleNamespace, tmp_path: Path, capsys: Any) -> None:
    """A newer version of the name is not what the run learnt; a store that is gone is told by its name."""
    elsewhere = tmp_path / "store"
    shutil.copytree(words.store.url, elsewhere)
    write_tokens(Store(elsewhere), "tales", [llm_runs.tales()[:40]], block_tokens=1000)  # without a shard
    assert resolve_llm(llm_runs.tiny(Store(elsewhere), "unused")).mixture.components[0].num_samples != (
        resolve_llm(llm_runs.tiny(words.store, "unused")).mixture.components[0].num_samples
    )
    assert verified(capsys, str(words.run_dir), "--store", str(elsewhere))[0] == 0
    code, said = verified(capsys, str(words.run_dir), "--store", str(tmp_path / "gone"))
    assert code == 1 and f"{words.run_dir} cannot be recomputed: " in said


def test_what_cannot_be_compared_is_refused(words: SimpleNamespace, capsys: Any) -> None:
    code, said = verified(capsys, str(words.run_dir), "--checkpoint", "3")
    assert code == 2 and "--checkpoint: one of 2, 4" in said
    code, said = verified(capsys, str(words.run_dir), "--checkpoint", "4")
    assert code == 1 and "no record follows" in said


def test_a_run_of_few_samples_has_a_name_of_its_own(words: SimpleNamespace) -> None:
    task, few = (
        resolve_llm(llm_runs.tiny(words.store, "unused", "run.dir=null", *more))
        for more in ((), ("data.overfit=8",))
    )
    assert few.run_dir.name.startswith("llm_tiny-overfit8-") and few.identity != task.identity
