"""The tasks that there are, and which one a saved configuration is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.recipes.decoding import Decoding
from robot_foundry.trainer.recipes.form import RecipeForm, from_resolved, resolved
from robot_foundry.trainer.recipes.layers import overlay

TASKS = ("llm", "vlm", "vla")  # the folders beside this file


@dataclass(frozen=True)
class KnownTask:
    """A task by its name, and what its recipes may say."""

    name: str
    form: RecipeForm[Any]

    def read(self, values: Mapping[str, Any]) -> Any:
        """The configuration that a config.yaml holds; UsageError where it fits this version no longer."""
        return from_resolved(self.form, values)

    def resolve(self, config: Any) -> Any:
        """The `tasks.task.Task` of a configuration, found in its store."""
        resolving = import_module(f"robot_foundry.trainer.tasks.{self.name}.resolving")
        return getattr(resolving, f"resolve_{self.name}")(config)

    def completed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration as it would be saved now: keys that are newer than it have their defaults, which
        depend on the kind of some sections, and those that are unknown stay."""
        try:
            return resolved(from_resolved(self.form, values))
        except UsageError:
            return overlay(resolved(self.form.config()), values)


def task_of(values: Mapping[str, Any]) -> KnownTask | None:
    """The task that has the fewest keys of a config.yaml not; None where several have as few."""
    tasks = [_task(name) for name in TASKS]
    unknown = [_num_unknown(task.form, values) for task in tasks]
    fewest = min(unknown)
    return tasks[unknown.index(fewest)] if unknown.count(fewest) == 1 else None


def _task(name: str) -> KnownTask:
    return KnownTask(name, import_module(f"robot_foundry.trainer.tasks.{name}.recipe").FORM)


def _num_unknown(form: RecipeForm[Any], values: Mapping[str, Any]) -> int:
    decoding = Decoding(form.presets)
    decoding.check_names(form.config, values)
    return len(decoding.problems)
