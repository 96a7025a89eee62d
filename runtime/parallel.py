"""Map a function over items: in this process, or on Ray workers. The results are the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from robot_foundry.runtime.cluster import check_nodes
from robot_foundry.runtime.errors import FoundryError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2
CRASH_RETRIES = 3
OBJECT_STORE_BYTES = 256 * 1024 * 1024


def unordered_map(
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 0,
    ray_address: str | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield `(index of the item, fn(item))` as results come.

    `workers=0` without `ray_address` runs inline and in order. Else `fn` and the items must pickle; at most
    two items a worker are in flight, so `items` may be long and lazy. The first exception of `fn` is raised
    here and ends the map. A worker that dies is replaced and its item tried again, three times.
    """
    if workers < 0:
        raise UsageError(f"workers must be 0 or more, got {workers}")
    if workers == 0 and ray_address is None:
        yield from ((i, fn(item)) for i, item in enumerate(items))
        return
    with _ray(workers, ray_address) as ray:
        yield from _ray_map(ray, fn, items, workers or int(ray.cluster_resources().get("CPU", 1)))


def _ray_map(
    ray: Any, fn: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    # A closure, because Ray takes plain functions only and `fn` may be a partial or a bound method.
    call = ray.remote(num_cpus=1, max_retries=CRASH_RETRIES)(lambda item: fn(item))
    pending: dict[Any, int] = {}
    waiting = enumerate(items)
    try:
        while True:
            while len(pending) < IN_FLIGHT_PER_WORKER * workers:
                upcoming = next(waiting, None)
                if upcoming is None:
                    break
                pending[call.remote(upcoming[1])] = upcoming[0]
            if not pending:
                return
            finished, _ = ray.wait(list(pending), num_returns=1)
            index = pending.pop(finished[0])
            yield index, _result(ray, finished[0], index)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any, index: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise FoundryError(
            f"the worker process died {CRASH_RETRIES + 1} times on item {index}",
            hint="it may be short of memory: try fewer --workers",
        ) from error


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[Any]:
    """Ray, connected to `address` or started here; stopped at the end if we connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # "local" even where RAY_ADDRESS names a cluster: only the caller sends work elsewhere.
        local: dict[str, Any] = {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        ray.init(address="local", **local, **quiet)
    else:
        ray.init(address=address, **quiet)
    try:
        if address is not None:
            check_nodes(ray)
        with _messages_on_stderr():
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Ray prints a worker's death to stdout, which belongs to results, and has no setting for it."""
    from ray._private import worker

    original = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, **how: original({**data, "is_err": True}, **how)
    try:
        yield
    finally:
        worker.print_to_stdstream = original
