"""Worlds in a process of their own: the contract, and children that die, babble or do not answer."""

from __future__ import annotations

import pickle
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.child import serving
from robot_foundry.evaluation.worlds.child.world import ChildWorlds
from robot_foundry.runtime.errors import FoundryError

PROGRAM = """
import os, sys, time
import numpy as np

class Line:
    def describe(self, task, variant):
        if task != "go":
            raise ValueError(f"no task {task!r}")
        return {"embodiment": "dot", "state": ["right.ee_position"], "action": ["right.ee_position"],
                "cameras": ["primary"], "control_hz": 10, "max_steps": 9,
                "random": {"low": [0, 0, 0], "high": [1, 1, 1]}}
    def build(self, task, variant, cameras, size):
        self.cameras, self.size = cameras, size
        print("printing does no harm")
        return self
    def reset(self, seed):
        self.place = np.random.default_rng(seed).uniform(0, 1, 3)
        return "go right", "right"
    def observe(self):
        image = np.full((self.size, self.size, 3), int(self.place[0] * 255), np.uint8)
        return {role: image for role in self.cameras}, self.place
    def aim(self, targets):
        self.targets = list(targets)
    def step(self):
        self.place = self.targets.pop(0)
        if self.place[1] > 5:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if self.place[1] < -5:
            time.sleep(60)
        return "success" if self.place[0] > 0.9 else "running"
    def picture(self, size):
        return None
    def close(self):
        pass
"""


def line(folder: Path, limit_s: float = 30.0) -> ChildWorlds:
    (folder / "line.py").write_text(PROGRAM)
    return ChildWorlds("line", sys.executable, f"{folder / 'line.py'}:Line", limit_s)


def test_a_world_in_another_process_is_a_world(tmp_path: Path) -> None:
    worlds = pickle.loads(pickle.dumps(line(tmp_path)))
    with closing(open_world(worlds, "go", "sim", cameras=("primary",), size=16)) as world:
        assert world.reset(5).instruction == "go right"
        seen = world.observe()
        np.testing.assert_array_equal(seen.state_D, np.random.default_rng(5).uniform(0, 1, 3))
        assert seen.images["primary"].shape == (16, 16, 3)
        world.aim(np.array([[0.1, 0, 0], [0.95, 0, 0]]))
        assert [world.step(), world.step()] == [Outcome.RUNNING, Outcome.SUCCESS]
        assert world.picture(8) is None


def test_rollouts_run_in_it(tmp_path: Path) -> None:
    spec = RolloutSpec(ActorSpec(None), "go", episodes=2, max_steps=3, world=line(tmp_path))
    assert len(rollout(spec, quiet=True).episodes) == 2


def test_errors_are_sentences_and_a_dead_child_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="'line' failed at 'describe': ValueError: no task 'gone'"):
        line(tmp_path).describe("gone", "sim")
    with closing(line(tmp_path).build("go", "sim", (), 16)) as world:
        world.reset(0)
        world.aim(np.array([[0.0, 9.0, 0.0]]))
        with pytest.raises(FoundryError, match=r"(?s)'line' has ended; .*last words"):
            world.step()
        with pytest.raises(FoundryError, match="'line' has ended"):
            world.step()


def test_a_child_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    with closing(line(tmp_path, limit_s=3.0).build("go", "sim", (), 16)) as world:
        world.reset(0)
        world.aim(np.array([[0.0, -9.0, 0.0]]))
        with pytest.raises(FoundryError, match="did not answer within 3 s"):
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
        ("import struct, sys; sys.stdout.buffer.write(struct.pack('>4sII', b'RFW1', 2**31, 0))", "too large"),
    ],
)
def test_what_is_no_such_child_is_refused(tmp_path: Path, code: str, said: str) -> None:
    interpreter = tmp_path / "python"
    (tmp_path / "code.py").write_text(code)
    interpreter.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'code.py'}\n")
    interpreter.chmod(0o755)
    with pytest.raises(FoundryError, match=said):
        ChildWorlds("line", str(interpreter), "x.py:X").describe("go", "sim")
    with pytest.raises(FoundryError, match="cannot be started"):
        ChildWorlds("line", str(tmp_path / "none"), "x.py:X").describe("go", "sim")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('return "go right", "right"', 'return ("go",)', "'reset', not an instruction and its subject"),
        ('return "go right", "right"', "return 1, 2", "'reset', not an instruction and its subject"),
        ('return "success" if self.place[0] > 0.9 else "running"', 'return "won"', "'won' to 'step'"),
        ('return "success" if self.place[0] > 0.9 else "running"', "return [1]", "to 'step', not running"),
    ],
)
def test_answers_that_mean_nothing_are_told(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    worlds = line(tmp_path)
    assert right in PROGRAM
    (tmp_path / "line.py").write_text(PROGRAM.replace(right, wrong))
    with closing(open_world(worlds, "go", "sim")) as world, pytest.raises(FoundryError, match=said):
        world.reset(0)
        world.aim(np.zeros((1, 3)))
        world.step()


def test_a_world_that_was_closed_says_so(tmp_path: Path) -> None:
    world = open_world(line(tmp_path), "go", "sim")
    world.reset(0)
    world.close()
    world.close()
    with pytest.raises(FoundryError, match="the world 'line' is closed"):
        world.observe()


def test_frames_come_back_and_torn_ones_are_refused() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 3), np.uint8)}
    frame = serving.encode({"x": 1}, arrays)
    for cut, whole in ((frame, True), (b"XXXX" + frame[4:], False)):
        rest = memoryview(cut)

        def read(count: int) -> bytes:
            nonlocal rest
            part, rest = bytes(rest[:count]), rest[count:]
            return part

        if not whole:
            with pytest.raises(serving.WireError):
                serving.decode(read)
            continue
        message, back = serving.decode(read)
        assert message == {"x": 1}
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
