import pytest

from service.api.auth import read_key
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, read_metric

KEY, OTHER = "alpha-key-1234", "beta-key-5678"


def scope(*headers: tuple[str, str]) -> dict:
    return {"headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


@pytest.mark.parametrize(
    "headers, key",
    [
        ([("authorization", "Bearer abc")], b"abc"),
        ([("authorization", "bearer   abc ")], b"abc"),
        ([("x-api-key", " abc ")], b"abc"),
        ([], None),
        ([("authorization", "Basic abc")], None),
        ([("authorization", "abc")], None),
        ([("authorization", "Bearer abc"), ("authorization", "Bearer abc")], None),
        ([("x-api-key", "abc"), ("x-api-key", "abc")], None),
        ([("authorization", "Bearer abc"), ("x-api-key", "abc")], None),
    ],
)
def test_key_is_read_from_one_header_only(headers, key):
    assert read_key(scope(*headers)) == key


# Through HTTP.


@pytest.fixture(scope="module")
def guarded():
    from tests.conftest import open_client

    with open_client(FakeEngine(), api_keys=f"{KEY}, {OTHER}") as opened:
        yield opened


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:40, :40], "PNG")


def post(client, image, headers=()):
    return client.post(
        "/v1/image", content=image, headers=[("Content-Type", "image/png"), *headers]
    )


@pytest.mark.parametrize("key", [KEY, OTHER])
@pytest.mark.parametrize("name, form", [("Authorization", "Bearer {}"), ("X-API-Key", "{}")])
def test_each_key_opens_the_service_in_both_headers(guarded, image, key, name, form):
    assert post(guarded, image, [(name, form.format(key))]).status_code == 200


def test_no_cache_between_gives_an_answer_to_another_key(guarded, image):
    headers = {"X-API-Key": KEY}
    kept = guarded.post("/v1/image", files={"file": image}, data={"keep_s": 9}, headers=headers)
    again = guarded.post(f"/v1/image/{kept.headers['x-result-id']}", headers=headers)
    answers = [guarded.get(f"/v1/{name}", headers=headers) for name in ("jobs", "jobs/x", "models")]
    assert [answer.status_code for answer in (kept, again, *answers)] == [200, 200, 200, 404, 200]
    for answer in (kept, again, *answers, guarded.get("/v1/jobs"), guarded.get("/v1/nothing")):
        assert answer.headers["cache-control"] == "no-store", answer.url


BAD = {
    "none": [],
    "empty bearer": [("Authorization", "Bearer ")],
    "empty": [("X-API-Key", "")],
    "wrong": [("X-API-Key", "alpha-key-1235")],
    "wrong scheme": [("Authorization", f"Basic {KEY}")],
    "no scheme": [("Authorization", KEY)],
    "not ASCII": [("X-API-Key", b"k\xe9y")],
    "both": [("Authorization", f"Bearer {KEY}"), ("X-API-Key", KEY)],
    "twice": [("X-API-Key", KEY), ("X-API-Key", KEY)],
    "all keys at once": [("X-API-Key", f"{KEY}, {OTHER}")],
    "long": [("X-API-Key", "k" * 10_000)],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_key_is_refused_and_all_refusals_are_alike(guarded, image, name):
    before = read_metric(guarded, "matting_requests_rejected_total", reason="unauthorized")
    response = post(guarded, image, BAD[name])
    problem = assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert KEY not in response.text
    plain = assert_problem(post(guarded, image), 401, "unauthorized")
    assert problem | {"instance": ""} == plain | {"instance": ""}
    after = read_metric(guarded, "matting_requests_rejected_total", reason="unauthorized")
    assert after == before + 2


@pytest.mark.parametrize(
    "path",
    ["/v1/image", "/v1/models", "/v1/capabilities", "/v1/nothing", "/api/nothing"],
)
def test_every_protected_path_needs_a_key_whether_it_exists_or_not(guarded, path):
    assert_problem(guarded.get(path), 401, "unauthorized")
    assert guarded.get(path, headers={"X-API-Key": KEY}).status_code in (200, 404, 405)


@pytest.mark.parametrize(
    "path", ["/v1/../v1/models", "//v1/models", "/v1//models", "/%76%31/models"]
)
def test_other_spellings_of_a_path_are_no_way_round(guarded, path):
    assert guarded.get(path).status_code in (401, 404)


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs"]
)
def test_probes_and_documents_need_no_key(guarded, path):
    assert guarded.get(path).status_code == 200


def test_key_never_reaches_metrics_or_logs(guarded, image, caplog):
    with caplog.at_level("DEBUG"):
        post(guarded, image, [("X-API-Key", KEY)])
        post(guarded, image, [("X-API-Key", "wrong-but-secret")])
    everything = guarded.get("/metrics").text + caplog.text
    assert KEY not in everything and "wrong-but-secret" not in everything
