"""What a loader makes of a batch ahead of its use, and that nothing else about it changes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from foundry_testing import batch_loaders
from foundry_testing.batch_loaders import contents, open_loader
from foundry_testing.loader_fixtures import write_version

from robot_foundry.catalog.store import Store
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.images import encode_jpeg
from robot_foundry.windows.window import WindowSpec

pytestmark = pytest.mark.usefixtures("no_ray")

written = batch_loaders.written
WAIT_S = 120  # a thread that does not come would be waited for for ever


@dataclass(frozen=True)
class Scaled:
    """A stage that can be pickled."""

    factor: float

    def __call__(self, batch: Batch) -> tuple[int, float]:
        return batch.step, float(batch.state_BHD.astype(np.float64).sum()) * self.factor


class Refused(Exception):
    pass


def next_in_child(loader, queue):
    queue.put([next(loader) for _ in range(2)])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_loader_gives_what_is_made_of_each_batch(written, threads):
    store, _ = written
    with open_loader(store) as plain:
        batches = [plain.batch(b) for b in range(4)]
    with open_loader(store, threads=threads, prepare=lambda batch: contents([batch])) as loader:
        assert [next(loader) for _ in range(3)] == [contents([batch]) for batch in batches[:3]]
        assert loader.batch(3) == contents([batches[3]])
        assert loader.state_dict()["b"] == 3


def test_it_is_made_ahead_off_the_callers_thread(written):
    store, _ = written
    made = threading.Semaphore(0)

    def prepare(batch: Batch) -> tuple[int, str]:
        made.release()
        return batch.step, threading.current_thread().name

    with open_loader(store, threads=1, prepare=prepare) as loader:
        first = next(loader)
        for _ in range(3):  # the one given out and two more, which nobody asked for yet
            assert made.acquire(timeout=WAIT_S)
        assert first[0] == 0 and first[1].startswith("batches")
        assert loader.batch(7) == (7, threading.current_thread().name)
    with open_loader(store, threads=0, prepare=prepare) as loader:
        assert next(loader) == (0, threading.current_thread().name)


def test_a_resumed_loader_prepares_the_batch_after_the_last_given_out(written):
    store, _ = written
    with open_loader(store, threads=1, prepare=Scaled(2.0)) as first, open_loader(store) as plain:
        given = [next(first) for _ in range(3)]
        plain.load_state_dict(first.state_dict())  # what prepares is no part of the state
        assert next(plain).step == 3
        first.load_state_dict(first.state_dict() | {"b": 1})
        assert [next(first), next(first)] == given[1:]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_a_copy_prepares_as_the_loader_does(written, copied):
    store, _ = written
    with open_loader(store, threads=1, prepare=Scaled(3.0)) as loader:
        next(loader)
        with copied(loader) as other:
            assert [next(other) for _ in range(2)] == [next(loader) for _ in range(2)]


def test_a_forked_loader_prepares_as_its_parent_does(written):
    store, _ = written
    context = multiprocessing.get_context("fork")
    with open_loader(store, threads=1, prepare=lambda batch: Scaled(1.0)(batch)) as loader:
        next(loader)
        queue = context.Queue()
        child = context.Process(target=next_in_child, args=(loader, queue))
        child.start()
        try:
            assert queue.get(timeout=WAIT_S) == [next(loader) for _ in range(2)]
        finally:
            child.kill()
            child.join()


def test_what_cannot_be_pickled_is_named(written):
    store, _ = written
    with (
        open_loader(store, prepare=lambda batch: batch.step) as loader,
        pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"),
    ):
        pickle.dumps(loader)


@pytest.mark.parametrize("threads", [0, 1])
def test_an_error_of_the_stage_is_raised_where_its_batch_is_asked_for(written, threads):
    store, _ = written

    def prepare(batch: Batch) -> int:
        if batch.step == 1:
            raise Refused(f"batch {batch.step}")
        return batch.step

    with open_loader(store, threads=threads, prepare=prepare) as loader:
        assert next(loader) == 0
        for _ in range(2):  # and it stays so: no batch is passed over
            with pytest.raises(Refused, match="batch 1"):
                next(loader)
        assert loader.state_dict()["b"] == 1


@pytest.mark.parametrize("threads", [0, 2])
def test_substitutes_are_counted_whatever_is_made_of_their_batch(tmp_path, threads):
    store = Store(tmp_path)
    broken = [4]

    def encode(rng, height, width):
        broken[0] -= 1
        pixels = np.full((height, width, 3), 128, np.uint8)
        return encode_jpeg(pixels)[:40] if broken[0] == 0 else encode_jpeg(pixels)

    write_version(store, "sim", [[12, 9]], cameras={"primary": (16, 16)}, encode=encode)
    options = {"ref": "sim", "window": WindowSpec(), "global_batch": 21, "threads": threads}
    with open_loader(store, **options) as plain:
        for _ in range(2):
            next(plain)
        expected = plain.substitutions
    assert {item.sample for item in expected} == {3, 4}
    with open_loader(store, **options, prepare=len) as loader:
        assert [next(loader), next(loader)] == [21, 21]
        assert loader.substitutions == expected
        assert loader.state_dict()["substituted"] == len(expected) == 4
    with open_loader(store, **options, prepare=len, max_substitutions=3, max_substituted=0.0) as loader:
        next(loader)
        with pytest.raises(FoundryError, match="4 samples were corrupt, above the limit of 3 among 42"):
            next(loader)
