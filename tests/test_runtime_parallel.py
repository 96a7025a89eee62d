import os
import shutil
import signal
import socket
from functools import partial

import pytest

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.distributed.shipping import package_copy
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.parallel import unordered_map

pytestmark = pytest.mark.usefixtures("no_ray")


class CountedItems:
    """Counts how many items were taken, to see how far ahead the map runs."""

    def __init__(self, items):
        self.items, self.taken = items, 0

    def __iter__(self):
        for item in self.items:
            self.taken += 1
            yield item


def test_inline_results_come_in_order_and_one_at_a_time():
    items = CountedItems(range(10))
    results = unordered_map(digest_of, items)

    assert next(results) == (0, digest_of(0))
    assert items.taken == 1
    assert list(results) == [(i, digest_of(i)) for i in range(1, 10)]


def test_no_items_give_no_results_and_negative_workers_are_refused():
    assert list(unordered_map(digest_of, [], workers=0)) == []
    with pytest.raises(UsageError, match="got -1"):
        list(unordered_map(digest_of, [1], workers=-1))


def test_ray_gives_the_inline_results_and_errors_though_a_worker_dies(tmp_path, capfd):
    """One test, because starting Ray takes seconds; the inner map borrows the Ray that the outer started."""

    def digest_but_die_once(folder, item):
        if item == 3:
            try:
                (folder / "died").touch(exist_ok=False)
            except FileExistsError:
                return digest_of(item)
            os.kill(os.getpid(), signal.SIGKILL)
        return digest_of(item)

    def refuse(item):
        raise FoundryError(f"item {item} is truncated", hint="copy it again")

    items = CountedItems(range(30))
    results = unordered_map(partial(digest_but_die_once, tmp_path), items, workers=2)
    first = next(results)
    assert items.taken == 4

    with pytest.raises(FoundryError, match="item .* is truncated") as caught:
        list(unordered_map(refuse, range(3), workers=2))
    assert caught.value.hint == "copy it again"

    assert sorted([first, *results]) == list(unordered_map(digest_of, range(30)))
    assert (tmp_path / "died").exists()

    shown = capfd.readouterr()
    assert shown.out == ""
    assert "worker died" in shown.err

    import ray

    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_named_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()
    with pytest.raises(FoundryError, match=f"no Ray cluster answers at {host}:{port}: ") as caught:
        list(unordered_map(digest_of, [1], ray_address=f"{host}:{port}"))
    assert "ray status" in caught.value.hint


def test_a_cluster_is_used_if_its_nodes_have_the_same_packages(monkeypatch, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        expected = list(unordered_map(digest_of, range(5)))
        assert sorted(unordered_map(digest_of, range(5), ray_address=cluster.address)) == expected

        other = tmp_path / "robot_foundry"
        other.mkdir()
        with package_copy() as copy:
            shutil.copytree(copy, other, dirs_exist_ok=True)
        (other / "__init__.py").write_text("# another one")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FoundryError, match="has robot_foundry .*, not ") as caught:
            list(unordered_map(digest_of, range(5), ray_address=cluster.address))
        assert "current folder" in caught.value.hint
        monkeypatch.chdir("/")

        monkeypatch.setattr("platform.python_version", lambda: "3.10.0")
        with pytest.raises(FoundryError, match="has python 3.*, not 3.10.0") as caught:
            list(unordered_map(digest_of, range(5), ray_address=cluster.address))
        assert "versions on every node" in caught.value.hint
    finally:
        cluster.shutdown()
