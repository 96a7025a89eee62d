"""Is a Ray cluster fit for work whose bytes must be the same on every node?"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from robot_foundry.runtime.errors import FoundryError

# What decides the bytes of shards and tables.
PACKAGES = (
    "robot-foundry",
    "numpy",
    "pyarrow",
    "h5py",
    "simplejpeg",
    "pillow",
    "fastdigest",
    "google-crc32c",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide bytes, in this process; "missing" for none."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def check_nodes(ray: Any) -> None:
    """`FoundryError` naming every node and package that differ from this process."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=0)(package_versions)
    answers = []
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers.append((node["NodeManagerHostname"], probe.options(scheduling_strategy=here).remote()))
    expected = package_versions()
    problems = []
    for host, answer in answers:
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError as error:
            problems.append(f"{host} cannot run robot_foundry ({str(error).strip().splitlines()[-1]})")
            continue
        problems += [
            f"{host} has {name} {found[name]}, not {wanted}"
            for name, wanted in expected.items()
            if found[name] != wanted
        ]
    if problems:
        raise FoundryError(
            f"nodes of the Ray cluster would not give the same bytes: {'; '.join(problems)}",
            hint="install the same robot-foundry wheel and package versions on every node",
        )
