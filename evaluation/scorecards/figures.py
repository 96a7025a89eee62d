"""From the reports of a run to rows of its scorecard, one function a kind of report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.openloop.errors import MEASURES
from robot_foundry.evaluation.openloop.report import CONTROLS as STANDING
from robot_foundry.evaluation.openloop.report import GAINS
from robot_foundry.evaluation.openloop.report import POLICY as PREDICTED
from robot_foundry.evaluation.scorecards.reports import (
    LLM,
    OPENLOOP,
    ROLLOUT,
    VLM,
    Report,
    Subject,
    read_reports,
)
from robot_foundry.evaluation.scorecards.rollout_controls import control_of, is_control, is_whole
from robot_foundry.evaluation.scorecards.rows import (
    BARE,
    SHARE,
    Control,
    Row,
    by_gain,
    by_interval,
    by_value,
    pair,
)
from robot_foundry.evaluation.vlm.controls import BLANK, LOSS_CONDITIONS, REAL, SHUFFLED
from robot_foundry.trainer.meters import METRICS, read_metrics

BITS = "bits_per_byte"
BITS_OF_A_BYTE, OF_TEXT = 8.0, "bits a byte"


def text_rows(run: Path, subject: Subject) -> Iterator[Row]:
    """Bits a byte of held-out text: as it was evaluated, else as the run recorded them while it trained."""
    reports = read_reports(run, LLM)
    for report in reports:
        values, bits = report.values, report.values["bits_per_byte"]
        number, interval = f"{values['rows']:,} rows", pair(values["real_95"])
        alone = by_gain("tokens without context", bits["alone"], None, values["gain"]["interval_95"])
        path, stale = str(report.path), _stale(report, subject)
        what = f"text ({values['split']})"
        yield Row(what, number, OF_TEXT, bits["real"], interval, (alone,), path, stale)
    if not reports:
        yield from _recorded(run, subject)


def _recorded(run: Path, subject: Subject) -> Iterator[Row]:
    """Those of the run's records at the step of the checkpoint, or the last before."""
    told = [record for record in read_metrics(run) if record.get(BITS) is not None]
    if at_or_before := [record for record in told if record["step"] <= subject.step]:
        record = at_or_before[-1]
        bits = float(record[BITS])
        bytes_alike = Control("bytes that are all alike", BITS_OF_A_BYTE, None, bits < BITS_OF_A_BYTE, BARE)
        stale = None if record["step"] == subject.step else f"step {record['step']}"
        yield Row("held-out text", "", OF_TEXT, bits, None, (bytes_alike,), str(run / METRICS), stale)


def answer_rows(run: Path, subject: Subject) -> Iterator[Row]:
    """Answers by kind, right and (of numbers) within one, and the loss."""
    for report in read_reports(run, VLM):
        values, stale = report.values, _stale(report, subject)
        about = f"{values['mix']} ({values['split']})"
        for kind, scores in values["kinds"].items():
            number = f"{scores[REAL]['answers']:,} answers"
            for measure, told in (("exact", "right"), ("near", "within 1")):
                if measure in scores[REAL]:
                    value, interval = scores[REAL][measure], pair(scores[REAL][f"{measure}_95"])
                    controls = tuple(_answer_controls(scores, measure))
                    what = f"{about}: {kind}, {told}"
                    yield Row(what, number, SHARE, value, interval, controls, str(report.path), stale)
        loss = values["loss"]
        controls = tuple(_loss_controls(loss))
        number = f"{loss[REAL]['tokens']:,} tokens"
        path = str(report.path)
        yield Row(f"{about}: loss", number, "nats a token", loss[REAL]["nats"], None, controls, path, stale)


def _answer_controls(scores: Mapping[str, Any], measure: str) -> Iterator[Control]:
    own = pair(scores[REAL][f"{measure}_95"])
    assert own is not None
    for name in (BLANK, SHUFFLED):
        if name not in scores:
            continue
        value, interval = scores[name][measure], pair(scores[name][f"{measure}_95"])
        gain = scores.get(f"{REAL}_minus_{name}", {}).get(f"{measure}_95")
        if gain is not None:
            yield by_gain(name, value, interval, gain)
        elif interval is not None:
            yield by_interval(name, value, interval, own)
    guesses = [scores["chance"][guess][measure] for guess in ("commonest", "uniform")]
    yield by_value("chance", max(guesses), own)


def _loss_controls(loss: Mapping[str, Any]) -> Iterator[Control]:
    for name in LOSS_CONDITIONS:
        if (more := loss.get(f"{name}_minus_{REAL}")) is not None:
            yield by_gain(name, loss[name]["nats"], None, more["nats_95"])


def openloop_rows(run: Path, subject: Subject) -> Iterator[Row]:
    """Errors of chunks by dataset and measure, beside those of robots that see nothing."""
    for report in read_reports(run, OPENLOOP):
        split = report.values["split"]
        for dataset, found in report.values["datasets"].items():
            episodes = found["episodes"]
            number = f"{found['chunks']:,} chunks, {episodes:,} episode{'s' * (episodes != 1)}"
            for name, value in found[PREDICTED].items():
                measure = MEASURES[name]
                what = f"{dataset} ({split}): {measure.header}"
                interval = pair(found[f"{PREDICTED}_95"][name])
                controls = tuple(_standing(found, name))
                unit = SHARE if measure.more_is_better else ""
                path, stale = str(report.path), _stale(report, subject)
                yield Row(what, number, unit, value, interval, controls, path, stale)


def _standing(found: Mapping[str, Any], measure: str) -> Iterator[Control]:
    """The controls of open loop that a report has; older ones have the first alone."""
    for control, name in STANDING.items():
        if control in found:
            gain = (found[GAINS[control]][measure] or {}).get("interval_95")
            yield by_gain(name, found[control][measure], None, gain)


def rollout_rows(run: Path, subject: Subject) -> Iterator[Row]:
    """Success rates of the policy by task and by how late its answers come, beside what it reaches as late
    without pictures or words, and chance."""
    reports = read_reports(run, ROLLOUT)
    for report in reports:
        values = report.values
        if not is_whole(values):
            continue
        others = [other for other in reports if is_control(other.values, values)]
        controls = tuple(control_of(values, other.values) for other in others)
        what = f"{values['world']}, {values['task']} ({values['variant']}): success"
        late, on = values.get("delay", 0), ", continued" if values.get("rtc") else ""
        what += f", answers {late} steps late{on}" if late else on
        what += ", averaged" if values.get("ensemble") is not None else ""
        number, interval = f"{values['trials']:,} scenes", pair(values["interval_95"])
        path, stale = str(report.path), _stale(report, subject)
        yield Row(what, number, SHARE, values["rate"], interval, controls, path, stale)


def _stale(report: Report, subject: Subject) -> str | None:
    """The other checkpoint that a report is of."""
    return None if report.is_of(subject.weights_id) else f"step {report.values.get('step')}"
