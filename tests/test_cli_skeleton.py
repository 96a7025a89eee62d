import errno
import json
import os
import signal
import subprocess
import sys
import weakref

import click
import numpy as np
import pytest

from robot_foundry import __version__
from robot_foundry.cli import foundry_data, foundry_eval, foundry_train
from robot_foundry.cli.lazy import LazyCommand, LazyGroup
from robot_foundry.cli.options import dry_run_option, json_option, store_option
from robot_foundry.cli.output import emit, run, table
from robot_foundry.runtime.errors import FindingsError, FoundryError, Preempted

PROGRAMS = [foundry_data, foundry_train, foundry_eval]
HEAVY = ["numpy", "pyarrow", "torch", "ray", "duckdb", "h5py", "rich", "fsspec", "webdataset", "scipy"]


def test_every_command_can_be_loaded_and_has_help(capsys):
    for program in PROGRAMS:
        for name in program.COMMANDS:
            assert run(program.group, program.PROGRAM, [name, "--help"]) == 0
            assert f"Usage: {program.PROGRAM} {name}" in capsys.readouterr().out


def test_help_lists_every_command_and_imports_nothing_heavy():
    for program in PROGRAMS:
        code = (
            "import sys\n"
            f"from {program.__name__} import group, PROGRAM\n"
            "from robot_foundry.cli.output import run\n"
            "code = run(group, PROGRAM, ['--help'])\n"
            f"print([name for name in {HEAVY} if name in sys.modules], code)\n"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        listed = {line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")}
        assert set(program.COMMANDS) <= listed
        assert shown.stdout.splitlines()[-1] == "[] 0"


def test_version_is_the_package_version(capsys):
    assert run(foundry_data.group, "foundry-data", ["--version"]) == 0
    assert capsys.readouterr().out == f"foundry-data {__version__}\n"


def test_a_misspelt_command_names_the_nearest(capsys):
    assert run(foundry_data.group, "foundry-data", ["ingets"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "Error: foundry-data has no command 'ingets', did you mean 'ingest'?",
        "Hint: foundry-data --help lists them",
    ]


@click.command()
@click.argument("how")
@store_option
@json_option
@dry_run_option
def end(how, store, as_json, dry_run):
    """End in the way that is asked for."""
    errors = {
        "failed": FoundryError("a.h5 is truncated", hint="copy it again"),
        "findings": FindingsError("2 episodes are suspicious"),
        "preempted": Preempted("saved at step 12"),
        "bug": KeyError("x"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "locked": PermissionError(errno.EACCES, "Permission denied", "/data/a.h5"),
        "interrupt": KeyboardInterrupt(),
    }
    if how in errors:
        raise errors[how]
    result = {"store": store, "dry_run": dry_run, "share": np.float32(0.5), "worst": float("nan")}
    emit(result, as_json=as_json, text=lambda: f"store {store}")


@pytest.fixture
def group(monkeypatch):
    monkeypatch.delenv("FOUNDRY_STORE", raising=False)
    monkeypatch.setitem(sys.modules, "stand_in", type(sys)("stand_in"))
    sys.modules["stand_in"].end = end
    commands = {
        "end": LazyCommand("stand_in:end", "End somehow."),
        "gone": LazyCommand("robot_foundry.cli.nowhere:command", "Not there."),
    }
    return LazyGroup("tool", lazy=commands)


@pytest.mark.parametrize(
    ("arguments", "code", "stderr"),
    [
        (["end", "failed"], 1, "Error: a.h5 is truncated\nHint: copy it again\n"),
        (["end", "findings"], 3, "Error: 2 episodes are suspicious\n"),
        (["end", "preempted"], 75, "Error: saved at step 12\n"),
        (
            ["end", "bug"],
            1,
            "Error: unexpected KeyError: 'x'\nHint: run it again with --debug to see where\n",
        ),
        (
            ["end", "full"],
            1,
            "Error: No space left on device\n"
            "Hint: free some space, or use another disk; then run the same command again\n",
        ),
        (
            ["end", "locked"],
            1,
            "Error: Permission denied: /data/a.h5\n"
            "Hint: let this user read the source and write to the store, or use other places; "
            "then run the same command again\n",
        ),
        (["end"], 2, "Error: Missing argument 'HOW'.\nHint: tool end --help\n"),
        (
            ["gone"],
            1,
            "Error: the command 'gone' needs the module robot_foundry.cli.nowhere, which is not installed\n"
            "Hint: pip install --force-reinstall robot-foundry\n",
        ),
    ],
)
def test_every_failure_is_one_sentence_on_stderr_and_an_exit_code(group, capsys, arguments, code, stderr):
    assert run(group, "tool", arguments) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", stderr)


def test_a_misspelt_option_names_the_nearest(group, capsys):
    assert run(group, "tool", ["end", "well", "--dryrun"]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_debug_adds_the_traceback_wherever_it_stands(group, capsys):
    for arguments in (["--debug", "end", "bug"], ["end", "bug", "--debug"]):
        assert run(group, "tool", arguments) == 1
        shown = capsys.readouterr().err
        assert "Traceback" in shown and "raise errors[how]" in shown
    assert run(group, "tool", ["end", "--", "--debug"]) == 0


def test_an_interrupt_prints_the_command_that_goes_on(group, capsys):
    assert run(group, "tool", ["end", "interrupt", "--store", "my store"]) == 130
    assert "tool end interrupt --store 'my store'" in capsys.readouterr().err


def test_results_go_to_stdout_as_text_or_as_one_json_object(group, capsys, monkeypatch):
    assert run(group, "tool", ["end", "well", "--json", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out) == {"store": "./store", "dry_run": True, "share": 0.5, "worst": None}

    monkeypatch.setenv("FOUNDRY_STORE", "s3://lab/store")
    assert run(group, "tool", ["end", "well"]) == 0
    assert capsys.readouterr().out == "store s3://lab/store\n"


def test_a_reader_that_stops_early_sees_no_traceback():
    code = (
        "from robot_foundry.cli.foundry_data import group\n"
        "from robot_foundry.cli.output import run\n"
        "import sys\n"
        "sys.exit(run(group, 'foundry-data', ['--help']))\n"
    )
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)

    assert ended.stderr == ""


def test_a_table_is_aligned_by_kind():
    shown = table(["name", "episodes", "rate"], [["lift", 12345, 0.5], ["a", 7, 1 / 3]])

    assert shown.splitlines() == [
        "name  episodes      rate",
        "lift    12,345       0.5",
        "a            7  0.333333",
    ]


class Referent:
    """Something that a weak reference may point at."""


def in_a_callback(number):
    referent = Referent()
    kept = weakref.ref(referent, lambda _: signal.raise_signal(number))
    del referent
    return kept


def where_all_is_caught(number):
    try:
        signal.raise_signal(number)
    except BaseException:
        return


@pytest.mark.parametrize("swallowing", [in_a_callback, where_all_is_caught])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_not_lost_where_python_swallows_it(number, code, swallowing, capsys):
    went_on = []

    @click.command()
    def work():
        try:
            swallowing(number)
            went_on.append(len("what comes next"))
        finally:
            print("cleaned up")

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)], sys.unraisablehook
    assert run(click.Group("tool", {"work": work}), "tool", ["work"]) == code
    shown = capsys.readouterr()
    assert shown.out == "cleaned up\n" and shown.err.splitlines()[-1] == "  tool work"
    assert went_on == ([] if swallowing is in_a_callback else [15])
    after = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)], sys.unraisablehook
    assert after == before and sys.getprofile() is None
