"""Specs that contradict the data: what the checks find of five confusions, over all specs of Open
X-Embodiment.

    python benchmarks/confusion.py [--only PART,PART] [--samples FOLDER] [--json FILE] [--verbose]

For each spec of `ingest/specs/oxe` a TFDS folder is written of the features that the dataset publishes,
with six recordings of robot motion in it, by a table of what the dataset writes that shares nothing with
the package. It is ingested with the right spec (any finding is a false alarm), and once with each confusion
that the spec can state. A confusion is flagged where a finding comes that the right spec has not, and named
where that finding tells the cause.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from foundry_testing.oxe.confusion_runs import SAMPLES, Outcome, outcomes, sample_outcomes
from foundry_testing.oxe.confusions import ERRORS
from foundry_testing.oxe.recorded import written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="names of datasets, or parts of them, with commas between")
    parser.add_argument("--samples", type=Path, help="the folder of real recordings: these instead")
    parser.add_argument("--json", type=Path, help="a file that gets every outcome")
    parser.add_argument("--verbose", action="store_true", help="print what was not found, or not named")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    done: list[Outcome] = []
    names = written() if arguments.samples is None else SAMPLES
    for name in (name for name in names if any(part in name for part in parts)):
        with tempfile.TemporaryDirectory() as folder:
            if arguments.samples is None:
                of_name = outcomes(name, Path(folder))
            else:
                of_name = sample_outcomes(arguments.samples, name, Path(folder))
        done += of_name
        if arguments.verbose:
            for outcome in of_name:
                print(outcome, flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps([outcome.to_json() for outcome in done], indent=1))
    print(table(done))


def table(done: list[Outcome]) -> str:
    """Markdown: by error what could be found, what was, and what the cause was named of."""
    right = [outcome for outcome in done if not outcome.error]
    lines = [
        "| confusion | specs without it | undetectable | detectable | flagged | cause named |",
        "|---|---|---|---|---|---|",
    ]
    total = [0, 0, 0]
    for error in ERRORS:
        of_error = [outcome for outcome in done if outcome.error == error]
        open_ = [outcome for outcome in of_error if not outcome.hidden]
        without = len({o.name for o in done} - {o.name for o in of_error})
        counts = [len(open_), sum(o.flagged for o in open_), sum(o.named for o in open_)]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        hidden = len(of_error) - len(open_)
        lines.append(f"| {error} | {without} | {hidden} | {' | '.join(map(str, counts))} |")
    alarms = sum(bool(outcome.findings) for outcome in right)
    findings = sum(len(outcome.findings) for outcome in right)
    lines.append(f"| all | | | {' | '.join(map(str, total))} |")
    lines.append(f"\nRight specs: {len(right)}, of which {alarms} have a finding ({findings} in all).")
    return "\n".join([*lines, f"Versions made: {len(done)}."])


if __name__ == "__main__":
    main()
