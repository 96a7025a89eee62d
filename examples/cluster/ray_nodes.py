"""foundry-train on machines of a Ray cluster, each with a launcher of its own ranks.

    python examples/cluster/ray_nodes.py --nnodes 2 --nproc 8 --gpus 8 vla my_recipe.yaml run.dir=/data/a

Ray finds the machines and keeps them; foundry-train finds the ranks. What a machine prints comes here. TERM
and Ctrl-C let the run save. Exit codes are those of foundry-train: 75 says to run the same command again.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


class Node:
    """One launcher, on one machine of the cluster."""

    def __init__(self) -> None:
        self._launcher: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """The address of this machine, and a port that is free now."""
        with socket.socket() as one:
            one.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{one.getsockname()[1]}"

    def run(self, arguments: Sequence[str]) -> int:
        """Train, and return the exit code."""
        program = "from robot_foundry.cli.foundry_train import main; main()"
        self._launcher = subprocess.Popen([sys.executable, "-c", program, *arguments])
        return self._launcher.wait()

    def stop(self) -> None:
        """Let the run save and end."""
        if self._launcher is not None:
            self._launcher.send_signal(signal.SIGTERM)


def train(arguments: Sequence[str], nnodes: int, nproc: int, cpus: float, gpus: float) -> int:
    """Run foundry-train with `arguments` on `nnodes` machines; the worst of their exit codes."""
    bundle = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    # Nodes of a cluster as far as there are several; on one machine they are launchers side by side.
    group = placement_group([bundle] * nnodes, strategy="SPREAD")
    ray.get(group.ready())
    nodes = [
        ray.remote(Node)
        .options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=2,  # `stop` comes while `run` goes on
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i),
        )
        .remote()
        for i in range(nnodes)
    ]

    def stop(number: int, frame: object) -> None:
        nodes[0].stop.remote()  # all ranks stop at one step, whoever is asked

    master = ray.get(nodes[0].address.remote())
    where = ["--nproc", str(nproc), "--nnodes", str(nnodes), "--master", master]
    runs = [node.run.remote([*arguments, *where, "--node-rank", str(i)]) for i, node in enumerate(nodes)]
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        codes = ray.get(runs)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        remove_placement_group(group)
    failed = [code for code in codes if code not in (0, 75)]
    return failed[0] if failed else max(codes)


def main(asked: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nnodes", type=int, required=True, help="machines")
    parser.add_argument("--nproc", type=int, default=1, help="ranks of each")
    parser.add_argument("--cpus", type=float, default=1, help="cores that Ray keeps on each")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs that Ray keeps on each")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of foundry-train")
    options = parser.parse_args(asked)
    ray.init()
    return train(options.arguments, options.nnodes, options.nproc, options.cpus, options.gpus)


if __name__ == "__main__":
    sys.exit(main())
