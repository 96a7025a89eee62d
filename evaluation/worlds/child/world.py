"""Worlds whose simulator needs an interpreter of its own, behind the contract of `evaluation.world`.

    ChildWorlds("kitchen", python="/envs/kitchen/bin/python", program="/lab/kitchen.py:Kitchen")

`serving` says what the program offers. Its description is a dict: embodiment, state, action (names of dims),
cameras, control_hz, max_steps, random (low, high, speed).
Shape suffixes: T periods, A dims of the action space.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, WorldInfo
from robot_foundry.evaluation.worlds.child import serving
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

TAIL = 2000
PATIENCE = 5.0


@dataclass(frozen=True)
class ChildWorlds:
    """Worlds of `program` (file.py:ATTRIBUTE), run by `python`. An answer takes at most `limit_s` seconds."""

    name: str
    python: str
    program: str
    limit_s: float = 300.0

    def describe(self, task: str, variant: str) -> WorldInfo:
        with closing(Child(self)) as child:
            return _info(self.name, child.ask("describe", task=task, variant=variant)[0])

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> ChildWorld:
        child = Child(self)
        try:
            info = _info(self.name, child.ask("describe", task=task, variant=variant)[0])
            _check_cameras(info, cameras)
            child.ask("build", task=task, variant=variant, cameras=list(cameras), size=size)
        except FoundryError:
            child.close()
            raise
        return ChildWorld(info, child)


class ChildWorld:
    """One world in one process."""

    def __init__(self, info: WorldInfo, child: Child) -> None:
        self.info, self._child = info, child
        self.reward: float | None = None

    def reset(self, seed: int) -> Start:
        match self._child.ask("reset", seed=seed)[0]:
            case [[str(instruction), str(subject)], float() | None as reward]:
                self.reward = reward
                return Start(instruction, subject)
            case other:
                raise self._wrong("reset", other, "an instruction, its subject and a reward or none")

    def observe(self) -> Observation:
        arrays = self._child.ask("observe")[1]
        images = {name.removeprefix("image/"): array for name, array in arrays.items() if name != "state"}
        if "state" not in arrays:
            raise self._wrong("observe", list(arrays), "images and the state")
        return Observation(images, arrays["state"])

    def aim(self, target_TA: np.ndarray) -> None:
        self._child.ask("aim", {"target": target_TA.astype(np.float64)})

    def step(self) -> Outcome:
        match self._child.ask("step")[0]:
            case [("running" | "success" | "failure") as outcome, float() | None as reward]:
                self.reward = reward
                return Outcome(outcome)
            case other:
                raise self._wrong("step", other, "running, success or failure, and a reward or none")

    def picture(self, size: int) -> np.ndarray | None:
        return self._child.ask("picture", size=size)[1].get("picture")

    def close(self) -> None:
        self._child.close()

    def _wrong(self, call: str, told: Any, wanted: str) -> FoundryError:
        return FoundryError(f"the world '{self.info.name}' answers {told!r:.200} to '{call}', not {wanted}")


class Child:
    """The process, asked one thing after the other. FoundryError says how it failed, with its last words."""

    def __init__(self, worlds: ChildWorlds) -> None:
        self._worlds = worlds
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        script = str(Path(serving.__file__).resolve())
        # Our packages are not the child's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        try:
            self._process = subprocess.Popen(
                [worlds.python, script, worlds.program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            self._words.close()
            raise FoundryError(
                f"the world '{worlds.name}' cannot be started by {worlds.python}: {error}"
            ) from error
        try:
            version = self._receive()[0].get("version")
            if version != serving.VERSION:
                raise FoundryError(
                    f"the world '{worlds.name}' speaks version {version}"
                    f" of the protocol, not {serving.VERSION}"
                )
        except FoundryError:
            self.close()
            raise

    def ask(
        self, call: str, arrays: dict[str, np.ndarray] | None = None, **asked: Any
    ) -> tuple[Any, dict[str, np.ndarray]]:
        if self._words.closed:
            raise FoundryError(f"the world '{self._worlds.name}' is closed", hint="build another one")
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise self._ended()
        frame = memoryview(serving.encode({"call": call, **asked}, arrays or {}))
        try:
            while frame:
                frame = frame[self._process.stdin.write(frame) or 0 :]
        except OSError as error:
            raise self._ended() from error
        answer, given = self._receive()
        match answer:
            case {"value": value}:
                return value, given
            case {"absent": [str(sentence), *hints]}:
                raise UsageError(sentence, hint=str(hints[0]) if hints else None)
            case {"error": str(told)}:
                raise FoundryError(f"the world '{self._worlds.name}' failed at '{call}': {told}")
            case other:
                self._process.kill()
                raise self._failed(f"does not keep the protocol (to '{call}' it answers {other!r:.200})")

    def close(self) -> None:
        if self._words.closed:
            return
        self._end()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._words.close()

    def _end(self) -> int:
        """Let it end by itself, and kill it where it does not; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        until = time.monotonic() + self._worlds.limit_s
        try:
            return serving.decode(lambda count: self._read(count, until))
        except serving.WireError as error:
            self._process.kill()
            raise self._failed(f"does not keep the protocol ({error})") from error

    def _read(self, count: int, until: float) -> bytes:
        assert self._process.stdout is not None
        parts = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while count:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self._process.kill()
                    raise self._failed(f"did not answer within {self._worlds.limit_s:g} s and was ended")
                part = os.read(self._process.stdout.fileno(), count)
                if not part:
                    raise self._ended()
                parts.append(part)
                count -= len(part)
        return b"".join(parts)

    def _ended(self) -> FoundryError:
        if (code := self._end()) >= 0:
            return self._failed("has ended")
        return self._failed(f"was ended by signal {-code} ({signal.strsignal(-code)})")

    def _failed(self, how: str) -> FoundryError:
        self._process.wait()
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - TAIL))
        words = self._words.read().decode("utf-8", "replace").strip()
        return FoundryError(
            f"the world '{self._worlds.name}' {how}; the end of what it said: {words or 'nothing'}"
        )


def _check_cameras(info: WorldInfo, roles: tuple[str, ...]) -> None:
    for role in roles:
        if role not in info.cameras:
            raise UsageError(
                f"the world '{info.name}' has no camera '{role}'{nearest(role, info.cameras)}",
                hint=f"cameras: {', '.join(info.cameras) or 'none'}",
            )


def _info(name: str, told: Any) -> WorldInfo:
    try:
        motion = told["random"]
        speed = motion.get("speed")
        return WorldInfo(
            name=name,
            embodiment=_text(told["embodiment"]),
            state_space=ActionSpace(_texts(told["state"])),
            action_space=ActionSpace(_texts(told["action"])),
            cameras=_texts(told["cameras"]),
            control_hz=float(told["control_hz"]),
            max_steps=int(told["max_steps"]),
            random=RandomMotion(
                tuple(map(float, motion["low"])),
                tuple(map(float, motion["high"])),
                None if speed is None else float(speed),
            ),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise FoundryError(f"the world '{name}' does not describe itself: {error!r}") from error


def _texts(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list):
        raise TypeError(f"{told!r} is no list of names")
    return tuple(map(_text, told))


def _text(told: Any) -> str:
    if not isinstance(told, str):
        raise TypeError(f"{told!r} is no name")
    return told
