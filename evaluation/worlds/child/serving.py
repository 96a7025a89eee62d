"""The side of the child: one file, with numpy alone, that any interpreter runs as a script.

    python serving.py /path/to/program.py:ATTRIBUTE

The attribute is called and gives an object with `describe(task, variant)`, a dict as `ChildWorlds` reads it,
and `build(task, variant, cameras, size)` -> a world: `reset(seed)` -> (instruction, subject), `observe()` ->
(images by role, state), `aim(targets)`, `step()` -> "running", "success" or "failure", `picture(size)` -> an
image or None, `close()`, and optionally `reward`, that of the last step. An exception of any of them becomes
a sentence of the answer; `LookupError(sentence, hint)` says that what was asked for is not there. Images are
uint8 arrays (H, W, 3), the state is float64.

A frame is 4 bytes of magic, the lengths of header and body (big-endian, 32 bits each), a header in JSON and
the bytes of its arrays one after the other. Nothing in it is executed.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

VERSION = 1
MAGIC = b"RFW1"
PREFIX = struct.Struct(">4sII")
MOST_HEADER, MOST_BODY = 2**20, 2**28
DTYPES = ("uint8", "float32", "float64")


class WireError(Exception):
    """What came is no frame."""


def encode(message: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """A frame of JSON and arrays, whose numbers cross in the byte order of this machine."""
    parts = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for name, array in arrays.items()
    }
    for name, part in parts.items():
        if part.dtype.name not in DTYPES:
            raise WireError(f"the array '{name}' is {part.dtype}, not one of {', '.join(DTYPES)}")
    forms = [[name, part.dtype.name, list(part.shape)] for name, part in parts.items()]
    header = json.dumps({"message": message, "arrays": forms}, allow_nan=False).encode()
    body = b"".join(part.tobytes() for part in parts.values())
    if len(header) > MOST_HEADER or len(body) > MOST_BODY:
        raise WireError(f"a frame of {len(header)} + {len(body)} bytes is too large")
    return PREFIX.pack(MAGIC, len(header), len(body)) + header + body


def decode(read: Callable[[int], bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The next frame, of which `read(n)` gives exactly n bytes. WireError for anything else."""
    magic, header_size, body_size = PREFIX.unpack(read(PREFIX.size))
    if magic != MAGIC:
        raise WireError(f"expected a frame, got {magic!r}")
    if header_size > MOST_HEADER or body_size > MOST_BODY:
        raise WireError(f"a frame of {header_size} + {body_size} bytes is too large")
    try:
        header = json.loads(read(header_size))
        message, forms = header["message"], header["arrays"]
        body, arrays, start = read(body_size), {}, 0
        for name, dtype, shape in forms:
            if dtype not in DTYPES or not all(type(side) is int and side >= 0 for side in shape):
                raise WireError(f"the array '{name}' is {dtype} {shape}")
            array = np.frombuffer(body, dtype, math.prod(shape), start).reshape(shape).copy()
            arrays[str(name)], start = array, start + array.nbytes
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"a frame cannot be read: {error}") from error
    if start != body_size or not isinstance(message, dict):
        raise WireError("a frame holds other bytes than it says")
    return message, arrays


class Server:
    """Answers one request after the other."""

    def __init__(self, worlds: Any) -> None:
        self._worlds, self._world = worlds, None

    def answer(
        self, asked: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> tuple[Any, dict[str, np.ndarray]]:
        world, call = self._world, asked["call"]
        if call == "describe":
            return self._worlds.describe(asked["task"], asked["variant"]), {}
        if call == "build":
            cameras = tuple(asked["cameras"])
            self._world = self._worlds.build(asked["task"], asked["variant"], cameras, asked["size"])
            return None, {}
        if world is None:
            raise ValueError(f"'{call}' before a world was built")
        if call == "reset":
            told = world.reset(asked["seed"])
            return [told, _reward(world)], {}
        if call == "observe":
            images, state = world.observe()
            return None, {"state": np.asarray(state), **{f"image/{role}": images[role] for role in images}}
        if call == "aim":
            return world.aim(arrays["target"]), {}
        if call == "step":
            return [world.step(), _reward(world)], {}
        if call == "picture":
            picture = world.picture(asked["size"])
            return None, {} if picture is None else {"picture": picture}
        raise ValueError(f"no call '{call}'")

    def close(self) -> None:
        if self._world is not None:
            self._world.close()


def serve(make: Callable[[], Any], incoming: int, outgoing: int) -> None:
    """Answer on two file descriptors until the other side closes its own."""

    def read(count: int) -> bytes:
        parts = []
        while count:
            part = os.read(incoming, count)
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def write(frame: bytes) -> None:
        view = memoryview(frame)
        while view:
            view = view[os.write(outgoing, view) :]

    write(encode({"version": VERSION}, {}))
    server = Server(make())
    try:
        while True:
            asked, arrays = decode(read)
            try:
                value, given = server.answer(asked, arrays)
                frame = encode({"value": value}, given)
            except Exception as error:
                frame = encode(_told(error), {})
            write(frame)
    except EOFError:
        server.close()


def _reward(world: Any) -> float | None:
    # Simulators give numbers of NumPy's, of which JSON knows float64 alone.
    reward = getattr(world, "reward", None)
    return None if reward is None else float(reward)


def _told(error: Exception) -> dict[str, Any]:
    if type(error) is LookupError and error.args:  # not those of lists and dicts
        return {"absent": [str(words) for words in error.args]}
    return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    place, _, attribute = sys.argv[1].rpartition(":")
    incoming, outgoing = os.dup(0), os.dup(1)
    # What packages print must not come between the frames, nor may they read them.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from importlib.util import module_from_spec, spec_from_file_location

    def make() -> Any:
        spec = spec_from_file_location("world_program", place)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{place} is no Python file")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, attribute)()

    serve(make, incoming, outgoing)


if __name__ == "__main__":
    main()
