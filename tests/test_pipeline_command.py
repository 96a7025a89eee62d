"""`foundry-train pipeline`: what is done is skipped, what was killed goes on in the same weights."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_program
from robot_foundry.cli.pipeline.done_by_dvc import DvcLock
from robot_foundry.cli.pipeline.pipeline_file import read_pipeline
from robot_foundry.cli.pipeline.running import Work
from robot_foundry.cli.pipeline.stage_records import Records, records_folder

Told = pytest.CaptureFixture[str]
MAIN = "from robot_foundry.cli.foundry_train import main; main()"
# A corpus, its tokens, and three steps of a language model on them.
TRAINED = """
values: {steps: 3}
stages:
  corpus: {run: "python write.py {out}", out: raw/corpus.jsonl}
  words: {run: "foundry-data ingest text {corpus} --as words --pointer {out}", out: versions/words.json}
  tokens:
    run: foundry-data tokenize words --tokenizer byte --as tokens --pointer {out}
    out: versions/tokens.json
    needs: [words]
  llm:
    run: >-
      foundry-train llm data.mix=tokens data.rows.length=32 data.global_batch=2 run.steps=${steps}
      run.save_every=1 run.eval_samples=2 --pointer {out}
    out: versions/llm.json
    needs: [tokens]
"""
WRITE = """
import json, pathlib, sys
texts = (f"The document {i} of the corpus tells that {i} and {i} are {2 * i}." for i in range(60))
pathlib.Path(sys.argv[1]).write_text("".join(json.dumps({"text": text}) + "\\n" for text in texts))
"""
# Says that it is at work, then waits to be told to stop, or for a file.
SLOW = """
import pathlib, signal, sys, time
def stop(number, frame):
    with open("stopped", "a") as file:
        file.write(signal.Signals(number).name)
    sys.exit(75 if number == signal.SIGTERM else 130)
signal.signal(signal.SIGINT, stop), signal.signal(signal.SIGTERM, stop)
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.01)
pathlib.Path(sys.argv[1]).write_text("made")
"""
PARTS = """
import os, sys
os.mkdir(sys.argv[1])
open(f"{sys.argv[1]}/a.txt", "w").write("x" * int(sys.argv[2]))
"""
TOTAL = """
import os, sys
open(sys.argv[2], "w").write(str(os.path.getsize(sys.argv[1])))
"""
WAITING = """
stages:
  slow: {run: "python slow.py {out}", out: made/slow.txt}
"""


def project(folder: Path, pipeline: str, **scripts: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(pipeline, encoding="utf-8")
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", MAIN, "pipeline", "pipeline.yaml", *arguments]


def started(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if name != "FOUNDRY_STORE"}
    return subprocess.Popen(
        command(*arguments), cwd=folder, env=clean | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(folder: Path, told: Told, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; in this process, which has imported what it needs. Stages have others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("FOUNDRY_STORE", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        code = run_program(group, "foundry-train", ["pipeline", "pipeline.yaml", *arguments])
    return (code, *told.readouterr())


def states(folder: Path, told: Told, *arguments: str) -> dict[str, Any]:
    """The stages that ran, or would, and why."""
    code, out, err = run(folder, told, *arguments, "--json")
    assert code == 0, err
    return {stage["name"]: stage["why"] for stage in json.loads(out)["stages"] if stage["why"] is not None}


def planned(folder: Path, patch: pytest.MonkeyPatch, *values: str) -> dict[str, str]:
    """The stages that would run, and why; in this process, which is quicker."""
    patch.chdir(folder)
    pipeline = read_pipeline(Path("pipeline.yaml"), values)
    work = Work(pipeline, "./store", Records(records_folder(pipeline.path)), "", DvcLock.read())
    return {told.stage.name: told.why for told in work.plan() if told.why is not None}


def wait_for(path: Path) -> None:
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_a_killed_stage_goes_on_in_the_same_weights_and_only_what_changed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Told
) -> None:
    whole, killed = (project(tmp_path / name, TRAINED, write=WRITE) for name in ("whole", "killed"))
    assert list(states(whole, capfd)) == ["corpus", "words", "tokens", "llm"]

    code, _, err = run(killed, capfd, FOUNDRY_KILL_AT="checkpoint-copied:2")
    assert code == 1 and "the stage 'llm' was killed by SIGKILL: foundry-train llm data.mix=tokens" in err
    assert "to go on from there: foundry-train pipeline pipeline.yaml" in err
    assert not (killed / "versions" / "llm.json").exists()
    assert planned(killed, monkeypatch) == {"llm": "not done yet"}
    code, out, err = run(killed, capfd)
    assert code == 0 and "resumed from    step 1" in err and "[4/4] llm" in err
    assert "1 of 4 stages run" in out
    for pointer in ("words.json", "tokens.json", "llm.json"):
        assert (killed / "versions" / pointer).read_bytes() == (whole / "versions" / pointer).read_bytes()

    assert planned(whole, monkeypatch, "steps=4") == {"llm": "its command has changed"}
    (whole / "write.py").write_text(WRITE.replace("range(60)", "range(61)"), encoding="utf-8")
    assert planned(whole, monkeypatch)["corpus"] == "write.py has changed"
    assert planned(whole, monkeypatch)["llm"] == "tokens will be made anew"
    (whole / "write.py").write_text(WRITE, encoding="utf-8")
    for checkpoint in whole.glob("runs/llm_tiny-*/checkpoints/*3"):
        checkpoint.rename(checkpoint.with_name("lost"))
    assert planned(whole, monkeypatch) == {"llm": "what it made is gone"}


def test_equal_products_spare_what_reads_them_and_old_ones_make_room(tmp_path: Path, capfd: Told) -> None:
    """A folder that must not be there is one that the stage made before with other options."""
    folder = project(
        tmp_path,
        """
values: {size: 1, note: one}
stages:
  parts: {run: "python parts.py {out} ${size} ${note}", out: made/parts}
  sum: {run: "python total.py {parts}/a.txt {out}", out: made/total.txt}
""",
        parts=PARTS,
        total=TOTAL,
    )
    assert list(states(folder, capfd)) == ["parts", "sum"]
    assert states(folder, capfd) == {}
    assert states(folder, capfd, "note=other") == {"parts": "its command has changed"}
    assert states(folder, capfd, "size=3") == {
        "parts": "its command has changed",
        "sum": "parts was made anew",
    }
    assert (folder / "made" / "total.txt").read_text() == "3"
    (folder / "made" / "total.txt").write_text("4")
    assert states(folder, capfd, "size=3") == {"sum": "what it made has changed"}


def test_a_folder_that_no_stage_made_is_left_alone(tmp_path: Path, capfd: Told) -> None:
    folder = project(
        tmp_path,
        'stages: {scenes: {run: "foundry-eval collect scenes --pictures 1 --out {out}", out: made}}',
    )
    (folder / "made").mkdir()
    (folder / "made" / "mine.txt").write_text("kept")
    code, _, err = run(folder, capfd)
    assert (
        code == 1 and "the stage 'scenes' failed with exit code 2" in err and "made is there already" in err
    )
    assert "if made, which nothing says that it made, is in its way, move that; what is done stays" in err
    assert (folder / "made" / "mine.txt").read_text() == "kept"


PARTS_AND_SUM = """
stages:
  parts: {run: "python parts.py {out} 3", out: made/parts}
  sum: {run: "python total.py {parts}/a.txt {out}", out: made/total.txt}
"""


def test_what_dvc_did_counts_while_all_of_it_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path, PARTS_AND_SUM, parts=PARTS, total=TOTAL)
    (folder / "made" / "parts").mkdir(parents=True)
    for name, text in (("parts/a.txt", "xxx"), ("total.txt", "3")):
        (folder / "made" / name).write_text(text)
    unknown = "nothing says that what is there is what it makes"
    assert planned(folder, monkeypatch) == dict.fromkeys(("parts", "sum"), unknown)

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    made = {"path": "made/parts", "md5": md5(f'[{{"md5": "{md5("xxx")}", "relpath": "a.txt"}}]') + ".dir"}
    scripts = [
        {"path": f"{name}.py", "md5": md5(text)} for name, text in (("parts", PARTS), ("total", TOTAL))
    ]
    stages: dict[str, Any] = {
        "parts": {"cmd": "python parts.py made/parts 3", "deps": scripts[:1], "outs": [made]},
        "sum": {
            "cmd": "python total.py made/parts/a.txt made/total.txt",
            "deps": [made, scripts[1]],
            "outs": [{"path": "made/total.txt", "md5": md5("3")}],
        },
    }

    def lock(**changed: Any) -> None:
        (folder / "dvc.lock").write_text(json.dumps({"stages": {**stages, **changed}}), encoding="utf-8")

    lock()
    assert planned(folder, monkeypatch) == {}
    lock(parts={**stages["parts"], "cmd": "python parts.py made/parts 4"})
    assert planned(folder, monkeypatch) == dict.fromkeys(("parts", "sum"), unknown)
    lock(sum={**stages["sum"], "deps": [scripts[1]]})  # it does not say of what parts the sum is
    assert planned(folder, monkeypatch) == {"sum": unknown}
    lock()
    (folder / "made" / "total.txt").write_text("4")
    assert planned(folder, monkeypatch) == {"sum": unknown}
    (folder / "dvc.lock").write_text("stages: [")
    assert planned(folder, monkeypatch) == dict.fromkeys(("parts", "sum"), unknown)


def test_each_file_has_records_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "pipeline.yaml",
        "a/pipeline.yaml",
        "b/pipeline.yaml",
        "../pipeline.yaml",
        "pipeline.yml",
        "pipeline",
    ]
    folders = {records_folder(Path(name)) for name in names}
    assert len(folders) == len(names) and {folder.parent.as_posix() for folder in folders} == {
        "runs/pipelines"
    }
    for same in ("./a/pipeline.yaml", "b/../a/pipeline.yaml", tmp_path / "a" / "pipeline.yaml"):
        assert records_folder(Path(same)) == records_folder(Path("a/pipeline.yaml"))


def test_a_stage_that_makes_nothing_is_not_done(tmp_path: Path, capfd: Told) -> None:
    folder = project(tmp_path, 'stages: {none: {run: "true {out}", out: made}}')
    code, _, err = run(folder, capfd)
    assert code == 1 and "the stage 'none' ended well and did not write made" in err
    assert states(folder, capfd, "--dry-run") == {"none": "not done yet"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_what_stops_the_pipeline_stops_its_stage_in_order(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = project(tmp_path, WAITING, slow=SLOW)
    with started(folder) as process:
        wait_for(folder / "started")
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == code
    assert (folder / "stopped").read_text() == number.name
    assert "to go on, run:\n  foundry-train pipeline pipeline.yaml" in err


def test_the_stage_of_a_killed_pipeline_is_waited_for(tmp_path: Path) -> None:
    folder = project(tmp_path, WAITING, slow=SLOW)
    with started(folder) as first:
        wait_for(folder / "started")
        first.kill()
        with started(folder) as second:
            assert second.stderr is not None
            assert "still at work; waiting for it" in second.stderr.readline()
            assert second.poll() is None
            (folder / "go").touch()
            out, _ = second.communicate()
    assert second.returncode == 0 and "1 of 1 stage run" in out
    assert (folder / "made" / "slow.txt").read_text() == "made"
