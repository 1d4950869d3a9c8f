"""The Helm chart, rendered by Helm itself, against the schemas of Kubernetes."""

import importlib
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.metrics import Metrics
from service.settings import ENV_PREFIX, Settings, load_settings
from tests.helpers import ROOT

chart = pytest.importorskip("helm_python.chart", reason="there is no wheel of Helm here")


@pytest.fixture(scope="module")
def kubernetes_validate() -> ModuleType:
    """The schemas of Kubernetes, which take seconds to import: not in each process of a run."""
    return importlib.import_module("kubernetes_validate")


FOLDER = ROOT / "deploy" / "helm" / "matting"
SCRIPT = ROOT / "deploy" / "kubernetes" / "make_manifests.py"
VERSIONS = ("1.31", "1.37")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "gpu": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}},
    "anonymous": {
        "keys": {"secret": "", "allowAnonymous": True},
    },
    "small": {
        "replicas": 1,
        "autoscaling": {"enabled": False},
        "ingress": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "data": {"storageClass": "fast"},
    },
    "traced": {
        "otlp": {"endpoint": "http://collector.monitoring:4318"},
        "ingress": {"tlsSecret": "tls"},
        "settings": {"QUEUE_S": "2", "MAX_VIDEOS": "4"},
    },
    "shared": {
        "database": {
            "url": "postgresql://matting@db.databases/matting",
            "passwordSecret": "matting-database",
            "port": 5433,
            "jobsClaim": "matting-jobs",
        },
    },
    "stored": {
        "database": {"url": "postgresql://matting@db.databases/matting"},
        "storage": {
            "url": "s3://matting/jobs",
            "endpoint": "http://minio.storage:9000",
            "region": "eu-central-1",
            "secret": "matting-storage",
            "serviceAccount": "matting",
            "port": 9000,
            "redirect": False,
        },
    },
    "own": {
        "image": {
            "repository": "registry.example.com/matting",
            "tag": "9.8.7",
            "pullSecrets": ["registry"],
        },
        "settings": {"DECODERS": "1", "ALLOWED_HOSTS": "matting.example.com, b"},
        "secretSettings": "matting-settings",
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "arm", "operator": "Exists"}],
        "ingress": {"annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"}},
        "networkPolicy": {
            "from": [{"podSelector": {}}],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
}
CUSTOM = {"PodMonitor"}  # kinds of which Kubernetes itself has no schema


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the documents that the chart makes."""
    with chart.Chart.load(FOLDER) as loaded:
        texts = loaded.render(values=values, name="matting").values()
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def find(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def read_pod(documents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = find(documents, "StatefulSet")["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


@pytest.fixture(scope="module")
def default() -> list[dict[str, Any]]:
    return render({})


def test_helm_finds_nothing_to_say_about_the_chart() -> None:
    for values in VARIANTS.values():
        report = chart.lint(FOLDER, values, strict=True)
        assert not report["errors"], report
        assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_manifest_fits_the_schema_of_kubernetes(
    kubernetes_validate, name: str, version: str
) -> None:
    documents = render(VARIANTS[name])
    assert {document["kind"] for document in documents} >= {
        "StatefulSet",
        "Service",
        "PodDisruptionBudget",
    }
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


def test_manifest_with_a_wrong_field_does_not_fit(kubernetes_validate, default) -> None:
    claim = find(default, "PodDisruptionBudget")
    wrong = claim | {"spec": claim["spec"] | {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_variants_name_settings_that_are_there() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {"PGPASSWORD"}
    known |= {"AWS_ENDPOINT_URL", "AWS_REGION"}
    for values in VARIANTS.values():
        _, container = read_pod(render(values))
        assert {variable["name"] for variable in container["env"]} <= known


def test_pod_has_time_to_drain_and_no_rights(default) -> None:
    pod, container = read_pod(default)
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    drain_s = sum(float(env[f"MATTING_DRAIN_{name}_S"]) for name in ("DELAY", "TIMEOUT"))
    before_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before_s + drain_s + 5
    probe = container["readinessProbe"]
    failing_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert float(env["MATTING_DRAIN_DELAY_S"]) >= failing_s, "it is seen before the port closes"
    assert probe["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/data", "/tmp"}


def test_autoscaler_asks_for_a_metric_that_is_exported(default) -> None:
    (metric,) = find(default, "HorizontalPodAutoscaler")["spec"]["metrics"]
    exported = {family.name for family in Metrics().registry.collect()}
    assert metric["pods"]["metric"]["name"] in exported
    assert "replicas" not in find(default, "StatefulSet")["spec"], "the autoscaler's alone"


def test_requests_of_a_key_reach_one_pod(default) -> None:
    notes = find(default, "Ingress")["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert "$http_x_api_key$http_authorization" in notes[f"{prefix}upstream-hash-by"]
    longest_s = Settings.model_fields["video_timeout_s"].default
    assert int(notes[f"{prefix}proxy-read-timeout"]) > longest_s
    limit = 2 * Settings.model_fields["video_max_bytes"].default
    assert int(notes[f"{prefix}proxy-body-size"].rstrip("m")) * 2**20 > limit
    cookie = find(render(VARIANTS["anonymous"]), "Ingress")["metadata"]["annotations"]
    assert cookie[f"{prefix}affinity"] == "cookie" and f"{prefix}upstream-hash-by" not in cookie


def test_clients_reach_all_but_probes_and_metrics(default) -> None:
    (rule,) = find(default, "Ingress")["spec"]["rules"]
    exact = {path["path"] for path in rule["http"]["paths"] if path["pathType"] == "Exact"}
    prefixes = {path["path"] for path in rule["http"]["paths"] if path["pathType"] == "Prefix"}
    app = create_app(Settings())
    known = {*app.openapi()["paths"], "/", "/docs", "/openapi.json", "/problems", "/problems/busy"}
    known |= {"/page/main.js", "/assets/x.js", "/v1/sessions/{session_id}/live"}
    inside = {
        path for path in known if path not in exact and f"/{path.split('/')[1]}" not in prefixes
    }
    assert inside == {"/livez", "/readyz", "/healthz", "/metrics"}


def test_gpu_pods_run_the_gpu_image_where_a_gpu_is() -> None:
    pod, container = read_pod(render(VARIANTS["gpu"]))
    assert container["image"] == "matting-service:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["runtimeClassName"] == "nvidia" and pod["tolerations"]


def test_pods_take_the_cores_that_they_ask_for(default) -> None:
    """Not those of their node, of which a process without a limit knows."""
    _, container = read_pod(default)
    asked = {
        variable["name"]: variable["valueFrom"]["resourceFieldRef"]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    cores = {"resource": "requests.cpu", "divisor": "1"}
    assert asked == {"MATTING_THREADS": cores, "MATTING_DECODERS": cores}
    assert "cpu" in container["resources"]["requests"]
    assert "cpu" not in container["resources"]["limits"]


def test_cluster_of_its_own_kind_is_served() -> None:
    documents = render(VARIANTS["own"])
    pod, container = read_pod(documents)
    assert container["image"] == "registry.example.com/matting:9.8.7"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert pod["tolerations"] == [{"key": "arm", "operator": "Exists"}]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)) and "MATTING_THREADS" in names
    assert {"name": "MATTING_DECODERS", "value": "1"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "matting-settings"}}]
    host = [{"name": "Host", "value": "matting.example.com"}]
    for name in ("startup", "readiness", "liveness"):
        assert container[f"{name}Probe"]["httpGet"]["httpHeaders"] == host
    policy = find(documents, "NetworkPolicy")["spec"]
    assert {"podSelector": {}} in policy["ingress"][0]["from"]
    assert [p["port"] for rule in policy["egress"] for p in rule["ports"]] == [443, 53, 53]
    notes = find(documents, "Ingress")["metadata"]["annotations"]
    assert notes["cert-manager.io/cluster-issuer"] == "letsencrypt"
    monitor = find(documents, "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    labels = find(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    assert labels[monitor["spec"]["jobLabel"]] == "matting", "the job that the alert rules name"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == container["ports"][0]["name"]


def test_network_policy_lets_nothing_out_but_traces(default) -> None:
    assert find(default, "NetworkPolicy")["spec"]["egress"] == []
    rules = find(render(VARIANTS["traced"]), "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for rule in rules for port in rule["ports"]] == [4318, 53, 53]


def test_pods_share_their_jobs_in_a_database() -> None:
    documents = render(VARIANTS["shared"])
    pod, container = read_pod(documents)
    env = {variable["name"]: variable for variable in container["env"]}
    settings = Settings(
        database_url=env["MATTING_DATABASE_URL"]["value"], jobs_dir=env["MATTING_JOBS_DIR"]["value"]
    )
    assert env["PGPASSWORD"]["valueFrom"]["secretKeyRef"] == {
        "name": "matting-database",
        "key": "password",
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = volumes[mounts[str(settings.jobs_dir)]]["persistentVolumeClaim"]
    assert claim == {"claimName": "matting-jobs"}
    rules = find(documents, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for rule in rules for port in rule["ports"]] == [5433, 53, 53]


def test_pods_with_a_storage_need_no_common_volume() -> None:
    documents = render(VARIANTS["stored"])
    pod, container = read_pod(documents)
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    settings = load_settings({}, storage_url=env["MATTING_STORAGE_URL"], data_dir="/tmp")
    assert (settings.storage_url, env["MATTING_STORAGE_REDIRECT"]) == ("s3://matting/jobs", "false")
    assert env["AWS_ENDPOINT_URL"] == "http://minio.storage:9000"
    assert env["AWS_REGION"] == "eu-central-1" and "MATTING_JOBS_DIR" not in env
    assert pod["serviceAccountName"] == "matting"
    assert container["envFrom"] == [{"secretRef": {"name": "matting-storage"}}]
    assert "jobs" not in {volume["name"] for volume in pod["volumes"]}
    rules = find(documents, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for rule in rules for port in rule["ports"]] == [5432, 9000, 53, 53]


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"keys": {"secret": ""}}, "set keys.secret"),
        ({"replica": 3}, "replica"),
        ({"settings": {"queue_s": "1"}}, "queue_s"),
        ({"database": {"url": "postgresql://db/matting"}}, "jobsClaim"),
        ({"database": {"url": "mysql://db/matting"}}, "url"),
        ({"database": {"url": "postgresql://matting:secret@db/matting"}}, "url"),
        ({"storage": {"url": "https://bucket"}}, "url"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict, reason: str) -> None:
    with pytest.raises(Exception, match=reason), chart.Chart.load(FOLDER) as loaded:
        loaded.validate_schema(values)
        loaded.render(values=values, name="matting")


def test_manifests_are_what_the_chart_makes() -> None:
    made = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    assert (ROOT / "deploy" / "kubernetes" / "matting.yaml").read_text() == made.stdout
