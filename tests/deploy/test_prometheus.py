"""A real Prometheus over a real service: what it scrapes, every panel and every rule."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.test_monitoring import MONITORING, list_expressions, list_rules
from tests.helpers import ROOT, find_free_port, start_live_server, wait_until

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed (Debian: prometheus)"
)
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
WAIT_S = 60


def write_config(folder: Path, port: int) -> Path:
    """Write that of the repository, for a service on this port, and quick."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (scraped,) = config["scrape_configs"]
    scraped["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    return path


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus, which has scraped a service that has matted a photo."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = start_live_server(folder / "log", data_dir=folder)
    port = find_free_port()
    command = [PROMETHEUS, f"--config.file={write_config(folder, server.port)}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", "--enable-feature=exemplar-storage"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    process = subprocess.Popen(command)
    try:
        headers = {
            "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01",
            "Content-Type": "image/jpeg",
        }
        photo = (ROOT / "examples" / "portrait.jpg").read_bytes()
        answer = httpx.post(f"{server.url}/v1/image", content=photo, headers=headers, timeout=60)
        assert answer.status_code == 200
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as client:
            scraped = 'matting_requests_total{route="/v1/image", job="matting"} > 0'
            wait_until(lambda: ask(client, "query", query=scraped), WAIT_S)
            yield client
    finally:
        process.kill()
        process.wait()
        server.stop()


def ask(client: httpx.Client, path: str, **params: str) -> list[dict]:
    """Return what Prometheus says, nothing while it starts."""
    with suppress(httpx.TransportError):
        answer = client.get(path, params=params)
        if answer.status_code == 503:
            return []
        found = answer.json()
        assert found["status"] == "success", found
        data = found["data"]
        return data if isinstance(data, list) else data.get("result") or data.get("groups") or []
    return []


def test_every_panel_is_computed(prometheus: httpx.Client) -> None:
    for expression in list_expressions():
        ask(prometheus, "query", query=expression.replace("$__rate_interval", "5m"))
    for shown in (
        "matting_ready == 1",
        "matting_model_info",
        'matting_requests_total{status="200"}',
    ):
        assert ask(prometheus, "query", query=shown), shown


def test_every_rule_is_evaluated_and_none_fires(prometheus: httpx.Client) -> None:
    def read() -> list[dict]:
        return [rule for group in ask(prometheus, "rules") for rule in group["rules"]]

    rules = wait_until(
        lambda: (found := read()) and all(rule["health"] == "ok" for rule in found) and found,
        WAIT_S,
    )
    assert [rule["name"] for rule in rules] == [rule["alert"] for rule in list_rules()]
    assert {rule["state"] for rule in rules} == {"inactive"}


def test_exemplar_leads_from_a_histogram_to_the_trace(prometheus: httpx.Client) -> None:
    query = 'matting_request_duration_seconds_bucket{route="/v1/image"}'
    (found,) = ask(prometheus, "query_exemplars", query=query, start="0", end="9999999999")
    assert [one["labels"] for one in found["exemplars"]] == [{"trace_id": TRACE_ID}]
