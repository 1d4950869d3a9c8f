import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.media.image.types import FORMATS
from service.settings import DEFAULT_MODEL, Settings
from tests.fakes import FakeEngine
from tests.helpers import encode, post_image, read_metric


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:40, :40], "PNG")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_probe_answers_ok(client, path):
    response = client.get(path)
    assert response.status_code == 200 and response.json() == {"status": "ok"}


def test_verbose_readiness_names_model_and_load(client, engine):
    answer = client.get("/readyz?verbose").json()
    assert answer["status"] == "ok" and answer["version"] == __version__
    assert answer["model"]["provider"] == engine.provider
    assert answer["model"]["sha256"] == engine.info.sha256
    assert answer["requests"] == 0 and answer["megapixels"] == 0 and answer["videos"] == 0


def test_reason_for_the_cpu_is_told_wherever_the_provider_is(make_client, image):
    client = make_client(FakeEngine(note="no CUDA: no NVIDIA driver is installed"))
    models = client.get("/v1/models").json()["models"]
    for model in (models[0], client.get("/readyz?verbose").json()["model"]):
        assert model["provider"] == "CPUExecutionProvider"
        assert model["provider_note"] == "no CUDA: no NVIDIA driver is installed"
    assert post_image(client, image).headers["x-provider"] == "CPUExecutionProvider"
    labels = {"name": "fake", "sha256": "0" * 64, "precision": "fp32"}
    labels["provider"] = "CPUExecutionProvider"
    assert read_metric(client, "matting_model_info", **labels) == 1


def test_models_are_those_of_the_files(client):
    models = client.get("/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["modnet-fast", "modnet"]
    assert [model["default"] for model in models] == [True, False]
    assert [model["default_for_speed"] for model in models] == [True, False]
    for model in models:
        report = json.loads((DEFAULT_MODEL.parent / f"{model['name']}.json").read_text())
        assert model["name"] == report["model"] and model["sha256"] == report["onnx_sha256"]
        assert model["weights_sha256"] == report["checkpoint_sha256"]
        assert model["licence"] and model["ref_size"] % 32 == 0


def test_capabilities_equal_the_settings(make_client):
    limits = {
        "image_max_bytes": 1000,
        "image_max_megapixels": 3,
        "image_max_side": 99,
        "video_max_bytes": 2000,
        "video_max_s": 11,
        "sync_video_max_s": 7,
        "video_max_frames": 12,
        "video_max_frame_megapixels": 2,
        "video_max_side": 320,
        "max_videos": 3,
        "max_queued_jobs": 5,
        "job_max_attempts": 4,
        "job_ttl_s": 99,
        "jobs_max_bytes": 3000,
        "network_max_megapixels": 0.5,
        "queue_s": 4,
    }
    assert set(limits) <= set(Settings.model_fields)
    answer = make_client(FakeEngine(), **limits).get("/v1/capabilities").json()
    image, video = answer["image"], answer["video"]
    assert (image["max_bytes"], image["max_megapixels"], image["max_side"]) == (1000, 3, 99)
    assert (video["max_bytes"], video["max_s"], video["sync_max_s"]) == (2000, 11, 7)
    assert (video["max_frames"], video["max_frame_megapixels"]) == (12, 2)
    assert (video["max_side"], video["max_at_once"]) == (320, 3)
    assert (answer["network_max_megapixels"], answer["queue_s"]) == (0.5, 4)
    assert image["ref_size"]["default"] == 64
    jobs = answer["jobs"]
    assert (jobs["max_s"], jobs["max_queued"], jobs["max_attempts"]) == (11, 5, 4)
    assert (jobs["ttl_s"], jobs["max_bytes"]) == (99, 3000)


def test_capabilities_are_true(client, portrait):
    """What is listed works; the formats are tried one by one."""
    image = client.get("/v1/capabilities").json()["image"]
    small = portrait[:64, :64]
    assert image["input"] == [name.lower() for name in FORMATS]
    for name in image["input"]:
        assert post_image(client, encode(small, name), ref_size=64).status_code == 200
    data = encode(small, "PNG")
    assert list(image["outputs"]) == ["alpha", "cutout", "composite", "foreground", "bundle"]
    for output, formats in image["outputs"].items():
        for format in ("png", "webp", "jpeg", "avif", "zip", "json"):
            status = post_image(client, data, output=output, format=format, ref_size=64).status_code
            assert status == (200 if format in formats else 422)
    bounds = image["ref_size"]
    for ref_size, status in [
        (bounds["minimum"], 200),
        (bounds["maximum"], 200),
        (bounds["minimum"] - 32, 422),
        (bounds["maximum"] + 32, 422),
    ]:
        assert post_image(client, data, ref_size=ref_size).status_code == status


# Metrics.

NAMES = {
    "matting_requests",
    "matting_request_duration_seconds",
    "matting_stage_duration_seconds",
    "matting_requests_in_progress",
    "matting_requests_rejected",
    "matting_queue_depth",
    "matting_batch_size",
    "matting_inference_failures",
    "matting_decoder_restarts",
    "matting_frames",
    "matting_jobs",
    "matting_model_info",
    "matting_ready",
    "matting_build_info",
    "process_cpu_seconds",
    "process_resident_memory_bytes",
}


def scrape(client) -> dict:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def test_metrics_have_every_name_of_the_contract(make_client, image):
    client = make_client(FakeEngine())
    assert post_image(client, image).status_code == 200
    families = scrape(client)
    assert NAMES <= set(families)
    stages = {
        sample.labels["stage"]
        for sample in families["matting_stage_duration_seconds"].samples
        if sample.name.endswith("_count") and sample.value == 1
    }
    assert stages == {"decode", "queue", "inference", "refine", "encode"}
    assert read_metric(client, "matting_frames_total", kind="image") == 1
    assert read_metric(client, "matting_batch_size_count") == 1
    labels = {"route": "/v1/image", "method": "POST", "status": "200"}
    assert read_metric(client, "matting_requests_total", **labels) == 1


def test_in_progress_counts_the_scrape_itself_and_nothing_else(client):
    assert read_metric(client, "matting_requests_in_progress") == 1


def count_series(client) -> int:
    return sum(len(family.samples) for family in scrape(client).values())


def test_random_paths_methods_and_headers_make_no_series(make_client):
    client = make_client(FakeEngine())
    for _ in range(2):  # series of the routes themselves
        client.get("/nothing"), client.get("/assets/none"), client.request("BREW", "/x")
        client.get("/v1/nothing"), client.get("/livez"), client.get("/metrics")
    before = count_series(client)
    for number in range(60):
        client.get(f"/random/{number}")
        client.get(f"/v1/{number}?key={number}", headers={"User-Agent": f"agent-{number}"})
        client.get(f"/assets/{number}.js")
        client.request(f"BREW{number}", "/x")
        client.get("/livez", headers={"X-Request-ID": f"id-{number}"})
    assert count_series(client) == before


def test_two_apps_in_one_process_do_not_share_numbers(make_client, image):
    first, second = make_client(FakeEngine()), make_client(FakeEngine())
    assert post_image(first, image).status_code == 200
    labels = {"route": "/v1/image", "method": "POST", "status": "200"}
    assert read_metric(first, "matting_requests_total", **labels) == 1
    assert read_metric(second, "matting_requests_total", **labels) == 0
    assert post_image(second, image).status_code == 200


# Documents.


def test_documents_load_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/") and not link.startswith("//")
        response = client.get(link)
        assert response.status_code == 200 and len(response.content) > 500
    assert not re.search(r"https?://", page)


def test_start_page_leads_somewhere(client):
    response = client.get("/")
    if response.is_redirect:
        response = client.get(response.headers["location"])
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/html")
