"""Variants in a process of their own, which may take so much CPU time, and may die.

As a program it is the child: lines of [form, case, number, seed] on stdin, a line of what became of each on
stdout. Where it dies, the variant at which it died is known, and another child goes on behind it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from foundry_testing.corruption.declared import Outcome, Variant
from foundry_testing.corruption.suite import FORMS
from foundry_testing.corruption.trial import MOST_CPU_SECONDS, Sound, Trial, tried


def tried_apart(variants: Sequence[Variant]) -> Iterator[tuple[Variant, Trial]]:
    """What became of each variant; one that ends the process has that as its fault."""
    rest = list(variants)
    while rest:
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            while rest:
                variant = rest.pop(0)
                told = [variant.form.name, variant.case.what, variant.number, variant.seed]
                child.stdin.write(json.dumps(told) + "\n")
                child.stdin.flush()
                line = child.stdout.readline()
                if not line:
                    yield variant, Trial(Outcome(0), (f"the process died: {child.wait()}",), ())
                    break
                outcome, faults, said = json.loads(line)
                yield variant, Trial(Outcome(outcome), tuple(faults), tuple(said))


def main() -> None:
    forms, sounds = {form.name: form for form in FORMS}, dict[str, Sound]()
    with TemporaryDirectory(prefix="corruption-") as folder:
        for line in sys.stdin:
            name, what, number, seed = json.loads(line)
            form = forms[name]
            if name not in sounds:
                sounds[name] = Sound.of(form, Path(folder, f"sound-{len(sounds)}"))
            case = next(case for case in form.cases if case.what == what)
            _limit_cpu()
            trial = tried(Variant(form, case, number, seed), sounds[name], Path(folder, "tried"))
            print(json.dumps([trial.outcome.value, trial.faults, trial.said]), flush=True)


def _limit_cpu() -> None:
    """What hangs below Python, where no exception reaches it, is killed by the system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 2 * MOST_CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
