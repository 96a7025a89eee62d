"""`load`: batches of a dataset or a mixture, the same for every number of ranks, threads and restarts.

Legend: B rows of this rank, C lanes, n batches that are planned at once.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.robot.unions import Unions, unions_of
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.loader.order import ORDER_VERSION, Order
from robot_foundry.loader.robot.batch import Batch
from robot_foundry.loader.robot.reader import Draft, Reader, Substitution
from robot_foundry.loader.robot.source import OpenComponent, OpenShards
from robot_foundry.loader.substituted import MAX_SUBSTITUTED, MAX_SUBSTITUTIONS, check_substituted
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.windows.chunk_statistics import representation_statistics, represented_union
from robot_foundry.windows.window import WindowSpec

T = TypeVar("T")
PREFETCHED_BATCHES = 2
# The order and low-dim windows cost least for many rows at once; what is made ahead has no other effect.
_PLANNED_ROWS, _DRAFTED_ROWS = 8192, 256

__all__ = ["Batch", "Loader", "WindowSpec", "load"]


@overload
def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture,
    window: WindowSpec | None = None,
    *,
    seed: int,
    global_batch: int,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    store: Store | str | os.PathLike[str] | None = None,
    split: str = "train",
    max_substitutions: int = MAX_SUBSTITUTIONS,
    max_substituted: float = MAX_SUBSTITUTED,
    prepare: None = None,
) -> Loader[Batch]: ...


@overload
def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture,
    window: WindowSpec | None = None,
    *,
    seed: int,
    global_batch: int,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    store: Store | str | os.PathLike[str] | None = None,
    split: str = "train",
    max_substitutions: int = MAX_SUBSTITUTIONS,
    max_substituted: float = MAX_SUBSTITUTED,
    prepare: Callable[[Batch], T],
) -> Loader[T]: ...


def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture,
    window: WindowSpec | None = None,
    *,
    seed: int,
    global_batch: int,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    store: Store | str | os.PathLike[str] | None = None,
    split: str = "train",
    max_substitutions: int = MAX_SUBSTITUTIONS,
    max_substituted: float = MAX_SUBSTITUTED,
    prepare: Callable[[Batch], Any] | None = None,
) -> Loader[Any]:
    """Batches of a dataset, of a stored mixture ('lift', 'lift@v3'), of weights, or of a Mixture.

    Weights are a mapping {'sim': 0.6, 'real': 0.4} or text 'sim=0.6,real=0.4'. `global_batch` rows make an
    optimiser step; rank `rank` of `world` iterates its share of them. `threads` decode and read ahead; 0
    reads in the caller's thread. Corrupt samples are substituted and recorded; more than `max_substitutions`
    of them, and more than the share `max_substituted` of the rank's samples so far, raise FoundryError.

    With `prepare` the loader gives what it makes of each batch. It runs where the batch was made, ahead of
    its use; see `Loader`.
    """
    opened = as_store(store)
    window = window or WindowSpec()
    mixture = as_mixture(opened, ref_or_weights, split=split, skip=window.skipped)
    return Loader(
        opened,
        mixture,
        window,
        seed=seed,
        global_batch=global_batch,
        rank=rank,
        world=world,
        threads=threads,
        max_substitutions=max_substitutions,
        max_substituted=max_substituted,
        prepare=prepare or _as_it_is,
    )


class Loader(Generic[T]):
    """Iterates this rank's rows of the global batches b, b + 1, … and never ends; `batch(b)` reads any one.

    spaces          (state, action): the unions that the dims of a batch are named by
    dataset_spaces  the same of each component, by its name
    embodiments     what `Batch.embodiment_B` numbers
    substitutions   what was replaced for corruption in the batches given out so far

    What it gives is what `prepare` makes of a batch, a function of the batch alone. With threads it runs in
    the thread that makes batches ahead, with 0 and for `batch(b)` in the caller's, so that two of its calls
    may run at once, and what torch keeps for each thread (no_grad, autocast) is to be set in it.

    It may be forked, pickled and copied: the other one opens its own files and threads, and goes on with the
    batch after the last one given out here. `prepare` goes along, and to be pickled it must be picklable.
    """

    def __init__(
        self,
        store: Store,
        mixture: Mixture,
        window: WindowSpec,
        *,
        seed: int,
        global_batch: int,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        max_substitutions: int = MAX_SUBSTITUTIONS,
        max_substituted: float = MAX_SUBSTITUTED,
        prepare: Callable[[Batch], T],
    ) -> None:
        _check_topology(global_batch, rank, world, threads)
        self.store, self.mixture, self.window = store, mixture, window
        self.seed, self.global_batch, self.rank, self.world = seed, global_batch, rank, world
        self._threads = threads
        self._max_substitutions, self._max_substituted = max_substitutions, max_substituted
        self._prepare = prepare
        self._substitutions: dict[int, Substitution] = {}
        self._next = 0
        self._rows_given = self._substituted_before = 0
        self._open()

    def _open(self) -> None:
        """All that belongs to one process: opened tables and tars, threads, and what they made ahead."""
        store, mixture, window, threads = self.store, self.mixture, self.window, self._threads
        self._process = os.getpid()
        unions = unions_of(store, mixture)
        self._shards = OpenShards()
        unions.check_stream(window.stream)
        sources = [OpenComponent(store, c, i, window, self._shards) for i, c in enumerate(mixture.components)]
        action = represented_union(unions.schemas, window.stream, window.representation)
        self.spaces: tuple[ActionSpace, ActionSpace] = (unions.state, action)
        self.dataset_spaces = {s.component.name: (s.state_space, s.action_space) for s in sources}
        self.embodiments = tuple(sorted({schema.embodiment for schema in unions.schemas.values()}))
        self._order = Order(mixture, seed=self.seed)
        self._reader = Reader(
            sources,
            window,
            *self.spaces,
            _image_sizes(unions, window),
            [self.embodiments.index(source.schema.embodiment) for source in sources],
            seed=self.seed,
            threads=threads,
        )
        self._batches_per_plan = max(1, _PLANNED_ROWS * self.world // self.global_batch)
        self._batches_per_draft = max(1, _DRAFTED_ROWS * self.world // self.global_batch)
        self._plan = lru_cache(maxsize=4)(self._plan_run)
        self._draft = lru_cache(maxsize=2)(self._draft_run)
        self._offset_B = _offsets(mixture.lanes, self.global_batch, self.rank, self.world)
        self._ahead: deque[Future[tuple[T, list[Substitution]]]] = deque()
        self._builder = ThreadPoolExecutor(1, "batches") if threads else None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: vars(self)[name] for name in _OF_ANY_PROCESS}
        return {**kept, "store": self.store.url, "_substitutions": dict(self._substitutions)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "store": Store(state["store"])})
        self._open()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        _check_worker()
        self._reopen_after_fork()
        if self._builder is None:
            batch = self.batch(self._next)
        else:
            while len(self._ahead) <= PREFETCHED_BATCHES:
                self._ahead.append(self._builder.submit(self._build, self._next + len(self._ahead)))
            batch = self._give(*self._ahead[0].result())
            self._ahead.popleft()
        self._next += 1
        return batch

    def __enter__(self) -> Loader[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batch(self, b: int) -> T:
        """This rank's rows of global batch b: a pure function of (mixture, window, seed, global batch, b)."""
        self._reopen_after_fork()
        return self._give(*self._build(b))

    def positions(self, b: int) -> NDArray[np.int64]:
        """The positions k of this rank's rows of global batch b, ascending.

        Where world divides C and C divides the global batch, a rank owns a range of lanes (k mod C), so that
        it alone reads their spans; otherwise a contiguous part of the batch.
        """
        return b * self.global_batch + self._offset_B

    @property
    def substitutions(self) -> tuple[Substitution, ...]:
        return tuple(self._substitutions.values())

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on with the batch after the last one given out."""
        substituted = self._substituted_before + len(self._substitutions)
        here = {"b": self._next, "global_batch": self.global_batch, "substituted": substituted}
        return self._identity() | here

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; FoundryError if it is none, or belongs to another order of samples."""
        own = self._identity() | {"global_batch": self.global_batch}
        missing = [name for name in ("b", *own) if name not in state]
        if missing:
            raise FoundryError(f"the loader state lacks {', '.join(missing)}")
        counts = {"b": state["b"], "substituted": state.get("substituted", 0)}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise FoundryError(f"the loader state has {name} {value!r}, which is no count")
        unlike = [name for name, value in own.items() if state[name] != value]
        if unlike:
            listed = ", ".join(f"{name} {state[name]} (here {own[name]})" for name in unlike)
            raise FoundryError(
                f"the loader state belongs to another order of samples: it has {listed}",
                hint="resume with the data, seed and global batch of the run, or start a new run",
            )
        self._drop_prefetched()
        self._next, self._substituted_before = int(counts["b"]), int(counts["substituted"])
        self._rows_given = self._next * len(self._offset_B)
        self._substitutions.clear()

    def normalizer_statistics(self) -> tuple[Statistics, Statistics]:
        """(state, action) statistics over `spaces` of the training split, as batches hold them; cached."""
        window = self.window
        return representation_statistics(
            self.store,
            self.mixture,
            stream=window.stream,
            representation=window.representation,
            horizon=window.horizon,
            stride=window.stride,
            control_hz=window.control_hz,
            masked=window.masked,
        )

    def close(self) -> None:
        """End the threads and let go of the files; the loader gives no more batches."""
        self._drop_prefetched()
        if self._builder is not None:
            self._builder.shutdown()
        self._reader.close()
        self._draft.cache_clear()
        self._shards.close()

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "mixture_id": self.mixture.id, "order_version": ORDER_VERSION}

    def _build(self, b: int) -> tuple[T, list[Substitution]]:
        run, place = divmod(b, self._batches_per_draft)
        draft = self._draft(run)
        _, _, sample_B = self._samples(b)
        first = place * len(sample_B)
        batch, substitutions = self._reader.finish(draft, range(first, first + len(sample_B)), b, sample_B)
        return self._prepare(batch), substitutions

    def _samples(self, b: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """Positions, components and samples of this rank's rows of global batch b, each [B]."""
        run, place = divmod(b, self._batches_per_plan)
        k_nB, dataset_nB, sample_nB = self._plan(run)
        return k_nB[place], dataset_nB[place], sample_nB[place]

    def _draft_run(self, run: int) -> Draft:
        first = run * self._batches_per_draft
        parts = [self._samples(b) for b in range(first, first + self._batches_per_draft)]
        k_n, dataset_n, sample_n = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return self._reader.draft(k_n, dataset_n, sample_n)

    def _plan_run(self, run: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        first = run * self._batches_per_plan
        b_n = np.arange(first, first + self._batches_per_plan, dtype=np.int64)
        k_nB = b_n[:, None] * self.global_batch + self._offset_B
        dataset_n, _, sample_n = self._order.at(k_nB.reshape(-1))
        return k_nB, dataset_n.reshape(k_nB.shape), sample_n.reshape(k_nB.shape)

    def _give(self, prepared: T, substitutions: list[Substitution]) -> T:
        self._substitutions.update({item.k: item for item in substitutions})
        self._rows_given += len(self._offset_B)
        total = self._substituted_before + len(self._substitutions)
        if substitutions:
            check_substituted(
                total, self._rows_given, substitutions[-1], at_least=self._max_substitutions,
                share=self._max_substituted, hint=f"foundry-data validate {substitutions[-1].version} --deep",
            )  # fmt: skip
        return prepared

    def _reopen_after_fork(self) -> None:
        # Threads do not live on in a forked process, and what they held locked stays so.
        if self._process != os.getpid():
            self.store = Store(self.store.url)
            self._open()

    def _drop_prefetched(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()


# What a copy in another process starts from.
_OF_ANY_PROCESS = (
    *("mixture", "window", "seed", "global_batch", "rank", "world", "_threads", "_prepare"),
    *("_max_substitutions", "_max_substituted", "_next", "_rows_given", "_substituted_before"),
)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _check_worker() -> None:
    """FoundryError in one of several workers of a torch DataLoader: each would give every batch."""
    data = sys.modules.get("torch.utils.data")
    worker = data.get_worker_info() if data is not None else None
    if worker is not None and worker.num_workers > 1:
        raise FoundryError(
            f"{worker.num_workers} workers of a torch DataLoader would each give every batch of this loader",
            hint="num_workers=0; load(…, threads=N) reads and decodes in N threads",
        )


def _check_topology(global_batch: int, rank: int, world: int, threads: int) -> None:
    problems = []
    if global_batch < 1 or world < 1 or global_batch % world:
        problems.append(f"global_batch {global_batch} cannot be shared equally by {world} ranks")
    if not 0 <= rank < world:
        problems.append(f"rank {rank} is not in 0 … {world - 1}")
    if threads < 0:
        problems.append(f"threads {threads} is negative")
    if problems:
        raise UsageError("; ".join(problems))


def _offsets(lanes: int, global_batch: int, rank: int, world: int) -> NDArray[np.int64]:
    """Where the rows of a rank lie in a global batch, ascending."""
    if lanes % world == 0 and global_batch % lanes == 0:
        width = lanes // world
        lane_c = np.arange(rank * width, (rank + 1) * width, dtype=np.int64)
        return (np.arange(0, global_batch, lanes, dtype=np.int64)[:, None] + lane_c).reshape(-1)
    share = global_batch // world
    return np.arange(rank * share, (rank + 1) * share, dtype=np.int64)


def _image_sizes(unions: Unions, window: WindowSpec) -> dict[str, tuple[int, int]]:
    """(height, width) of each role of the window: what it asks for, or else what all datasets store."""
    cameras = [camera for schema in unions.schemas.values() for camera in schema.cameras]
    known = sorted({camera.role for camera in cameras})
    found: dict[str, tuple[int, int]] = {}
    for role in window.cameras:
        sizes = sorted({(camera.height, camera.width) for camera in cameras if camera.role == role})
        if not sizes:
            raise FoundryError(
                f"no dataset has a camera with the role '{role}'{nearest(role, known)} "
                f"(roles: {', '.join(known) or 'none'})"
            )
        if window.image is None and len(sizes) > 1:
            listed = ", ".join(f"{height} x {width}" for height, width in sizes)
            raise FoundryError(
                f"images of '{role}' are stored in unlike sizes ({listed})",
                hint="give the window an image size",
            )
        found[role] = window.image or sizes[0]
    return found
