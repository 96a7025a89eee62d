"""A loader in another process: forked, pickled, copied, or in the workers of a torch DataLoader."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from foundry_testing import batch_loaders
from foundry_testing.batch_loaders import contents
from torch.utils.data import DataLoader, IterableDataset

from robot_foundry.loader.load import Loader
from robot_foundry.runtime.errors import FoundryError

pytestmark = pytest.mark.usefixtures("no_ray")

written, data = batch_loaders.written, batch_loaders.data
HANG_S = 120  # a child that waits for a thread of its parent would wait for ever


@pytest.fixture(autouse=True, scope="module")
def soon() -> Iterator[None]:
    """A torch DataLoader waits 5 s for each worker before it ends it; here 0.2 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
        yield
        gc.collect()


class Batches(IterableDataset):
    """As one would wrap a loader for torch."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __iter__(self):
        return (next(self.loader) for _ in range(3))


def in_child(loader: Loader, queue: Any) -> None:
    queue.put(contents([next(loader) for _ in range(2)]))


def of_child(method: str, loader: Loader) -> dict[int, tuple]:
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=in_child, args=(loader, queue))
    child.start()
    try:
        return queue.get(timeout=HANG_S)
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_used_loader_goes_on_in_a_forked_process(data, threads):
    with data.open(threads=threads) as loader:
        next(loader)
        found = of_child("fork", loader)
        assert found == contents([next(loader) for _ in range(2)])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_a_copy_goes_on_where_the_loader_stands_and_leaves_it_alone(data, copied):
    with data.open(threads=2) as loader:
        next(loader)
        with copied(loader) as other:
            assert other.state_dict() == loader.state_dict()
            assert contents([next(other) for _ in range(3)]) == contents([next(loader) for _ in range(3)])


def test_one_worker_of_a_torch_dataloader_gives_each_batch_once(data):
    with data.open(threads=1) as loader:
        next(loader)
        batches = DataLoader(Batches(loader), batch_size=None, num_workers=1, multiprocessing_context="fork")
        found = contents([batch for batch in batches])
        assert found == contents([next(loader) for _ in range(3)])


def test_several_workers_are_refused_in_one_sentence(data):
    with data.open(threads=1) as loader:
        batches = DataLoader(Batches(loader), batch_size=None, num_workers=2, multiprocessing_context="fork")
        with pytest.raises(FoundryError, match="2 workers of a torch DataLoader would each give every batch"):
            list(batches)


@pytest.mark.parametrize("b", [2.7, "3", True, -1, None, np.float64(2), [3]])
def test_a_state_whose_cursor_is_no_count_is_refused(data, b):
    with data.open() as loader:
        state = loader.state_dict()
        with pytest.raises(FoundryError, match=r"the loader state has b .*, which is no count"):
            loader.load_state_dict(state | {"b": b})
        with pytest.raises(FoundryError, match="has substituted -1, which is no count"):
            loader.load_state_dict(state | {"substituted": -1})
        assert loader.state_dict() == state
        loader.load_state_dict(state | {"b": np.int64(3)})
        assert loader.state_dict()["b"] == 3
