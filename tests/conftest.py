"""What holds for all tests: they judge what is done, never how fast, which a busy machine decides.

Several processes share the tests file by file, so that what the tests of a file share is made once.
"""

from __future__ import annotations

from typing import Any

import pytest
from foundry_testing import ray_session
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

RAY = ("ray_workers", "four_workers")
# Minutes of work: first, so that no process is left alone with one at the end.
LONGEST = ("test_pipeline.py", "test_trainer_sharding.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those that use Ray, one after the other: each session is started once."""
    of = {name: {item.path for item in items if name in getattr(item, "fixturenames", ())} for name in RAY}
    items.sort(key=lambda item: (item.path.name not in LONGEST, *(item.path not in of[name] for name in RAY)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files in their order, unless the command line asks for another way."""
    from xdist.scheduler import LoadFileScheduling

    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture
def ray_workers() -> int:
    """Workers of the session that tests share."""
    pytest.importorskip("ray")
    return ray_session.begin()


@pytest.fixture
def four_workers() -> int:
    """Workers of one of four, more than most machines that test have cores."""
    pytest.importorskip("ray")
    return ray_session.begin(4)


@pytest.fixture
def no_ray() -> None:
    """No session in this process."""
    ray_session.end()
