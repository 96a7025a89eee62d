"""A scorecard for people and for files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.vlm.controls import BLANK, LOSS_CONDITIONS, REAL, SHUFFLED
from robot_foundry.evaluation.vlm.scorecard import Scorecard
from robot_foundry.runtime.storage.storage import open_storage

SCORECARD, ANSWERS = "scorecard.json", "answers.jsonl"
HEADERS = ("kind", "asked", "right", "95 %", "blank", "shuffled", "commonest", "uniform", "gain", "95 %")
NEAR_HEADERS = ("numbers", "within 1", "95 %", "blank", "shuffled", "commonest", "uniform", "mean distance")


def save(card: Scorecard, about: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write the figures and every answer to the folder `out`; `about` says what was scored, and how."""
    report = {**about, **card.to_json(), "files": [SCORECARD, ANSWERS]}
    storage = open_storage(out)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in card.rows()]
    storage.write(ANSWERS, "".join(lines).encode())
    storage.write(SCORECARD, (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode())
    return report


def kind_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each kind of question, under HEADERS: right answers, and what controls and guessing give.

    The gain is over blank pictures, in points of a hundred.
    """
    rows = []
    for kind, scores in report["kinds"].items():
        gain = scores.get(f"{REAL}_minus_{BLANK}")
        low, high = (0.0, 0.0) if gain is None else gain["exact_95"]
        rows.append(
            (
                kind,
                f"{scores[REAL]['answers']:,}",
                *_shares(scores, "exact"),
                "-" if gain is None else f"{100 * gain['exact']:+.1f}",
                "-" if gain is None else f"{100 * low:+.1f} … {100 * high:+.1f}",
            )
        )
    return rows


def number_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """As `kind_rows`, under NEAR_HEADERS, of the kinds whose answers are numbers: how many are near."""
    rows = []
    for kind, scores in report["kinds"].items():
        if "near" in scores[REAL]:
            distance = scores[REAL]["mean_distance"]
            rows.append((kind, *_shares(scores, "near"), "-" if distance is None else f"{distance:.2f}"))
    return rows


def loss_line(report: Mapping[str, Any]) -> str:
    """The losses in one line."""
    loss = report["loss"]
    parts = [f"{name} {loss[name]['nats']:.4f}" for name in LOSS_CONDITIONS if name in loss]
    for name in LOSS_CONDITIONS:
        more = loss.get(f"{name}_minus_{REAL}")
        if more is not None:
            low, high = more["nats_95"]
            parts.append(f"{name} - {REAL} {more['nats']:+.4f} (95 % {low:+.4f} … {high:+.4f})")
    return f"loss, nats a token: {', '.join(parts)}"


def _shares(scores: Mapping[str, Any], name: str) -> list[str]:
    low, high = scores[REAL][f"{name}_95"]
    controls = [scores[control][name] if control in scores else None for control in (BLANK, SHUFFLED)]
    guesses = [scores["chance"][guess][name] for guess in ("commonest", "uniform")]
    shares = ["-" if share is None else f"{share:.1%}" for share in (*controls, *guesses)]
    return [f"{scores[REAL][name]:.1%}", f"{low:.1%} … {high:.1%}", *shares]
