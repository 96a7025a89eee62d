"""Is a Ray cluster fit for work whose bytes must be the same on every node?"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from robot_foundry.runtime.distributed.shipping import NAME, ROOT, package_digest
from robot_foundry.runtime.errors import FoundryError

# What decides the bytes of shards and tables, beside robot_foundry itself.
PACKAGES = (
    "numpy",
    "pyarrow",
    "h5py",
    "simplejpeg",
    "pillow",
    "av",
    "fastdigest",
    "google-crc32c",
    "tensorflow-datasets",
    "protobuf",
)
ANSWER_WITHIN_S = 10


def package_versions(package: Path = ROOT, names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages `names` in this process; "missing" for none.

    robot_foundry is known by the content of `package`, by default that of this process: nodes get it from the
    driver, but a folder of its name may hide it.
    """
    versions = {"python": platform.python_version(), NAME: package_digest(package)}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    return versions


def check_address(address: str) -> None:
    """`FoundryError` if nothing listens at `host:port`, which Ray itself would try for a quarter of an hour.

    Other forms (`auto`, `ray://…`) are Ray's to judge.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN_S).close()
    except OSError as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, error: OSError) -> FoundryError:
    """There is none at this address."""
    return FoundryError(
        f"no Ray cluster answers at {address}: {error.strerror or error}",
        hint="`ray status` on its head node tells the address; `ray start --head` starts one",
    )


def check_nodes(ray: Any, expected: Mapping[str, str]) -> None:
    """`FoundryError` naming every node and package that differ from the expected versions."""
    problems = []
    for host, answer in _on_every_node(ray, package_versions):
        if isinstance(answer, str):
            problems.append(f"{host} cannot run robot_foundry ({answer})")
        else:
            problems += _differences(host, answer, expected)
    if problems:
        raise _not_the_same(problems)


def check_worker(expected: Mapping[str, str]) -> None:
    """As `check_nodes`, for the process that this runs in: its node may have joined later."""
    problems = _differences(platform.node(), _own_versions(), expected)
    if problems:
        raise _not_the_same(problems)


def check_files(ray: Any, sizes: Mapping[str, int]) -> None:
    """`FoundryError` naming the nodes that do not see these local files as they are here."""

    def unseen() -> list[str]:
        return [
            path for path, size in sizes.items() if not os.path.isfile(path) or os.path.getsize(path) != size
        ]

    blind = [f"{host} ({answer})" for host, answer in _on_every_node(ray, unseen) if answer]
    if blind:
        raise FoundryError(
            f"nodes of the Ray cluster do not see local files of the source or store: {', '.join(blind)}",
            hint="use a folder that all nodes share, or an object store (s3://…, gs://…)",
        )


def _on_every_node(ray: Any, fn: Callable[[], Any]) -> list[tuple[str, Any]]:
    """(host, result) of each node; a text that says why where it could not be run."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=0)(fn)
    asked = []
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append((node["NodeManagerHostname"], probe.options(scheduling_strategy=here).remote()))
    answers = []
    for host, answer in asked:
        try:
            answers.append((host, ray.get(answer)))
        except ray.exceptions.RayError as error:
            answers.append((host, str(error).strip().splitlines()[-1]))
    return answers


def _differences(host: str, versions: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [
        f"{host} has {name} {versions[name]}, not {wanted}"
        for name, wanted in expected.items()
        if versions[name] != wanted
    ]


def _not_the_same(problems: list[str]) -> FoundryError:
    return FoundryError(
        f"nodes of the Ray cluster would not give the same bytes: {'; '.join(problems)}",
        hint="install the same versions on every node; robot_foundry itself is sent there, "
        "unless the current folder holds another one",
    )


@cache
def _own_versions() -> dict[str, str]:
    return package_versions()
