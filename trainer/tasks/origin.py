"""Starting a run from the weights of another: a finished checkpoint, whose parameters are known by name.

What a task must know of the other run beside its weights is the task's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.checkpoints import checkpoint, tensors

Found = TypeVar("Found")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class InitSettings:
    """Where the first weights come from. Without `weights` they are random, keyed by the seed."""

    weights: str | None = None  # a run, checkpoint folder or pointer file; averaged weights if it has them
    only: tuple[str, ...] = ()  # names of parameters, or how they begin (backbone, head.blocks); () is all

    @property
    def begins(self) -> bool:
        """Whether there is anything to begin with."""
        return self.weights is not None


def init_problems(init: InitSettings) -> Iterator[str]:
    """One line where something is asked of weights, and none are named."""
    if init.weights is None and init != type(init)():
        *names, last = (f"init.{name}" for name in vars(init) if name != "weights")
        listed = f"{', '.join(names)} and {last}"
        yield f"init.weights: is missing; {listed} need a run to start from"


@dataclass(frozen=True)
class RunOrigin:
    """A finished checkpoint that another run starts from; `state` is its state.json."""

    folder: Path
    state: Mapping[str, Any]

    @classmethod
    def at(cls, folder: Path) -> RunOrigin:
        """Of a checkpoint that is proven (see `checkpoint.find`)."""
        return RunOrigin(folder, checkpoint.read_json(folder, checkpoint.STATE))

    def to_json(self) -> dict[str, Any]:
        """What a run says about where it came from."""
        identity = self.state["identity"]
        where = {"checkpoint": self.folder.as_posix(), "step": self.state["step"], "id": self.id}
        return {**where, "mixture_id": identity["mixture"]}

    @property
    def id(self) -> str:
        """Equal for checkpoints of equal weights: those of one identity at one step."""
        return digest_of({"identity": self.state["identity"], "step": self.state["step"]})

    def stored(self) -> Mapping[str, Shape]:
        """The shapes of its weights by parameter."""
        return tensors.weights(self.folder).shapes

    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        """Fill parameters, given by name, from its weights, averaged where it has averages, in place."""
        tensors.fill(self.folder, parameters)


def found_origin(find: Callable[[], Found], run_dir: Path) -> Found | None:
    """What a run starts from; one that has checkpoints of its own needs it no more, so it may be gone."""
    try:
        return find()
    except FoundryError:
        if checkpoint.latest(run_dir) is None:
            raise
        return None


def wanted(model: nn.Module, only: Sequence[str]) -> dict[str, Tensor]:
    """The parameters that `only` names, all where it is empty."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if chosen(name, only)}


def chosen(name: str, only: Sequence[str]) -> bool:
    """Whether `only` is empty, or has the name of the parameter or how it begins."""
    return not only or any(name == word or name.startswith(f"{word}.") for word in only)


def unknown(model: nn.Module, only: Sequence[str]) -> list[str]:
    """One line for each word of `only` that no parameter begins with."""
    every = [name for name, _ in model.named_parameters()]
    beginnings = _beginnings(every)
    return [
        f"init.only: no parameter begins with '{word}'{_meant(word, beginnings)}"
        for word in only
        if not any(chosen(name, (word,)) for name in every)
    ]


def misfits(
    parameters: Mapping[str, Tensor], stored: Mapping[str, Shape], free: Mapping[str, int] | None = None
) -> Iterator[str]:
    """One line for each parameter of one side alone, or of another shape.

    `free` are the axes, by parameter, that may be longer or shorter.
    """
    for name, tensor in parameters.items():
        there, here = stored.get(name), tuple(tensor.shape)
        if there is None:
            yield f"{name} is not there"
            continue
        expected = list(here)
        if free and name in free and len(there) == len(here):
            expected[free[name]] = there[free[name]]
        if there != tuple(expected):
            yield f"{name} is {there} there and {here} here"
    yield from (f"{name} is there alone" for name in stored if name not in parameters)


def check_fits(problems: Sequence[str], where: str, hint: str) -> None:
    """FoundryError that lists all that keeps the weights of `where` from filling a model."""
    if problems:
        listed = "".join(f"\n  {line}" for line in problems)
        raise FoundryError(f"the weights of {where} do not fit this model:{listed}", hint=hint)


def _meant(word: str, beginnings: Sequence[str]) -> str:
    """As `nearest`; a part may be called by its own name, without those of the parts that it lies in."""
    within = next((one for one in beginnings if one.endswith(f".{word}")), None)
    return nearest(word, beginnings) if within is None else f", did you mean '{within}'?"


def _beginnings(names: Collection[str]) -> list[str]:
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(words[:n]) for words in parts for n in range(1, len(words) + 1)))
