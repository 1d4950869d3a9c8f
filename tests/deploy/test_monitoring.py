"""Compose, Prometheus and Grafana: what they name is there, and nothing exported is forgotten."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.settings import ENV_PREFIX, Settings
from service.workers.merged_metrics import make_registry
from tests.fakes import FakeEngine
from tests.helpers import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)"
)
METRIC = re.compile(r"\b(?:matting|process|python)_[a-z0-9_]+")
# What is exported and on no panel: details of the process.
NOT_SHOWN = {
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "python_info",
}
SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def families() -> set[str]:
    """The names of all families of a live /metrics, and of that of several workers."""
    from tests.conftest import open_client

    with open_client(FakeEngine()) as client:
        text = client.get("/metrics").text
    names = {family.name for family in text_string_to_metric_families(text)}
    return names | {family.name for family in make_registry([]).collect()}


def read_dashboard() -> dict:
    return json.loads((MONITORING / "dashboard.json").read_text())


def list_expressions() -> list[str]:
    panels = read_dashboard()["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(shown) > 20
    return shown


def list_rules() -> list[dict]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def find_family(name: str, families: set[str]) -> str | None:
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in families:
            return name.removesuffix(suffix)
    return None


def test_every_metric_that_is_named_is_exported_and_every_exported_one_is_shown(families):
    shown = {name for text in list_expressions() for name in METRIC.findall(text)}
    alerted = {name for rule in list_rules() for name in METRIC.findall(rule["expr"])}
    missing = {name for name in shown | alerted if find_family(name, families) is None}
    assert not missing
    on_dashboard = {find_family(name, families) for name in shown}
    assert families - on_dashboard == NOT_SHOWN & families
    assert not NOT_SHOWN - families, "the list names what is no longer exported"


def test_metric_that_does_not_exist_is_found(families):
    assert find_family("matting_request_total", families) is None
    assert find_family("matting_requests_total", families) == "matting_requests"


def test_dashboard_is_what_its_script_makes() -> None:
    script = [sys.executable, MONITORING / "make_dashboard.py"]
    made = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert (MONITORING / "dashboard.json").read_text() == made


def test_panels_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in read_dashboard()["panels"]:
        place = panel["gridPos"]
        own = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not places & own and place["x"] + place["w"] <= 24
        places |= own


@needs_promtool
@pytest.mark.parametrize(
    "command",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_takes_the_rules(command: str) -> None:
    done = subprocess.run(
        [PROMTOOL, *command.split()], cwd=MONITORING, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(list_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_says_what_to_do() -> None:
    for rule in list_rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_compose_names_files_and_settings_that_are_there() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    service = compose["services"]["matting"]
    assert {name for name in service["environment"] if name.startswith(ENV_PREFIX)} <= known
    assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    drain_s = sum(Settings.model_fields[f"drain_{name}_s"].default for name in ("delay", "timeout"))
    assert int(service["stop_grace_period"].rstrip("s")) > drain_s + 5
    for name, described in compose["services"].items():
        for volume in described.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).is_file(), volume
            else:
                assert source in compose["volumes"], volume
        assert name == "matting" or ":v" in described["image"] or ":1" in described["image"]
    (target,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert target["static_configs"][0]["targets"] == ["matting:8000"]


def test_compose_with_a_database_adds_to_what_is_there() -> None:
    added = yaml.safe_load(COMPOSE.with_name("shared.yaml").read_text())
    environ = added["services"]["matting"]["environment"]
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    assert set(environ) - known == {"PGPASSWORD"}
    folders = re.search(r"install -d -o matting .*", (ROOT / "deploy" / "Dockerfile").read_text())
    assert environ["MATTING_JOBS_DIR"] in folders[0].split(), "which the user of the image owns"
    for service in added["services"].values():
        assert all(volume.partition(":")[0] in added["volumes"] for volume in service["volumes"])
    assert set(added["services"]["matting"]["depends_on"]) <= set(added["services"])
