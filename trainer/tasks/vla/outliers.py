"""What to say of values far outside the scales of a run: which dim, which step, which frame of an episode."""

from __future__ import annotations

from collections.abc import Iterator

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.ingest.robot.dims import UNKNOWN_UNIT
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces
from robot_foundry.trainer.tasks.vla.scales import Scales


def outlier_notes(opened: OpenMixture, spaces: PolicySpaces, stream: str, scales: Scales) -> list[str]:
    """A line for each quantity that has outliers: its furthest one, and the steps of the chunk that have any.

    The frame is the one that the data checks found when the version was made. Relative targets have the
    outliers of the state that they are relative to.
    """
    lines = []
    for of, normalizers in (("state", scales.state), ("action", scales.action)):
        for number, normalizer in enumerate(normalizers):
            named = spaces.datasets[number].name if len(normalizers) > 1 else None
            for quantity, sentence in _outlier_sentences(normalizer):
                frames = _frames(opened, named, quantity, stream)
                where = (
                    f": {'; '.join(frames)}"
                    if frames
                    else ", which `foundry-data stats DATASET --plot FILE` shows"
                )
                lines.append(f"{of} {sentence}{where}")
    return lines


def _outlier_sentences(normalizer: Normalizer) -> Iterator[tuple[str, str]]:
    """(quantity, its outlier in words) of each quantity that has one."""
    furthest: dict[str, tuple[float, str]] = {}
    for i, dim in enumerate(normalizer.space):
        rows = [(None, normalizer.scalings), *enumerate(normalizer.offsets)]
        far = [(step, row[i]) for step, row in rows if row[i].outlier is not None]
        if not far:
            continue
        outlier, scale = max(
            ((abs(float(s.outlier or 0.0) - s.centre), s.scale) for _, s in far), key=lambda pair: pair[0]
        )
        steps = [step for step, _ in far if step is not None]
        at = f" at step {steps[0]}{f' … {steps[-1]}' if len(steps) > 1 else ''}" if steps else ""
        quantity = f"{dim.part}.{dim.quantity}"
        unit = "" if dim.unit == UNKNOWN_UNIT else f" {dim.unit}"
        sentence = f"{dim.name} has an outlier of {outlier:.3g}{unit}{at}, beside a scale of ±{scale:.3g}"
        furthest[quantity] = max(furthest.get(quantity, (0.0, "")), (outlier, sentence))
    for quantity, (_, sentence) in furthest.items():
        yield quantity, sentence


def _frames(opened: OpenMixture, named: str | None, quantity: str, stream: str) -> list[str]:
    """'frame 17 of demo-2 (lift)' of each dataset whose checks found single frames of the quantity."""
    wanted = {f"{column} {quantity}" for column in ("state", f"action.{stream}")}
    frames = []
    for part in opened.parts:
        if named not in (None, part.name):
            continue
        for finding in part.manifest.provenance.get("checks", {}).get("findings", ()):
            frame = finding.get("frame")  # versions that were made before it was kept have none
            if finding["check"] == "magnitude" and finding["where"] in wanted and frame is not None:
                frames.append(f"frame {frame} of {finding['episodes'][0]} ({part.name})")
    return list(dict.fromkeys(frames))
