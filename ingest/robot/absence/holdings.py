"""What a source holds, counted over its episodes, and what of it a mapping takes.

It works on surveys (episode.json and the shapes of the source arrays), so it reads no numbers and no image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.spec.quantities import GRIPPER, quantity_kind
from robot_foundry.ingest.robot.spec.spec import Content, Field, MappingSpec

# Arrays that are always there, and that every table has.
TIMESTAMP = "timestamp"


@dataclass
class Holdings:
    """Numbers of episodes that have each name. `shapes` are those of an array's rows where it comes first.

    `left_out` counts arrays and files that the reader did not take, by name and reason. `images` are the
    arrays of the cameras, `environments` the names of those that made the episodes.
    """

    episodes: int = 0
    arrays: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    cameras: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    attributes: Counter[str] = field(default_factory=Counter)
    of_files: Counter[str] = field(default_factory=Counter)
    environments: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, episodes: Iterable[Surveyed]) -> Holdings:
        """Those of the episodes; the same whatever their order, but for shapes that differ."""
        holdings, surveyed = cls(), list(episodes)
        # Episodes of a source have most of this in common, and surveys share it: it is counted once for all.
        alike: Counter[tuple[int, ...]] = Counter()
        first: dict[tuple[int, ...], Surveyed] = {}
        for item in surveyed:
            episode = item.episode
            holdings.attributes.update(episode["attributes"].keys())
            parts = (item.shapes, episode["cameras"], episode["left_out"], episode["environment"])
            same = tuple(map(id, parts))
            alike[same] += 1
            first.setdefault(same, item)
        for same, count in alike.items():
            holdings._add(first[same], count)
        return holdings

    def _add(self, item: Surveyed, count: int) -> None:
        """All but the attributes of as many episodes as are like this one."""
        episode = item.episode
        self.episodes += count
        for name, shape in item.shapes.items():
            if name != TIMESTAMP:
                self.arrays[name] += count
                self.shapes.setdefault(name, tuple(shape[1:]))
        for name, camera in episode["cameras"].items():
            self.cameras[name] += count
            self.images[str(camera["array"])] += count
        for name, reason in episode["left_out"].items():
            self.left_out[name][str(reason)] += count
        for name in episode["environment"]:
            self.of_files[name] += count
        if made_by := episode["environment"].get("env_name"):
            self.environments[str(made_by)] += count

    def why_left_out(self, name: str) -> tuple[str, int]:
        """The most frequent reason, and in how many episodes there was any."""
        reasons = self.left_out[name]
        most = min(reasons, key=lambda reason: (-reasons[reason], reason))
        return most, reasons.total()


@dataclass(frozen=True)
class Partly:
    """An array of which only some columns are taken. `is_command` says that an action is read from it."""

    name: str
    num_columns: int
    unused: tuple[tuple[int, int], ...]  # (start, stop)
    is_command: bool

    @property
    def num_unused(self) -> int:
        return sum(stop - start for start, stop in self.unused)


def all_fields(mapping: MappingSpec) -> Iterator[tuple[str, str, Field]]:
    """(state or stream, quantity, field) of each."""
    for where, fields in {"state": mapping.state, **mapping.actions}.items():
        for quantity, mapped in fields.items():
            yield where, quantity, mapped


def fields_of(mapping: MappingSpec) -> Iterator[tuple[str, str, Field]]:
    """As `all_fields`, of those that read an array."""
    return (entry for entry in all_fields(mapping) if entry[2].key is not None)


def arrays_taken(mapping: MappingSpec, content: Content | None) -> set[str]:
    """Names of the arrays that the mapping reads, wholly or in part, and of those that tell the time."""
    taken = {str(mapped.key) for _, _, mapped in fields_of(mapping)}
    rules = (*mapping.success, *mapping.invalid_action, *mapping.intervention)
    taken |= {str(rule["key"]) for rule in rules if "key" in rule}
    taken |= {str(rule["code_points"]) for rule in mapping.instruction if "code_points" in rule}
    if content is not None and content.options is not None:
        taken |= content.options.arrays
    return taken


def partly_taken(mapping: MappingSpec, held: Holdings) -> list[Partly]:
    """The arrays of which some columns are read and some are not, by name."""
    used: dict[str, set[int]] = defaultdict(set)
    commands = set()
    for where, quantity, mapped in fields_of(mapping):
        key = str(mapped.key)
        if key in held.shapes:
            used[key] |= set(mapped.columns_of(prod(held.shapes[key])))
            # A stream may take the command of a gripper from what it cannot read otherwise.
            if where != "state" and quantity_kind(quantity) != GRIPPER:
                commands.add(key)
    partly = []
    for key in sorted(used):
        rest = [n for n in range(prod(held.shapes[key])) if n not in used[key]]
        if rest:
            partly.append(Partly(key, prod(held.shapes[key]), _ranges(rest), key in commands))
    return partly


def attributes_taken(mapping: MappingSpec) -> set[str]:
    """Names of the attributes that the mapping's rules read."""
    rules = (*mapping.instruction, *mapping.success)
    named = {str(rule["attr"]) for rule in rules if "attr" in rule}
    return named | ({mapping.embodiment_attr} if mapping.embodiment_attr else set())


def _ranges(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Runs of rising numbers as (start, stop)."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    return tuple((start, stop) for start, stop in runs)
