"""`/metrics` of all workers at once: each sample has the name of its worker as a label."""

import http.client
import logging
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.workers.nginx import Worker

ACCEPT = {"Accept": "application/openmetrics-text; version=1.0.0"}  # which has exemplars
TIMEOUT_S = 5
log = logging.getLogger(__name__)


class MergedMetrics(Collector):
    """Asks every worker when it is asked; one that is away has `matting_worker_up` 0."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        up = Metric("matting_worker_up", "1 when the worker answers.", "gauge")
        families = {up.name: up}
        for worker in self._workers:
            found = self._ask(worker)
            up.add_sample(up.name, {"worker": worker.name}, 0 if found is None else 1)
            for family in found or ():
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged.samples += [
                    sample._replace(labels={**sample.labels, "worker": worker.name})
                    for sample in family.samples
                ]
        return families.values()

    def _ask(self, worker: Worker) -> list[Metric] | None:
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/metrics", headers=ACCEPT)
            text = connection.getresponse().read().decode()
            return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("no metrics of %s: %s", worker.name, error)
            return None
        finally:
            connection.close()


def make_registry(workers: Sequence[Worker]) -> CollectorRegistry:
    """Return a registry with the metrics of all workers."""
    registry = CollectorRegistry()
    registry.register(MergedMetrics(workers))
    return registry
