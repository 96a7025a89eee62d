"""Computing items apart from each other, so that no sum is taken in an order that something else decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def each_on_one_thread(
    work: Callable[[Item], Made], items: Iterable[Item], device: torch.device
) -> Iterator[Made]:
    """`work` of each item, in their order, without gradients and in the caller's precision.

    On a processor each is computed by one thread, and as many at a time as PyTorch has threads.
    """
    kind, threads = device.type, torch.get_num_threads()
    precision, is_mixed = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)

    def computed(item: Item) -> Made:  # gradients and precision are each thread's own affair
        with torch.no_grad(), torch.autocast(kind, dtype=precision, enabled=is_mixed):
            return work(item)

    if kind != "cpu" or threads == 1:
        yield from map(computed, items)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(computed, items)
    finally:
        torch.set_num_threads(threads)
