"""What holds for all tests: they judge what is done, never how fast, which a busy machine decides."""

from __future__ import annotations

import pytest
from foundry_testing import ray_session
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def ray_workers() -> int:
    """Workers of the session that tests share."""
    pytest.importorskip("ray")
    return ray_session.begin()


@pytest.fixture
def no_ray() -> None:
    """No session in this process."""
    ray_session.end()
