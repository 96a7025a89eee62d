"""From the configuration of a policy to what it is trained on, found in the store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.trainer.tasks.mixtures import find_mixture, mix_weights
from robot_foundry.trainer.tasks.origin import found_origin
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.origin import Origin
from robot_foundry.trainer.tasks.vla.policy_spaces import mixture_spaces
from robot_foundry.trainer.tasks.vla.vla_task import VLATask
from robot_foundry.windows.mixtures import warnings_for, window_rows


def resolve_vla(config: VLATaskConfig) -> VLATask:
    """Find the mixture and its spaces; reads the store, writes nothing."""
    data, window = config.data, config.data.window
    opened = find_mixture(
        data, window, kind="robot", source="foundry-data ingest makes datasets of recordings of robots",
        gap=lambda mixture: window_rows(mixture, window.timing),
    )  # fmt: skip
    spaces = mixture_spaces(opened, config)
    warnings = warnings_for(opened, mix_weights(data), timing=window.timing)
    for dataset in spaces.datasets:
        warnings += base_axes_note(dataset.name, dataset.state, dataset.action, window.representation)
    task = VLATask(config, opened, tuple(warnings), spaces)
    if config.init.weights is None:
        return task
    return replace(task, origin=found_origin(partial(Origin.find, config.init.weights), task.run_dir))
