"""Running the stages of a pipeline that are not done, each in a process of its own, one after the other."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.catalog.store import STORE_VARIABLE
from robot_foundry.cli.pipeline.done_by_dvc import DvcLock
from robot_foundry.cli.pipeline.pipeline_file import Pipeline, Stage
from robot_foundry.cli.pipeline.programs import process_of
from robot_foundry.cli.pipeline.stage_records import (
    Asked,
    Record,
    Records,
    asked_of,
    product_of,
    why_not_done,
)
from robot_foundry.runtime.errors import EXIT_PREEMPTED, FoundryError, Preempted

Tell = Callable[[str], None]
STDERR = 2


@dataclass(frozen=True)
class Told:
    """A stage as it stands: `why` it had, or has, to run, None if it was done; seconds of its last run."""

    stage: Stage
    arguments: tuple[str, ...]
    why: str | None
    seconds: float | None


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what asked to stop, if anything did."""

    code: int
    stopped: KeyboardInterrupt | None
    seconds: float


@dataclass(frozen=True)
class Work:
    """A pipeline, the store of its commands, what was done of it before, also by dvc, and the command that
    goes on."""

    pipeline: Pipeline
    store: str
    records: Records
    again: str
    by_dvc: DvcLock

    def plan(self) -> list[Told]:
        """Every stage as it stands, without running any. One that reads what is to be made has to run."""
        products: dict[str, str] = {}
        told: list[Told] = []
        for stage in self.pipeline.stages:
            waits = [need for need in stage.needs if need not in products]
            asked = self._asked(stage, products)
            record, why = self._standing(stage, asked, product_of(stage.out, self.store))
            if why is None and waits:
                why = f"{', '.join(waits)} will be made anew"
            if why is None and record is not None:
                products[stage.name] = record.product
            told.append(Told(stage, asked.run, why, None if record is None else record.seconds))
        return told

    def run(self, tell: Tell, lock: int) -> list[Told]:
        """Run what is not done; `lock` is what `alone` gave. FoundryError names the stage that failed;
        Preempted, or KeyboardInterrupt, comes after the stage has ended in order."""
        products: dict[str, str] = {}
        told: list[Told] = []
        for number, stage in enumerate(self.pipeline.stages, 1):
            asked, there = self._asked(stage, products), product_of(stage.out, self.store)
            record, why = self._standing(stage, asked, there)
            if why is not None or record is None:
                tell(f"\n[{number}/{len(self.pipeline.stages)}] {stage.name}: {why}")
                tell(f"$ {shlex.join(asked.run)}")
                unknown = there is not None and record is None
                if record is not None and record.out == stage.out:
                    _remove(Path(stage.out))  # what this stage made before, and nothing else
                Path(stage.out).parent.mkdir(parents=True, exist_ok=True)
                ended = _run(process_of(asked.run), {**os.environ, STORE_VARIABLE: self.store}, lock)
                record = self._made(stage, asked, ended, unknown)
                self.records.write(stage.name, record)
                if ended.stopped is not None:
                    raise ended.stopped
            elif record != self.records.read(stage.name):
                self.records.write(stage.name, record)  # dvc did it
            products[stage.name] = record.product
            told.append(Told(stage, asked.run, why, record.seconds))
        return told

    def _standing(self, stage: Stage, asked: Asked, there: str | None) -> tuple[Record | None, str | None]:
        """What is remembered of a stage, and why it has to run; `there` is what lies where its product goes.

        What dvc did counts as if it had been done here.
        """
        record = self.records.read(stage.name)
        why = why_not_done(record, asked, there)
        if why is None or there is None or asked.reads.keys() != set(stage.needs):
            return record, why
        outs = {other.name: other.out for other in self.pipeline.stages}
        reads = [*asked.files, *(outs[need] for need in stage.needs)]
        if self.by_dvc.proves(stage.name, asked.run, reads, stage.out):
            return Record(asked, stage.out, there, None), None
        return record, why

    def _asked(self, stage: Stage, products: dict[str, str]) -> Asked:
        reads = {need: products[need] for need in stage.needs if need in products}
        return asked_of(self.pipeline, stage, self.store, reads)

    def _made(self, stage: Stage, asked: Asked, ended: Ended, unknown: bool) -> Record:
        """What is remembered of a stage that ended well; raises what a stage that did not ended with.

        `unknown` is whether something of which nothing is known lay where its product goes.
        """
        code = ended.code
        if code != 0 and ended.stopped is not None:
            raise ended.stopped
        if code == EXIT_PREEMPTED:
            stopped = f"the stage '{stage.name}' was asked to stop and has saved where it is"
            raise Preempted(stopped, hint=f"to go on from there: {self.again}")
        if code != 0:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
            )
            hint = f"what is done stays done; to go on from there: {self.again}"
            if unknown:
                hint = f"if {stage.out}, which nothing says that it made, is in its way, move that; {hint}"
            raise FoundryError(f"the stage '{stage.name}' {how}: {shlex.join(asked.run)}", hint=hint)
        product = product_of(stage.out, self.store)
        if product is None:
            raise FoundryError(f"the stage '{stage.name}' ended well and did not write {stage.out}")
        return Record(asked, stage.out, product, ended.seconds)


@contextmanager
def alone(folder: Path, tell: Tell) -> Iterator[int]:
    """Hold a pipeline's folder, and give what holds it, an open file, to `Work.run`.

    A stage holds it too: one whose pipeline was killed is waited for, and not run beside itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("A stage that was started earlier is still at work; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _run(command: Sequence[str], environment: dict[str, str], lock: int) -> Ended:
    """Run a command to its end; what it prints as its result goes to stderr.

    A session of its own: what the terminal sends it gets from here, once, and has the time to stop in order.
    """
    started, stopped = time.monotonic(), None
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        start_new_session=True,
        pass_fds=(lock,),
    ) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt as asked:  # SIGTERM comes as one of its subclasses
                process.send_signal(signal.SIGINT if type(asked) is KeyboardInterrupt else signal.SIGTERM)
                stopped = asked
    return Ended(process.returncode, stopped, round(time.monotonic() - started, 1))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
