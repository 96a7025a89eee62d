"""Map a function over items: in this process, or on Ray workers. The results are the same."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import current_thread, main_thread
from typing import Any, TypeVar

from robot_foundry.runtime.distributed.cluster import (
    check_address,
    check_files,
    check_nodes,
    check_worker,
    no_cluster,
    package_versions,
)
from robot_foundry.runtime.distributed.shipping import package_copy
from robot_foundry.runtime.errors import FoundryError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 2
CRASH_RETRIES = 3
OBJECT_STORE_BYTES = 256 * 1024 * 1024
QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


class Workers:
    """Where the phases of a piece of work run: in this process, or on one Ray session that all of them share.

    `workers=0` without `ray_address` is inline. Ray starts at the first `map`, so finding that nothing is
    to be done costs no start, and stops at the end of the context if it was started here.
    """

    def __init__(self, workers: int = 0, ray_address: str | None = None) -> None:
        if workers < 0:
            raise UsageError(f"workers must be 0 or more, got {workers}")
        self._workers, self._address = workers, ray_address
        self._session = ExitStack()
        self._ray: Any = None
        self._versions: dict[str, str] | None = None
        self._required: dict[str, int] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._ray = None

    @property
    def inline(self) -> bool:
        return self._workers == 0 and self._address is None

    @property
    def on_cluster(self) -> bool:
        return self._address is not None

    def require(self, files: Mapping[str, int]) -> None:
        """Local files, path and size, that every node of a cluster must see, or the next `map` fails."""
        if self._address is not None:
            self._required.update(files)

    def map(
        self, fn: Callable[[Item], Result], items: Iterable[Item], *, inline: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(index of the item, fn(item))` as results come; in order if inline, which may be asked for.

        On workers `fn` and the items must pickle; at most two items a worker are in flight, so `items` may be
        long and lazy. The first exception of `fn` is raised here and ends the map. The item of a worker or
        node that dies is tried again elsewhere, three times.
        """
        if inline or self.inline:
            yield from ((i, fn(item)) for i, item in enumerate(items))
            return
        if self._ray is None:
            self._ray, self._versions = self._session.enter_context(_ray(self._workers, self._address))
        if self._required:
            check_files(self._ray, self._required)
            self._required = {}
        workers = self._workers or int(self._ray.cluster_resources().get("CPU", 1))
        yield from _ray_map(self._ray, fn, items, workers, self._versions)


def unordered_map(
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 0,
    ray_address: str | None = None,
) -> Iterator[tuple[int, Result]]:
    """`Workers.map` of one phase alone."""
    with Workers(workers, ray_address) as pool:
        yield from pool.map(fn, items)


def _ray_map(
    ray: Any,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    expected: dict[str, str] | None,
) -> Iterator[tuple[int, Result]]:
    # A closure, because Ray takes plain functions only and `fn` may be a partial or a bound method.
    def work(item: Item) -> Result:
        if expected is not None:
            check_worker(expected)
        return fn(item)

    # Spread, or the first nodes of a cluster would take all the work that fits their processors.
    call = ray.remote(num_cpus=1, max_retries=CRASH_RETRIES, scheduling_strategy="SPREAD")(work)
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
    except ray.exceptions.RayError as error:  # it died, with its node or alone, or its result was lost
        raise FoundryError(
            f"the worker process died {CRASH_RETRIES + 1} times on item {index}",
            hint="it may be short of memory: try fewer --workers",
        ) from error


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[tuple[Any, dict[str, str] | None]]:
    """Ray, connected to `address` or started here, and the versions that workers must have, None for here.

    It is stopped at the end if we connected.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray, None if address is None else package_versions()
        return
    expected, on_sigterm = None, signal.getsignal(signal.SIGTERM)
    if address is None:
        _start(ray, workers)
    else:
        expected = _connect(ray, address)
    try:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own there
        if expected is not None:
            check_nodes(ray, expected)
        with _messages_on_stderr():
            yield ray, expected
    finally:
        ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    # "local" even where RAY_ADDRESS names a cluster: only the caller sends work elsewhere.
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        **QUIET,
    )


def _connect(ray: Any, address: str) -> dict[str, str]:
    """Send this package to the cluster; the versions that its workers must have."""
    check_address(address)
    with package_copy() as package:
        try:
            ray.init(address=address, runtime_env={"py_modules": [str(package)]}, **QUIET)
        except ConnectionError as error:
            raise no_cluster(address, error) from error
        return package_versions(package)


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
