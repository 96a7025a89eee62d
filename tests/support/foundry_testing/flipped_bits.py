"""One flipped bit in a file of a store, and what every reader then says.

As a program it is the child that reads: STORE SOURCE as arguments, a flip a line on stdin, an outcome a line
on stdout. Where it dies, the flip at which it died is known, and another child goes on behind it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# What is flipped: each kind of file, and where such files lie. A kind that is added is flipped and read too.
KINDS = {
    "tar": "shards/*/*.tar",
    "index": "shards/*/*.index.arrow",
    "frames": "datasets/reach/*/frames/*.arrow",
    "episodes": "datasets/reach/*/episodes.arrow",
    "annotations": "datasets/reach/*/annotations.arrow",
    "leaves": "datasets/reach/*/leaves.arrow",
    "manifest": "datasets/reach/*/manifest.json",
    "mixture": "datasets/blend/*/manifest.json",
    "reference": "refs/*/v[0-9]*",
    "tag": "refs/*/paper",
    "build": "builds/*/*.json",
    "cached statistics": "cache/statistics/*",
    "cached tables": "cache/tables/*/*.json",
    "cached frames": "cache/tables/*/*.arrow",
    "cached survey": "cache/surveys/*",
    "cached fingerprints": "cache/blake3/*",
    "catalogue": "catalog.duckdb",
    "state of the catalogue": "catalog.json",
}
SQL = """
SELECT (SELECT list(v ORDER BY dataset, seq) FROM versions v),
       (SELECT list(t ORDER BY tag) FROM tags t),
       (SELECT list(s ORDER BY key) FROM shards s),
       (SELECT list(q ORDER BY dataset, build_id, unit) FROM quarantine q),
       (SELECT list(e ORDER BY key) FROM episodes_reach e),
       (SELECT list(f ORDER BY shard, key, frame) FROM frames_reach f),
       (SELECT list(a ORDER BY key, start, text) FROM annotations_reach a)
"""


def make_store(folder: Path) -> tuple[Path, Path]:
    """A store with a dataset, a tag, a mixture and every cache, and the source of the dataset."""
    from make_robomimic import make

    from robot_foundry.catalog.mixture import commit_mixture, make_mixture
    from robot_foundry.catalog.refs import resolve, tag
    from robot_foundry.catalog.store import Store
    from robot_foundry.ingest import ingest

    source = folder / "source"
    source.mkdir()
    for seed in range(2):
        make(source / f"{seed}.hdf5", seed=seed, episodes=2, frames=10, size=16)
    store = Store(folder / "store")
    ingest("robomimic", source, store=store, name="reach")
    tag(store, resolve(store, "reach"), "paper")
    commit_mixture(make_mixture(store, {"reach": 1}, split="all"), "blend")
    expected(folder / "store", source)
    return folder / "store", source


def expected(store: Path, source: Path) -> dict[str, Any]:
    """What all readers read of the whole store, which fills its caches."""
    found = outcomes(store, source, "tar")
    assert all("read" in outcome for outcome in found.values()), found
    return found


def kinds(store: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the store that is of a kind."""
    for kind, pattern in KINDS.items():
        found = sorted(store.glob(pattern))
        assert found, f"the store has no {kind}"
        yield from ((kind, path) for path in found)


def random_flips(store: Path, number: int, rng: random.Random) -> list[tuple[str, str, int]]:
    """(kind, path, bit): each kind in turn, half of them in the first or last KiB, where headers are."""
    by_kind: dict[str, list[Path]] = {}
    for kind, path in kinds(store):
        by_kind.setdefault(kind, []).append(path)
    flips = []
    for i in range(number):
        kind = list(by_kind)[i % len(by_kind)]
        path = rng.choice(by_kind[kind])
        size = path.stat().st_size
        start, end = rng.choice([(0, size), (0, size), (0, min(1024, size)), (max(0, size - 1024), size)])
        flips.append((kind, str(path.relative_to(store)), rng.randrange(8 * start, 8 * end)))
    return flips


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def read_all(store: Path, source: Path, flips: Sequence[tuple[str, str, int]]) -> Iterator[dict[str, Any]]:
    """What all readers say after each flip, which is taken back; {'died': exit code} where one ends it."""
    rest = list(flips)
    while rest:
        child = subprocess.Popen(
            [sys.executable, __file__, str(store), str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None
        with child:
            for kind, name, bit in rest:
                whole = (store / name).read_bytes()
                flip(store / name, bit)
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(json.dumps([kind]) + "\n")
                    child.stdin.flush()
                line = child.stdout.readline()
                (store / name).write_bytes(whole)
                rest = rest[1:]
                if not line:
                    yield {"died": child.wait()}
                    break
                yield json.loads(line)


def outcomes(store: Path, source: Path, kind: str) -> dict[str, Any]:
    """By reader: what was read and what was told, or how it was refused, or a traceback."""
    return {name: _outcome(partial(read, store, source, kind)) for name, read in READS.items()}


def faults(flipped: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """What must not be: each reader refuses in a sentence, tells, or reads what it always did."""
    if "died" in flipped:
        return [f"the process died: {flipped['died']}"]
    found = []
    for name, outcome in flipped.items():
        if "crashed" in outcome:
            found.append(f"{name} crashed: {outcome['crashed']}")
        elif "refused" in outcome:
            sentence, hint, code = outcome["refused"]
            if "\n" in sentence or not hint or code != 1 or "unexpected" in sentence:
                found.append(f"{name} is refused badly: {sentence} {hint} {code}")
        elif outcome["read"] != whole[name]["read"] and outcome["told"] == whole[name]["told"]:
            found.append(f"{name} reads something else and tells nothing: {outcome['read']}")
    return found


def _outcome(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    from robot_foundry.runtime.errors import FoundryError

    try:
        return read()
    except FoundryError as error:
        return {"refused": [error.message, error.hint, error.exit_code]}
    except Exception:
        return {"crashed": traceback.format_exc()}


def _load(store: Path, source: Path, kind: str) -> dict[str, Any]:
    import numpy as np

    from robot_foundry.loader.load import load
    from robot_foundry.loader.robot.kind import RobotLoader
    from robot_foundry.windows.window import WindowSpec

    window = WindowSpec(horizon=4, cameras=("primary", "wrist_right"))
    digest = hashlib.sha256()
    with load("blend", window, seed=0, global_batch=40, threads=0, store=store, split="all") as loader:
        assert isinstance(loader, RobotLoader)
        for _ in range(2):
            batch = next(loader)
            arrays = [getattr(batch, name) for name in sorted(vars(batch))]
            arrays += [*batch.images.values(), *batch.image_mask.values()]
            for array in arrays:
                digest.update(array.tobytes() if isinstance(array, np.ndarray) else repr(array).encode())
        state, action = loader.normalizer_statistics()
        told = [item.reason for item in loader.substitutions]
    return {"read": [digest.hexdigest(), state.to_json(), action.to_json()], "told": told}


def _open(store: Path, source: Path, kind: str) -> dict[str, Any]:
    import robot_foundry

    dataset = robot_foundry.open("reach:paper", store=store)
    digest = hashlib.sha256()
    for frame in dataset:
        digest.update(b"".join(frame[name].tobytes() for name in sorted(frame) if name != "key"))
    rows = [dataset.episodes().to_pylist(), dataset.frames().to_pylist()]
    return {"read": [digest.hexdigest(), repr(rows), repr(dataset.space("command"))], "told": []}


def _command(*arguments: str) -> Callable[[Path, Path, str], dict[str, Any]]:
    def read(store: Path, source: Path, kind: str) -> dict[str, Any]:
        from robot_foundry.cli.foundry_data import group
        from robot_foundry.cli.output import run

        out, err = io.StringIO(), io.StringIO()
        filled = [word.format(source=source) for word in arguments]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(group, "foundry-data", [*filled, "--json", "--store", str(store)])
        if code:
            said = err.getvalue().splitlines()
            errors = [line for line in said if line.startswith("Error: ")]
            hints = [line for line in said if line.startswith("Hint: ")]
            return {"refused": ["\n".join(errors), " ".join(hints), code]}
        return {"read": out.getvalue(), "told": err.getvalue()}

    return read


def _ingest(store: Path, source: Path, kind: str) -> dict[str, Any]:
    """The same ingest again: nothing to do, or, where its caches are flipped, the version from its tars."""
    from robot_foundry.ingest.engine import run

    if kind.startswith("cached"):
        for build in store.glob("builds/reach/*"):
            build.unlink()
    report = run("robomimic", source, store=store, name="reach")
    return {"read": [str(report.version), dict(report.counts), report.written], "told": []}


READS = {
    "load": _load,
    "open": _open,
    "query": _command("query", SQL),
    "show": _command("show", "reach:paper"),
    "stats": _command("stats", "reach"),
    "stats of chunks": _command("stats", "blend", "-r", "relative_tool"),
    "ingest": _ingest,
}


def main() -> None:
    store, source = map(Path, sys.argv[1:])
    for line in sys.stdin:
        [kind] = json.loads(line)
        if kind not in KINDS:
            sys.exit(f"there is no kind {kind!r}")
        print(json.dumps(outcomes(store, source, kind)), flush=True)


if __name__ == "__main__":
    main()
