"""What is said of a run of which no step has ended for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robot_foundry.trainer.metering import phases

_SHOWN = 4  # tars that are named
# What a rank does or waits for in each phase, of the step {step}.
_WAITS = {
    phases.START: "what comes before the first step",
    phases.DATA: "its batch of step {step}",
    phases.RANKS: "the other ranks, which have to bring what they count in step {step}",
    phases.FORWARD: "the forward pass of step {step}",
    phases.BACKWARD: "the backward pass of step {step}{gradients}",
    phases.OPTIMIZER: "the optimiser in step {step}{gradients}",
    phases.RECORD: "the record after step {step}, whose sums are of all ranks",
    phases.HELD_OUT: "held-out losses after step {step}",
    phases.CHECKPOINT: "the checkpoint of step {step}, which is being written",
    phases.ENDED: "what comes after the last step",
}


def sentence(
    phase: str, step: int, seconds: float, rank: int, size: int, reading: Callable[[], Sequence[str]]
) -> str:
    """What rank `rank` of `size` waits for, where `step` steps have ended and then none for so long.

    `reading` says which tars are being read, where that may be what is waited for.
    """
    # Steps are numbered from 1, as in records: what is under way is the next, what follows one is of that.
    after = phase in (phases.RECORD, phases.HELD_OUT, phases.CHECKPOINT)
    gradients = f", in which {size} ranks exchange gradients" if size > 1 else ""
    what = _WAITS[phase].format(step=step if after else step + 1, gradients=gradients)
    who = f"rank {rank} waits" if size > 1 else "the run waits"
    tars = reading() if phase in (phases.DATA, phases.HELD_OUT) else ()
    return f"no step has ended for {seconds:.3g} s; {who} for {what}{_read(phase, tars)}"


def _read(phase: str, tars: Sequence[str]) -> str:
    if not tars:
        return ", and no tar is being read" if phase == phases.DATA else ""
    more = f" and {len(tars) - _SHOWN} more" if len(tars) > _SHOWN else ""
    return f", and {', '.join(tars[:_SHOWN])}{more} {'is' if len(tars) == 1 else 'are'} being read"
