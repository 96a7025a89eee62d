"""What the checkpoints of a policy say beside tensors, for what uses its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.ingest.robot.interface import interface_of
from robot_foundry.normalization.normalizer_report import HEADERS, as_text
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.recipes.yaml_text import write_yaml
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces
from robot_foundry.trainer.tasks.vla.prompts import Words
from robot_foundry.trainer.tasks.vla.scales import Scales, scales_report, scales_to_json


def policy_files(
    config: VLATaskConfig, spaces: PolicySpaces, scales: Scales, robots: Mapping[str, Any], words: Words
) -> dict[str, str]:
    """What a policy needs besides weights: the readable files that are equal in all checkpoints of a run."""
    values = {
        "normalizer.json": scales_to_json(scales),
        "tokenizer.json": words.to_json(),
        "spaces.json": spaces.to_json(),
        "robots.json": robots,
    }
    texts = {name: json.dumps(value, indent=1, allow_nan=False) for name, value in values.items()}
    report = as_text(scales_report(scales, spaces), ("of", "dataset", *HEADERS))
    return {"config.yaml": write_yaml(resolved(config)), "normalizer.txt": f"{report}\n", **texts}


def robots_of(opened: OpenMixture) -> dict[str, Any]:
    """How each dataset was made of its source; those whose versions do not say are left out."""
    interfaces = {part.name: interface_of(part.manifest) for part in opened.parts}
    return {name: interface.to_json() for name, interface in interfaces.items() if interface is not None}
