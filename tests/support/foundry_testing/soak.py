"""Long trials: where their randomness comes from, and how they say so while pytest keeps what is printed."""

from __future__ import annotations

import os
import random

import pytest


def say(config: pytest.Config, text: str) -> None:
    """A line for whoever watches."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(text, flush=True)


def seeded(config: pytest.Config) -> random.Random:
    """By FOUNDRY_SOAK_SEED, or else by a seed that is told, which repeats the trial."""
    seed = int(os.environ.get("FOUNDRY_SOAK_SEED") or random.SystemRandom().randrange(2**32))
    say(config, f"\nFOUNDRY_SOAK_SEED={seed}")
    return random.Random(seed)
