"""The OpenAPI document of the service: routes, options, examples, errors."""

import pytest

from service.stills.options import ImageOptions
from tests.fakes import FakeEngine
from tests.helpers import encode, post_image


@pytest.fixture(scope="module")
def openapi(client) -> dict:
    return client.get("/openapi.json").json()


def test_openapi_lists_every_route(client, openapi):
    assert openapi["openapi"].startswith("3.")
    assert {
        ("post", "/v1/image"),
        ("post", "/v1/video"),
        ("get", "/v1/models"),
        ("get", "/v1/capabilities"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/healthz"),
        ("get", "/metrics"),
    } <= {(method, path) for path, item in openapi["paths"].items() for method in item}
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)


def test_openapi_describes_the_upload_with_its_options(openapi):
    operation = openapi["paths"]["/v1/image"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    files = {"file", "url", "trimap_file", "background_file", "hint_file"}
    options = set(ImageOptions.model_fields)
    assert set(form["properties"]) == files | options
    assert "bundle" in form["properties"]["output"]["enum"]
    assert form["properties"]["background"]["examples"] == ["#00b140", "blur"]
    assert form["properties"]["quality"]["description"].endswith("default: 90")
    # What clients would send by themselves: an option without effect is refused.
    assert not [name for name, field in form["properties"].items() if "default" in field]
    kinds = ["multipart/form-data", "application/json", "application/octet-stream"]
    assert list(operation["requestBody"]["content"]) == kinds


@pytest.mark.parametrize("keys, is_open", [((), True), (("secret",), False)])
def test_openapi_says_where_a_key_goes(make_client, keys, is_open):
    document = make_client(FakeEngine(), api_keys=keys).get("/openapi.json").json()
    for path, item in document["paths"].items():
        for operation in item.values():
            security = operation.get("security", [])
            if path.startswith(("/v1/", "/v1.0/", "/api/")):
                assert {"bearer": []} in security and {"key": []} in security
                assert ({} in security) is is_open
            else:
                assert not security, path
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"]["name"] == "X-API-Key" and schemes["bearer"]["scheme"] == "bearer"


def test_openapi_has_short_operation_ids_and_the_real_error_body(client, openapi):
    problem = client.post("/v1/image", json={"outptu": 1}).json()
    schema = openapi["components"]["schemas"]["Problem"]
    assert set(schema["required"]) <= set(problem) <= set(schema["properties"])
    for path, item in openapi["paths"].items():
        for operation in item.values():
            assert len(operation["operationId"]) <= 20
            kind, name = (
                ("application/json", "RemoveBgErrors")
                if path.startswith("/v1.0/")
                else ("application/problem+json", "Problem")
            )
            assert "422" not in operation["responses"]
            for status in ("4XX", "5XX"):
                (found,) = operation["responses"][status]["content"].items()
                assert found == (kind, {"schema": {"$ref": f"#/components/schemas/{name}"}})


def test_openapi_examples_of_stills_work(client, openapi, portrait):
    """Every example is carried out as the document shows it."""
    photo = encode(portrait, "JPEG")
    kept = post_image(client, photo, keep_s=60).headers["x-result-id"]
    count = 0
    for path, item in openapi["paths"].items():
        if not path.startswith("/v1/image"):
            continue
        content = item["post"]["requestBody"]["content"]
        for title, example in content["multipart/form-data"]["examples"].items():
            files = {} if "{" in path else {"file": photo}
            url = path.format(result_id=kept)
            response = client.post(url, files=files, data=example["value"])
            assert response.status_code == 200, (path, title, response.text)
            assert response.headers["content-type"] in item["post"]["responses"]["200"]["content"]
            count += 1
    assert count > 10


def test_openapi_examples_of_single_options_work(client, openapi, portrait):
    photo = encode(portrait[::4, ::4], "JPEG")
    needs = {
        "background": {"output": "composite"},
        "crop_margin": {"crop": "true"},
        "position": {"output": "cutout"},
        "scale": {"output": "cutout"},
    }
    count = 0
    content = openapi["paths"]["/v1/image"]["post"]["requestBody"]["content"]
    for name, field in content["multipart/form-data"]["schema"]["properties"].items():
        for value in field.get("examples", []):
            options = {name: value, **needs.get(name, {})}
            assert post_image(client, photo, ref_size=64, **options).status_code == 200, options
            count += 1
    assert count > 5


def test_openapi_references_resolve(openapi):
    def visit(node):
        if isinstance(node, dict):
            if "$ref" in node:
                target = openapi
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(openapi)
    names = [item["operationId"] for path in openapi["paths"].values() for item in path.values()]
    assert len(names) == len(set(names))
