"""Named mixtures: weights of datasets by name, packaged or in a file of one's own.

power: 1          # a dataset's share is its weight times its number of samples to this power; default 0
weights:
  lift: 2.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import REQUIRED
from robot_foundry.ingest.spec.yaml_text import parse_yaml
from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.files import read_utf8

# Before the name of a mixture, or the path of its file.
MARK = "@"
# Digits that are kept of a number of samples to a power that is no whole number: alike on every machine.
DIGITS = 12


@dataclass(frozen=True)
class MixtureFile:
    """`weights` are of datasets (or references to them), in the order of the file."""

    name: str
    weights: Mapping[str, Fraction]
    power: Fraction = Fraction(0)

    def shares(self, num_samples: Callable[[str], int]) -> dict[str, Fraction]:
        """The weights as they count: times the samples of the dataset to `power`."""
        return {
            ref: weight * (_raised(num_samples(ref), self.power) if self.power else 1)
            for ref, weight in self.weights.items()
        }


def builtin_mixtures() -> list[str]:
    """Names of the mixtures that come with the package."""
    folder = resources.files("robot_foundry.ingest") / "mixtures"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_mixture(marked: str) -> MixtureFile:
    """`@oxe_magic_soup` or `@my/mixture.yaml`. UsageError lists every problem of the file."""
    name = marked.removeprefix(MARK)
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(f"there is no file {name}", hint="docs/oxe.md says what a mixture's file has")
        return _read(read_utf8(Path(name)), name)
    names = builtin_mixtures()
    if name not in names:
        raise UsageError(
            f"there is no mixture '{name}'{nearest(name, names)} (mixtures: {', '.join(names)})",
            hint="give one of these, or the path of your own .yaml",
        )
    path = resources.files("robot_foundry.ingest") / "mixtures" / f"{name}.yaml"
    return _read(path.read_text("utf-8"), name)


def check_present(mixture: MixtureFile, present: Sequence[str]) -> None:
    """UsageError if the store lacks datasets of it."""
    lacking = [ref for ref in mixture.weights if ref.partition("@")[0] not in present]
    if lacking:
        count = f"{len(lacking)} of the {len(mixture.weights)} datasets of {mixture.name}"
        raise UsageError(
            f"the store lacks {count}: {', '.join(lacking)}",
            hint="ingest them (foundry-data ingest takes several specs at once), or leave them out in a file "
            "of your own: --weights @mine.yaml",
        )


def _read(text: str, where: str) -> MixtureFile:
    problems: list[str] = []
    top = checks.Section(parse_yaml(text, where), "", problems)
    power = top.take("power", checks.number, 0.0)
    weights = top.take("weights", _weights, REQUIRED) or {}
    top.close()
    checks.check_none(problems, where, hint="docs/oxe.md says what a mixture's file has")
    return MixtureFile(Path(where).stem, weights, _exact(power))


def _weights(value: object) -> dict[str, Fraction]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"expected datasets and weights, got {value!r}")
    return {checks.text(ref): _exact(checks.positive(weight)) for ref, weight in value.items()}


def _exact(number: float) -> Fraction:
    """As the decimal that it is written as: 0.1 is 1/10."""
    return Fraction(str(number))


def _raised(count: int, power: Fraction) -> Fraction:
    """Exact for whole powers, else of so many digits."""
    if power.denominator == 1:
        return Fraction(count) ** int(power)
    return Fraction(f"{count ** float(power):.{DIGITS}g}")
