"""Worlds in a process of their own: the contract, and children that die, babble or do not answer."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing import line_program

from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.child import serving
from robot_foundry.evaluation.worlds.child.world import ChildWorlds
from robot_foundry.runtime.errors import FoundryError, UsageError

PROGRAM = Path(line_program.__file__)
# A process with a world open. The world's own holds a pipe, which tells when it ends.
OPENS = """
import sys
from robot_foundry.evaluation.worlds.child.world import ChildWorlds
world = ChildWorlds("line", sys.argv[1], f"{sys.argv[2]}:Line").build("go", "sim", (), 16)
world.reset(0)
print("open", flush=True)
sys.stdin.read()
"""


def line() -> ChildWorlds:
    return ChildWorlds("line", sys.executable, f"{PROGRAM}:Line")


def interpreter_of(code: str, folder: Path) -> str:
    """What runs this code, whatever it is told to run."""
    (folder / "code.py").write_text(code)
    interpreter = folder / "python"
    interpreter.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{folder / 'code.py'}'\n")
    interpreter.chmod(0o755)
    return str(interpreter)


def test_a_world_in_another_process_is_a_world() -> None:
    worlds = pickle.loads(pickle.dumps(line()))
    with closing(open_world(worlds, "go", "sim", cameras=("primary",), size=16)) as world:
        assert world.reset(5).instruction == "go right"
        seen = world.observe()
        np.testing.assert_array_equal(seen.state_D, np.random.default_rng(5).uniform(0, 0.5, 3))
        assert seen.images["primary"].shape == (16, 16, 3)
        world.aim(np.array([[2.0, 0, 0]] * 9))
        rewards, outcome = [world.reward], Outcome.RUNNING
        while outcome is Outcome.RUNNING:
            outcome = world.step()
            rewards.append(world.reward)
        assert outcome is Outcome.SUCCESS and rewards[0] == 0.0 and rewards[-1] > 0.9
        assert world.picture(8) is None


def test_a_killed_process_takes_its_worlds_along(tmp_path: Path) -> None:
    held, interpreter = tmp_path / "held", tmp_path / "python"
    os.mkfifo(held)
    # The world's process, and nobody else, holds the pipe open as long as it lives.
    interpreter.write_text(f"#!/bin/sh\nexec 7>'{held}'\nexec '{sys.executable}' \"$@\"\n")
    interpreter.chmod(0o755)
    ended = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-c", OPENS, str(interpreter), str(PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as opener:
        assert opener.stdout is not None and opener.stdout.readline() == b"open\n"
        opener.kill()
    os.set_blocking(ended, True)
    assert os.read(ended, 1) == b""  # comes back when the world's process is gone
    os.close(ended)


def test_errors_are_sentences_and_a_dead_child_is_told_with_its_last_words() -> None:
    with pytest.raises(UsageError, match="there is no 'gone', did you mean 'go'") as caught:
        line().describe("gone", "sim")
    assert caught.value.hint == "there is go"
    with closing(line().build("go", "sim", (), 16)) as world:
        world.reset(0)
        world.aim(np.array([[0.0, 9.0, 0.0]]))
        with pytest.raises(FoundryError, match="'line' failed at 'reset': ValueError: "):
            world.reset(-1)
        with pytest.raises(FoundryError, match=r"(?s)'line' has ended; .*last words"):
            world.step()
        with pytest.raises(FoundryError, match="'line' has ended"):
            world.step()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('hello there, this is no frame')", "does not keep the protocol"),
        ("import sys; sys.exit('no such package')", "has ended; .*no such package"),
        (
            "import json, struct, sys; h = json.dumps({'message': {'version': 7}, 'arrays': []}).encode()\n"
            "sys.stdout.buffer.write(struct.pack('>4sII', b'RFW1', len(h), 0) + h)",
            "speaks version 7 of the protocol, not 1",
        ),
        ("import os, sys; os.close(1); sys.stdin.read()", "has ended"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9 .Killed."),
        ("import struct, sys; sys.stdout.buffer.write(struct.pack('>4sII', b'RFW1', 2**31, 0))", "too large"),
    ],
)
def test_what_is_no_such_child_is_refused(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(FoundryError, match=said):
        ChildWorlds("line", interpreter_of(code, tmp_path), "x.py:X").describe("go", "sim")
    with pytest.raises(FoundryError, match="cannot be started"):
        ChildWorlds("line", str(tmp_path / "none"), "x.py:X").describe("go", "sim")


def test_a_child_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    silent = interpreter_of("import sys; sys.stdin.read()", tmp_path)
    with pytest.raises(FoundryError, match=r"did not answer within 0.1 s and was ended"):
        ChildWorlds("line", silent, "x.py:X", limit_s=0.1).describe("go", "sim")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('return "go right", "right"', 'return ("go",)', "'reset', not an instruction, its subject"),
        ('return "go right", "right"', "return 1, 2", "'reset', not an instruction, its subject"),
        ('return "success" if self.place[0] > 0.9 else "running"', 'return "won"', "'won', .* to 'step'"),
        ('return "success" if self.place[0] > 0.9 else "running"', "return [1]", "to 'step', not running"),
        ("np.float32(self.place[0])", '"much"', "failed at 'step': ValueError: could not convert"),
        (
            "for role in self.cameras}, self.place",
            "for role in self.cameras}, [1, 2, 3]",
            "'state' is int64,",
        ),
        ('"control_hz": 10', '"control_hz": 10**400', "does not describe itself: OverflowError"),
        ('"cameras": ["primary"]', '"cameras": "primary"', "itself: TypeError.\"'primary' is no list"),
        ('{"low": [0, 0, 0], "high"', '{"low": [[0], 0, 0], "high"', "does not describe itself: TypeError"),
    ],
)
def test_answers_that_mean_nothing_are_told(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    program = PROGRAM.read_text(encoding="utf-8")
    assert right in program
    (tmp_path / "line.py").write_text(program.replace(right, wrong))
    worlds = ChildWorlds("line", sys.executable, f"{tmp_path / 'line.py'}:Line")
    with pytest.raises(FoundryError, match=said), closing(open_world(worlds, "go", "sim")) as world:
        world.reset(0)
        world.observe()
        world.aim(np.zeros((1, 3)))
        world.step()


def test_a_world_that_was_closed_says_so() -> None:
    world = open_world(line(), "go", "sim")
    world.reset(0)
    world.close()
    world.close()
    with pytest.raises(FoundryError, match="the world 'line' is closed"):
        world.observe()


def frame(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return serving.PREFIX.pack(serving.MAGIC, len(text), len(body)) + text + body


def decoded(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return serving.decode(io.BytesIO(data).read)


def test_frames_come_back() -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.zeros((0, 3), np.uint8),
        "c": np.arange(3, dtype=">f4"),
    }
    message, back = decoded(serving.encode({"x": 1}, arrays))
    assert message == {"x": 1}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
    "data",
    [
        b"XXXX" + frame({"message": {}, "arrays": []})[4:],
        frame(b"[" * 10**6),
        frame({"message": 1, "arrays": []}),
        frame({"message": {}, "arrays": []}, b"more"),
        frame({"message": {}, "arrays": [["a", "object", [1]]]}, bytes(8)),
        *(
            frame({"message": {}, "arrays": [["a", "uint8", shape]]}, b"abc")
            for shape in (
                [2**70],
                [2**32, 2**32],
                [2**32, 2**32 - 1, 3],
                [0, 2**70],
                [1] * 100,
                [-1],
                [4],
                "3",
                3,
            )
        ),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(serving.WireError):
        decoded(data)
