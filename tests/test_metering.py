"""What records say, where they go, and what is said of a run that stands still."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing import llm_runs
from foundry_testing.holding_proxy import holding
from foundry_testing.s3_bucket import s3_bucket
from foundry_testing.trainer_runs import differing, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.runtime.progress import Progress
from robot_foundry.trainer.metering import phases as names
from robot_foundry.trainer.metering.console import Console
from robot_foundry.trainer.metering.peaks import peak_flops
from robot_foundry.trainer.metering.phases import PHASES, Phases
from robot_foundry.trainer.metering.sinks import JsonLines, Sinks
from robot_foundry.trainer.metering.stall import sentence
from robot_foundry.trainer.metering.watch import HEARTBEAT, StallSettings, Watch
from robot_foundry.trainer.meters import Meters, read_metrics
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm.inputs import text_inputs
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm

ALONE = Ranks(0, 1, torch.device("cpu"))
MIX = ("data.mix=tales=3,notes=1", "run.steps=2", "run.log_every=2", "run.save_every=2", "run.eval_samples=1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return llm_runs.make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def mixed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of two datasets alone, one of it profiled, and one of two ranks in two microbatches each."""
    root = tmp_path_factory.mktemp("runs")
    run_task(resolve_llm(llm_runs.tiny(store, root / "one", *MIX)), quiet=True)
    longer = ("run.steps=6", "run.log_every=1")
    alone = run_task(resolve_llm(llm_runs.tiny(store, root / "alone", *MIX, *longer)), quiet=True)
    task = resolve_llm(llm_runs.tiny(store, root / "profiled", *MIX, *longer))
    profiled = run_task(task, quiet=True, profile=2)
    short = ("run.steps=5", "run.log_every=1")
    run_task(resolve_llm(llm_runs.tiny(store, root / "short", *MIX, *short)), quiet=True, profile=9)
    arguments = ["llm", *llm_runs.TINY, *MIX, f"data.store={store.url}", f"run.dir={root / 'two'}"]
    verify = ["verify", str(root / "two"), "--work", str(root / "work"), "--json"]
    phases = [
        {"size": 2, "arguments": [*arguments, "run.accumulate=2", "run.log_every=1", "run.save_every=1"]},
        {"size": 2, "arguments": verify},
    ]
    done = run_phases(phases, timeout=None)
    codes = json.loads(done.stdout.splitlines()[-1])
    return SimpleNamespace(root=root, alone=alone, profiled=profiled, codes=codes, done=done)


def test_losses_by_dataset_are_means_over_their_targets(store: Store, mixed: SimpleNamespace) -> None:
    """By hand: those of the first step's rows, with the first weights, apart by dataset."""
    [record] = [r for r in read_metrics(mixed.root / "two")[:1]]
    config = resolve_llm(llm_runs.tiny(store, "unused", *MIX)).config
    model = initialise(allocated(lambda: LLM(config.model), "cpu"), config.seed)
    with load("tales=3,notes=1", RowSpec(32), seed=0, global_batch=8, store=store, threads=0) as loader:
        batch = loader.batch(0)
    assert sorted(set(batch.dataset_B.tolist())) == [0, 1]
    for number, name in enumerate(("notes", "tales")):
        rows = [batch.rows(slice(b, b + 1)) for b in np.flatnonzero(batch.dataset_B == number)]
        with torch.no_grad():
            losses = [model(text_inputs(row))["text"] for row in rows]
        mean = sum(float(total) for total, _ in losses) / sum(int(count) for _, count in losses)
        assert record[f"loss/text/{name}"] == pytest.approx(mean, rel=1e-6)


def test_ranks_and_microbatches_change_no_loss_by_dataset(mixed: SimpleNamespace) -> None:
    assert mixed.codes[0] == [0, 0], mixed.done.stderr
    one = [r for r in records(mixed.root / "alone") if r["step"] <= 2]
    two = [r for r in records(mixed.root / "two") if "loss" in r]
    for here, there in zip(one, two, strict=True):
        for name in ("loss", "loss/text/tales", "loss/text/notes", "grad_norm"):
            assert here[name] == pytest.approx(there[name], rel=1e-5)


def test_two_ranks_log_what_two_ranks_recompute(mixed: SimpleNamespace) -> None:
    assert mixed.codes[1] == [0, 0], mixed.done.stderr
    found = json.loads(mixed.done.stdout[mixed.done.stdout.index('{\n  "run"') :].rpartition("}")[0] + "}")
    assert (found["equal"], found["ranks"], found["records"], found["checkpoints"]) == (True, 2, [2], [2])
    assert found["differences"] == [] and found["environment"] == []


def test_a_profile_changes_no_bit_and_names_what_steps_do(mixed: SimpleNamespace) -> None:
    assert mixed.profiled.weights == mixed.alone.weights
    assert differing(mixed.profiled.checkpoint, mixed.alone.checkpoint) == []
    folder = mixed.root / "profiled" / "profile"
    events = json.loads((folder / "rank-0.trace.json").read_text())["traceEvents"]
    spans = [event["name"] for event in events if event.get("name", "").startswith("phase: ")]
    for phase in (names.DATA, names.FORWARD, names.BACKWARD, names.OPTIMIZER):
        assert spans.count(f"phase: {phase}") == 2
    text = (folder / "rank-0.txt").read_text()
    assert "backward" in text and "aten::mm" in text and "of 2 steps" not in text


def test_a_run_that_ends_within_its_profile_says_so(mixed: SimpleNamespace) -> None:
    """The third step was the last before it. What a step takes is a mean over the two that there were."""
    folder = mixed.root / "short" / "profile"
    text = (folder / "rank-0.txt").read_text()
    assert "of 2 of 9 steps" in text
    calls = {
        line.split()[0]: int(line.split()[-1]) for line in text.splitlines() if line.startswith("aten::mm ")
    }
    assert calls["aten::mm"] >= 4  # of layers, in each step


def test_records_say_what_was_read_and_what_it_took(mixed: SimpleNamespace) -> None:
    record = read_metrics(mixed.root / "one")[0]
    assert record["tokens_per_s"] > record["samples_per_s"] > 0
    assert record["memory_bytes"] > 50e6 and "mfu" not in record  # a CPU has no peak here
    beat = json.loads((mixed.root / "one" / HEARTBEAT).read_text())
    assert (beat["step"], beat["phase"], beat["pid"]) == (2, names.ENDED, os.getpid())


def test_mfu_is_a_share_of_the_peak_of_all_ranks() -> None:
    times = iter([0.0, 2.0, 2.0])
    meters = Meters(ALONE, skipped=0, streak=0, max_streak=9, peak=1000.0, clock=lambda: next(times))
    step = {"counts": {}, "norm": torch.tensor(1.0), "taken": torch.tensor(True)}
    meters.step(samples=1, sizes={"flops": 300.0}, **step)
    meters.step(samples=1, sizes={"flops": 100.0}, **step)
    record = meters.record(2)
    assert record["flops_per_s"] == 200 and record["mfu"] == pytest.approx(0.2)


def test_peaks_are_of_whole_names_and_precisions() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
    for unknown in ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "cpu", ""):
        assert peak_flops(unknown, "bf16") is None
    assert peak_flops("NVIDIA B200", "fp32") is None


class FullDisk:
    """A sink whose disk is full."""

    def __init__(self) -> None:
        self._file = os.open("/dev/full", os.O_WRONLY)

    def write(self, record: Any) -> None:
        os.write(self._file, json.dumps(record).encode())

    def close(self) -> None:
        os.close(self._file)


def refused() -> None:
    raise OSError("no such project")


def test_a_sink_that_fails_is_told_once_and_the_others_go_on(tmp_path: Path) -> None:
    with pytest.warns(FoundryWarning) as told:
        sinks = Sinks({"a": refused, "b": FullDisk, "c": lambda: JsonLines(tmp_path, 0)})
        for step in (1, 2):
            sinks.write({"step": step, "loss": float("nan")})
        sinks.close()
    messages = [str(item.message) for item in told]
    assert messages[0] == "a takes no more records, the run goes on without: no such project"
    assert messages[1].startswith("b takes no more records, the run goes on without: [Errno 28]")
    assert len(messages) == 2
    assert read_metrics(tmp_path) == [{"step": 1, "loss": None}, {"step": 2, "loss": None}]


def test_records_are_lines_for_whoever_watches(capsys: Any) -> None:
    times = iter([0.0, 2.0, 2.0, 2.0, 2.0])
    progress = Progress(40, "steps", "train", clock=lambda: next(times, 2.0))
    with progress:
        progress.advance(10)
        record = {"loss": 2.345678, "lr": 3e-4, "grad_norm": None, "tokens_per_s": 12345.0}
        Console(progress).write({"step": 10, **record, "mfu": 0.412, "data_wait": 0.014, "skipped": 0})
    assert capsys.readouterr().err == (
        "train: 10/40 steps, loss 2.346, grad norm not finite, lr 0.0003, 1.23e+04 tokens/s, mfu 41%, "
        "data wait 1%, 5 steps/s, 6 s left\n"
    )


# --- runs that stand still ----------------------------------------------------------------------------------


def test_a_stall_is_told_now_and_then_and_ends_a_run_where_that_is_asked_for(tmp_path: Path) -> None:
    now, said, ended = [0.0], [], []
    phases = Phases(7, clock=lambda: now[0])
    settings = StallSettings(stall_after=10, stall_limit=50)
    watch = Watch(
        tmp_path, phases, ALONE, settings, lambda: ["a.tar"], say=said.append, end=ended.append
    )  # fmt: skip
    phases.enter(names.DATA)
    for now[0] in (5, 9.9):
        watch.look()
    assert said == []
    for now[0] in (10, 11, 19, 20, 39):
        watch.look()
    told = "s; the run waits for its batch of step 8, and a.tar is being read"
    assert said == [f"Warning: no step has ended for {seconds} {told}" for seconds in (10, 20)]
    phases.ended(8)
    for now[0] in (45, 50, 51):
        watch.look()
    assert len(said) == 3 and "for 11 s" in said[-1] and ended == []  # a second stall
    now[0] = 89
    watch.look()
    assert ended == [1] and "run.stall_limit" in said[-1]


def test_each_phase_says_what_it_waits_for() -> None:
    said = {phase: sentence(phase, 3, 60, 1, 4, lambda: ()) for phase in PHASES}
    assert "rank 1 waits for the other ranks" in said[names.RANKS] and "step 4" in said[names.RANKS]
    assert "4 ranks exchange gradients" in said[names.BACKWARD]
    assert "checkpoint of step 3" in said[names.CHECKPOINT]
    assert said[names.DATA].endswith("its batch of step 4, and no tar is being read")


def test_a_shard_that_does_not_come_is_named_and_the_run_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: SimpleNamespace
) -> None:
    """Its server takes the request and does not answer until the run has said what it waits for."""
    held = threading.Event()

    class Stderr:
        text = ""

        def write(self, text: str) -> int:
            self.text += text
            if ".tar is being read" in self.text:
                held.set()
            return len(text)

        def flush(self) -> None: ...

    with s3_bucket() as url, holding(os.environ["AWS_ENDPOINT_URL"], b".tar", held) as proxy:
        remote = Store(f"{url}/store")
        for path in store.storage.list():
            remote.storage.write(path, store.storage.local_path(path).read_bytes())
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        fsspec_cleared()
        monkeypatch.setattr("sys.stderr", stderr := Stderr())
        settings = ("run.stall_after=0.3", *MIX)
        outcome = run_task(resolve_llm(llm_runs.tiny(remote, tmp_path / "run", *settings)), quiet=True)
    assert f"the run waits for its batch of step 1, and {url}/store/shards/" in stderr.text
    assert differing(outcome.checkpoint, mixed.root / "one" / "checkpoints" / "step-00000002") == []


def fsspec_cleared() -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


# --- Weights & Biases ---------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield


def test_a_run_has_one_id_at_weights_and_biases(offline: None, store: Store, tmp_path: Path) -> None:
    settings = (*MIX, "run.wandb=lab/words")
    run_task(resolve_llm(llm_runs.tiny(store, tmp_path / "run", *settings)), quiet=True)
    first = json.loads((tmp_path / "run" / "wandb.json").read_text())["id"]
    longer = llm_runs.tiny(store, tmp_path / "run", *settings, "run.steps=4")
    assert run_task(resolve_llm(longer), quiet=True).resumed_from == 2
    assert json.loads((tmp_path / "run" / "wandb.json").read_text())["id"] == first
    written = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [path.name for path in written] == [f"run-{first}.wandb"] * 2
    data = b"".join(path.read_bytes() for path in written)
    assert b"loss/text/tales" in data and b"words" in data
    assert store.url.encode() not in data  # where data lie is not told
