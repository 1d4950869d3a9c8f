"""Keys of a file through HTTP: scopes, quotas, lists of jobs, other origins, exposed starts."""

from pathlib import Path

import pytest

from tests.conftest import open_client
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, read_metric, run_service
from tests.service.test_access import table

IMAGE_KEY, VIDEO_KEY, SMALL_KEY = "image-key", "video-key", "small-key"
KEYS = (
    table("images", IMAGE_KEY, more='scopes = ["image"]')
    + table("clips", VIDEO_KEY, more='scopes = ["video", "session"]')
    + table("small", SMALL_KEY, more="megapixels_per_minute = 0.01\nvideo_s_per_minute = 30")
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(KEYS)
    with open_client(FakeEngine(), keys_file=path) as client:
        yield client


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:200, :200], "PNG")


def post(client, key: str, image: bytes):
    headers = {"X-API-Key": key, "Content-Type": "image/png"}
    return client.post("/v1/image", content=image, headers=headers)


def test_key_opens_what_it_is_for(guarded, image) -> None:
    assert post(guarded, IMAGE_KEY, image).status_code == 200
    assert_problem(post(guarded, VIDEO_KEY, image), 403, "forbidden")
    for path in ("/v1/jobs", "/v1/sessions/none"):
        response = guarded.get(path, headers={"X-API-Key": IMAGE_KEY})
        assert_problem(response, 403, "forbidden")
    assert guarded.get("/v1/jobs", headers={"X-API-Key": VIDEO_KEY}).status_code == 200
    assert guarded.get("/v1/models", headers={"X-API-Key": VIDEO_KEY}).status_code == 200


def test_scope_in_the_dialect_of_removebg(guarded) -> None:
    response = guarded.post("/v1.0/removebg", headers={"X-API-Key": VIDEO_KEY})
    assert response.status_code == 403
    assert response.json()["errors"][0]["code"] == "auth_failed"


def test_quota_is_told_and_then_held(guarded, image) -> None:
    first = post(guarded, SMALL_KEY, image)  # 0.04 megapixels of 0.01: what began may end
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == (
        '"megapixels";q=0.01;w=60, "video-seconds";q=30;w=60'
    )
    assert first.headers["ratelimit"].startswith('"megapixels";r=0;t=')
    second = post(guarded, SMALL_KEY, image)
    assert_problem(second, 429, "quota-exceeded")
    assert int(second.headers["retry-after"]) > 0
    used = read_metric(guarded, "matting_key_use_total", key="small", unit="megapixels")
    assert used == pytest.approx(0.04)
    assert "ratelimit" not in post(guarded, IMAGE_KEY, image).headers


def test_list_of_jobs_needs_a_key() -> None:
    with open_client(FakeEngine()) as client:
        assert_problem(client.get("/v1/jobs"), 401, "unauthorized")
        assert_problem(client.get("/v1/jobs/unknown"), 404, "not-found")


def test_other_origins_may_call_only_when_they_are_named(image) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    named = "access-control-allow-origin"
    with open_client(FakeEngine()) as client:
        assert named not in client.options("/v1/image", headers=headers).headers
    with open_client(FakeEngine(), cors_origins="https://shop.example", api_keys="key") as client:
        answer = client.options("/v1/image", headers=headers)
        assert answer.status_code == 200 and answer.headers[named] == "https://shop.example"
        assert "access-control-allow-credentials" not in answer.headers
        other = client.options("/v1/image", headers=headers | {"Origin": "https://evil.example"})
        assert named not in other.headers
        refused = client.post("/v1/image", headers={"Origin": "https://shop.example"})
        assert refused.status_code == 401 and refused.headers[named] == "https://shop.example"


def test_open_address_without_keys_is_refused_in_one_line() -> None:
    finished = run_service(host="0.0.0.0")
    assert finished.returncode == 3 and len(finished.stderr.strip().splitlines()) == 1
    assert "MATTING_ALLOW_ANONYMOUS=1" in finished.stderr


def test_bad_file_of_keys_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("[shop]\nsha256 = []\n")
    finished = run_service(keys_file=path)
    assert finished.returncode == 3 and len(finished.stderr.strip().splitlines()) == 1
    assert "shop.sha256" in finished.stderr


def test_new_key_is_printed() -> None:
    finished = run_service("--new-key", "shop")
    assert finished.returncode == 0 and "[shop]" in finished.stdout
