"""A Ray cluster of two nodes on this machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psutil
from ray.cluster_utils import Cluster

from tests.helpers import find_free_port

T = TypeVar("T")
STARTS = 5  # tries of a node
SLOW_START = "timed out during startup"


def make_node() -> dict[str, int]:
    """Return the arguments of a node; most ports that are known are not waited for."""
    names = "metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent"
    ports = {f"{name}_port": find_free_port() for name in names}
    return {"num_cpus": 3, "object_store_memory": 200 << 20, **ports}


def insist(start: Callable[[], T]) -> T:
    """Start a node, again if need be, and return it.

    Ray gives the agent of a node 15 s, which no setting changes (ray-project/ray issue 65983), and
    a busy machine does not start it in that time each time.
    """
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    for left in reversed(range(STARTS)):
        try:
            return start()
        except Exception as error:
            for child in psutil.Process().children(recursive=True):
                if child.pid not in before:
                    child.kill()
            if not left or SLOW_START not in str(error):
                raise
    raise AssertionError("not reached")


def add_node(cluster: Cluster) -> object:
    return insist(lambda: cluster.add_node(**make_node()))


@contextmanager
def run_cluster() -> Iterator[Cluster]:
    """Run two nodes, with room for one segment of two cores at a time each."""
    head = {"include_dashboard": False}
    cluster = insist(
        lambda: Cluster(initialize_head=True, head_node_args=make_node() | head),
    )
    try:
        add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def find_workers(name: str) -> list[psutil.Process]:
    """Return the processes that run tasks of this name now."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0] == name]
