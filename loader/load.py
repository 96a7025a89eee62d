"""`load`: batches of a dataset or a mixture, the same for every number of ranks, threads and restarts.

What a batch holds is the affair of the data's kind (`loader.kind`).
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.store import Store, as_store
from robot_foundry.loader.kind import Reader, SampleSettings, kind_of
from robot_foundry.loader.order import ORDER_VERSION, Order
from robot_foundry.loader.share import Share, check_topology
from robot_foundry.loader.substituted import (
    MAX_SUBSTITUTED,
    MAX_SUBSTITUTIONS,
    Substitution,
    check_substituted,
)
from robot_foundry.runtime.errors import FoundryError, UsageError

T = TypeVar("T")
PREFETCHED_BATCHES = 2


@overload
def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture | OpenMixture,
    window: SampleSettings | None = None,
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
    repeat: int | None = None,
) -> Loader[Any]: ...


@overload
def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture | OpenMixture,
    window: SampleSettings | None = None,
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
    prepare: Callable[[Any], T],
    repeat: int | None = None,
) -> Loader[T]: ...


def load(
    ref_or_weights: str | Mapping[str, str | int | float | Fraction] | Mixture | OpenMixture,
    window: SampleSettings | None = None,
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
    prepare: Callable[[Any], Any] | None = None,
    repeat: int | None = None,
) -> Loader[Any]:
    """Batches of a dataset, of a stored mixture ('lift', 'lift@v3'), of weights, or of a Mixture, which
    may be open already.

    Weights are a mapping {'sim': 0.6, 'real': 0.4} or text 'sim=0.6,real=0.4'. `global_batch` rows make an
    optimiser step; rank `rank` of `world` iterates its share of them. `threads` decode and read ahead; 0
    reads in the caller's thread. Corrupt samples are substituted and recorded; more than `max_substitutions`
    of them, and more than the share `max_substituted` of the rank's samples so far, raise FoundryError.

    `window` are the settings of the kind of data, for robots a `windows.window.WindowSpec`; None its default.
    With `prepare` the loader gives what that makes of each batch, ahead of its use; see `Loader`. With
    `repeat` the first so many positions of the order come again and again.
    """
    skipped = getattr(window, "skipped", ())  # what is no window is refused below, where the kind is known
    opened = as_mixture(as_store(store), ref_or_weights, split=split, skip=skipped)
    kind = kind_of(opened)
    if window is not None and not isinstance(window, kind.settings):
        raise UsageError(
            f"a window of {opened.kind.samples} is a {kind.settings.__name__}, not a {type(window).__name__}"
        )
    loader: Loader[Any] = kind.open_loader(
        opened,
        kind.settings() if window is None else window,
        seed=seed,
        global_batch=global_batch,
        rank=rank,
        world=world,
        threads=threads,
        max_substitutions=max_substitutions,
        max_substituted=max_substituted,
        prepare=prepare,
        repeat=repeat,
    )
    return loader


class Loader(ABC, Generic[T]):
    """Iterates this rank's rows of the global batches b, b + 1, … and never ends; `batch(b)` reads any one.

    `window` are the settings that the kind of the data has for its samples, and `substitutions` says what was
    replaced for corruption in the batches given out so far.

    It gives the kind's batches, or with `prepare` what that makes of each: a function of the batch alone. It
    runs in the thread that makes batches ahead, with 0 threads and for `batch(b)` in the caller's. So two of
    its calls may run at once, and what torch keeps for each thread (no_grad, autocast) is to be set in it.

    It may be forked, pickled and copied: the other one opens its own files and threads, and goes on with the
    batch after the last one given out here. `prepare` goes along, and to be pickled it must be picklable.
    """

    def __init__(
        self,
        opened: OpenMixture,
        window: Any,
        *,
        seed: int,
        global_batch: int,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        max_substitutions: int = MAX_SUBSTITUTIONS,
        max_substituted: float = MAX_SUBSTITUTED,
        prepare: Callable[[Any], T] | None = None,
        repeat: int | None = None,
    ) -> None:
        check_topology(global_batch, rank, world, threads)
        self.store, self.mixture, self.window = opened.store, opened.mixture, window
        self._opened = opened
        self.seed, self.global_batch, self.rank, self.world = seed, global_batch, rank, world
        self._threads, self._repeat = threads, repeat
        self._max_substitutions, self._max_substituted = max_substitutions, max_substituted
        self._prepare = prepare
        self._substitutions: dict[int, Substitution] = {}
        self._next = 0
        self._rows_given = self._substituted_before = 0
        self._open()

    @abstractmethod
    def open_reader(self, share: Share) -> Reader[Any]:
        """The reader of the batches of a rank's share; asked again in another process.

        It is first asked for while the loader is made, so it may use what `Loader` has, and nothing that a
        subclass sets after that. Of a copy in another process only what `Loader` has goes along.
        """

    def counts(self) -> Sequence[int]:
        """How many samples each component has, which the order is of."""
        return self.mixture.counts

    def counted_by(self) -> Mapping[str, Any]:
        """What of `window` decides `counts`, by name, as JSON: with another the order is another."""
        return {}

    @property
    def opened(self) -> OpenMixture:
        """The mixture, open in this process: another one opens its own files."""
        kept: OpenMixture | None = vars(self).get("_opened")
        if kept is None or kept.store is not self.store:
            kept = self._opened = OpenMixture.of(self.store, self.mixture)
        return kept

    def _open(self) -> None:
        """All that belongs to one process: opened tables and tars, threads, and what they made ahead."""
        self._process = os.getpid()
        self._order = Order(self.mixture, seed=self.seed, counts=self.counts())
        self._share = Share(
            self._order,
            self.mixture.lanes,
            global_batch=self.global_batch,
            rank=self.rank,
            world=self.world,
            repeat=self._repeat,
        )
        self._reader = self.open_reader(self._share)
        self._ahead: deque[Future[tuple[T, Sequence[Substitution]]]] = deque()
        self._builder = ThreadPoolExecutor(1, "batches") if self._threads else None

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
        """The positions k of this rank's rows of global batch b, ascending but where they repeat."""
        return self._share.positions(b)

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
        identity = self._identity() | {"global_batch": self.global_batch}
        missing = [name for name in ("b", *identity) if name not in state]
        if missing:
            raise FoundryError(f"the loader state lacks {', '.join(missing)}")
        counts = {"b": state["b"], "substituted": state.get("substituted", 0)}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise FoundryError(f"the loader state has {name} {value!r}, which is no count")
        unlike = [name for name, value in identity.items() if state[name] != value]
        if unlike:
            listed = ", ".join(f"{name} {state[name]} (here {identity[name]})" for name in unlike)
            raise FoundryError(
                f"the loader state belongs to another order of samples: it has {listed}",
                hint="resume with the data, seed and global batch of the run, or start a new run",
            )
        self._drop_prefetched()
        self._next, self._substituted_before = int(counts["b"]), int(counts["substituted"])
        self._rows_given = self._next * len(self._share)
        self._substitutions.clear()

    def close(self) -> None:
        """End the threads and let go of the files; the loader gives no more batches."""
        self._drop_prefetched()
        if self._builder is not None:
            self._builder.shutdown()
        self._reader.close()

    def _identity(self) -> dict[str, Any]:
        order = {"seed": self.seed, "mixture_id": self.mixture.id, "order_version": ORDER_VERSION}
        repeated = {} if self._repeat is None else {"repeat": self._repeat}
        return order | dict(self.counted_by()) | repeated

    def _build(self, b: int) -> tuple[T, Sequence[Substitution]]:
        batch, substitutions = self._reader.read(b)
        return batch if self._prepare is None else self._prepare(batch), substitutions

    def _give(self, prepared: T, substitutions: Sequence[Substitution]) -> T:
        self._substitutions.update({item.k: item for item in substitutions})
        self._rows_given += len(self._share)
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
    *("mixture", "window", "seed", "global_batch", "rank", "world", "_threads", "_repeat", "_prepare"),
    *("_max_substitutions", "_max_substituted", "_next", "_rows_given", "_substituted_before"),
)


def _check_worker() -> None:
    """FoundryError in one of several workers of a torch DataLoader: each would give every batch."""
    data = sys.modules.get("torch.utils.data")
    worker = data.get_worker_info() if data is not None else None
    if worker is not None and worker.num_workers > 1:
        raise FoundryError(
            f"{worker.num_workers} workers of a torch DataLoader would each give every batch of this loader",
            hint="num_workers=0; load(…, threads=N) reads and decodes in N threads",
        )
