"""Several streams make one, and what is learnt of each weighs as much as is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.evaluate import HeldOut
from robot_foundry.trainer.meters import Meters, weighted
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.streams import Joined, Prepared

ONE = Ranks(0, 1, torch.device("cpu"))


@dataclass
class Numbers:
    """Steps of a stream, whose inputs name it, the step and the microbatch.

    `damaged` says what is replaced at which step.
    """

    name: str
    loss: str
    accumulate: int = 2
    damaged: Mapping[int, str] = field(default_factory=dict)
    b: int = 0
    closed: bool = False
    fails: bool = False
    substitutions: tuple[str, ...] = ()

    def __enter__(self) -> Numbers:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        if self.fails:
            raise OSError(f"{self.name} cannot be closed")

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.b += 1
        return self.batch(self.b - 1)

    def batch(self, b: int) -> Any:
        if b in self.damaged:
            self.substitutions += (self.damaged[b],)
        inputs: Any = tuple((self.name, b, i) for i in range(self.accumulate))
        return Prepared(b, inputs, {self.loss: 10 * b}, {"tokens": b + 0.5, self.name: 1.0})

    def state_dict(self) -> dict[str, Any]:
        return {"b": self.b, "mixture_id": f"mixture of {self.name}", "seed": 7}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state["mixture_id"] == f"mixture of {self.name}"
        self.b, self.substitutions = state["b"], ()


def joined(*streams: Numbers) -> Joined:
    return Joined({one.name: one for one in streams}, lambda parts: dict(parts))  # type: ignore[arg-type]


def test_a_step_has_the_rows_of_all_streams() -> None:
    stream = joined(Numbers("pairs", "answer"), Numbers("words", "text"))
    steps = [next(stream) for _ in range(3)]
    assert steps[2] == stream.batch(2)
    assert [step.step for step in steps] == [0, 1, 2]
    assert steps[2].inputs == tuple({"pairs": ("pairs", 2, i), "words": ("words", 2, i)} for i in range(2))
    assert steps[2].counts == {"answer": 20, "text": 20}
    assert steps[2].sizes == {"tokens": 5.0, "pairs": 1.0, "words": 1.0}


@given(st.integers(0, 6), st.integers(0, 6))
def test_it_goes_on_from_any_step(before: int, after: int) -> None:
    stream = joined(Numbers("pairs", "answer"), Numbers("words", "text"))
    for _ in range(before):
        next(stream)
    state = stream.state_dict()
    assert state["b"] == before
    assert state["mixture_id"] == {"pairs": "mixture of pairs", "words": "mixture of words"}
    other = joined(Numbers("pairs", "answer"), Numbers("words", "text"))
    other.load_state_dict({**state, "b": after})
    assert next(other).step == after
    with pytest.raises(AssertionError):
        joined(Numbers("words", "text"), Numbers("pairs", "answer")).load_state_dict(
            {**state, "streams": {"words": state["streams"]["pairs"], "pairs": state["streams"]["words"]}}
        )


def test_what_was_replaced_in_each_is_told_in_the_order_in_which_it_was_found() -> None:
    """What was seen once stays where it is, as those who take note count on."""
    stream = joined(Numbers("a", "x", damaged={2: "a2", 4: "a4"}), Numbers("b", "y", damaged={1: "b1"}))
    seen: list[list[str]] = []
    for _ in range(5):
        next(stream)
        seen.append(list(stream.substitutions))
    assert seen == [[], ["b1"], ["b1", "a2"], ["b1", "a2"], ["b1", "a2", "a4"]]
    stream.load_state_dict(stream.state_dict())
    assert list(stream.substitutions) == []


def test_all_are_closed_even_if_one_cannot_be() -> None:
    streams = [Numbers("a", "x", fails=True), Numbers("b", "y", fails=True), Numbers("c", "z")]
    with pytest.raises(OSError, match="a cannot be closed"), joined(*streams):
        pass
    assert all(stream.closed for stream in streams)


def test_streams_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="the stream words counts answer as another one does"):
        joined(Numbers("pairs", "answer"), Numbers("words", "answer")).batch(0)
    with pytest.raises(ValueError, match="in equally many microbatches"):
        joined(Numbers("pairs", "answer"), Numbers("words", "text", accumulate=3)).batch(0)


def _metered(device: Mapping[str, int], host: Mapping[str, int], weights: Mapping[str, float]) -> Any:
    meters = Meters(ONE, skipped=0, streak=0, max_streak=9, loss_weights=weights)
    meters.losses({name: (torch.tensor(6.0), torch.tensor(count)) for name, count in device.items()})
    finite = torch.tensor(True)
    meters.step(samples=1, counts=host, sizes={}, norm=torch.tensor(1.0), taken=finite)
    return meters.record(1)


def test_the_loss_is_that_of_all_streams_by_their_weights() -> None:
    record = _metered({"answer": 2, "text": 3}, {"answer": 2, "text": 3}, {"text": 0.25})
    assert (record["loss/answer"], record["loss/text"]) == (3, 2)
    assert record["loss"] == weighted({"answer": 3, "text": 2}, {"text": 0.25}) == 3.5


@pytest.mark.parametrize(
    ("device", "host", "said"),
    [
        ({"answer": 2}, {"answer": 2, "text": 3}, "the model counted 0 of 'text', the batches 3"),
        ({"answer": 2, "text": 3}, {"answer": 2}, "the model counted 3 of 'text', the batches 0"),
    ],
)
def test_a_loss_of_one_side_alone_is_named(device: dict[str, int], host: dict[str, int], said: str) -> None:
    with pytest.raises(FoundryError, match=said):
        _metered(device, host, {})
    assert _metered({"answer": 2}, {"answer": 2, "text": 0}, {})["loss"] == 3  # nothing was there to learn


def test_held_out_losses_weigh_alike() -> None:
    class Two(torch.nn.Module):
        def forward(self, inputs: Any) -> Any:
            return {"answer": (inputs.sum(), torch.tensor(2)), "text": (inputs.sum(), torch.tensor(1))}

    class Stream(Numbers):
        def batch(self, b: int) -> Any:
            return Prepared(b, (torch.tensor([float(b + 1)]),), {}, {})  # type: ignore[arg-type]

    class Replaced:
        counts: Mapping[str, int] = {"held_out": 0}

        def new(self, split: str) -> int:
            return 0

    stream: Any = Stream("pairs", "answer")
    replaced: Any = Replaced()
    held_out = HeldOut(stream, replaced, ONE, 4, 2, "fp32", lambda sums: {}, {"text": 0.5})
    losses = held_out.losses(Two(), {})  # of the numbers 1 and 2
    assert (losses["held_out/answer"], losses["held_out/text"]) == (3 / 4, 3 / 2)
    assert losses["held_out"] == 3 / 4 + 0.5 * 3 / 2
