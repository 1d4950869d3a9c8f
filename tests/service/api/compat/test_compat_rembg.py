"""The route for clients of rembg's server."""

import numpy as np
import pytest

from tests.compat_helpers import REMBG, ask, see_nobody, see_person
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, post_image

CUTOUT = {"output": "cutout", "foreground": "off"}
KEY = "alpha-key-1234"


def test_answer_is_a_cutout_of_the_full_size(client, portrait_jpeg):
    response = ask(client, portrait_jpeg, REMBG)
    assert response.status_code == 200 and response.headers["content-type"] == "image/png"
    rgba = decode(response.content)
    assert rgba.shape == (512, 512, 4)
    assert rgba[80:170, 180:260, 3].mean() > 0.9 * 255, "the face"
    assert rgba[0:60, 80:150, 3].mean() < 0.1 * 255, "the wall"
    assert response.headers["x-model"] == "modnet-fast"


@pytest.mark.parametrize("place", ["form", "query"])
@pytest.mark.parametrize(
    "theirs, ours",
    [
        ({}, CUTOUT),
        ({"a": "true"}, {"output": "cutout"}),
        ({"om": "true"}, {"output": "alpha"}),
        ({"ppm": "true"}, CUTOUT | {"threshold": 0.5, "erode": 1, "dilate": 1}),
        ({"om": "1", "ppm": "1"}, {"output": "alpha", "threshold": 0.5, "erode": 1, "dilate": 1}),
        ({"bgc": "10,20,30,255"}, CUTOUT | {"output": "composite", "background": "#0a141e"}),
        (
            {"bgc": "10, 20, 30, 255", "a": "true"},
            {"output": "composite", "background": "#0a141e"},
        ),
        ({"bgc": "10,20,30,0"}, CUTOUT),
    ],
)
def test_parameters_do_what_ours_do(fake, small, theirs, ours, place):
    files = {"file": ("a.png", small)}
    how = {"params": theirs} if place == "query" else {"data": theirs}
    response = fake.post(REMBG, files=files, **how)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.content == post_image(fake, small, **ours).content
    assert (response.content != ask(fake, small, REMBG).content) == (ours != CUTOUT)


def test_post_processed_mask_is_hard(fake, small):
    soft = decode(ask(fake, small, REMBG, om="true").content)
    hard = decode(ask(fake, small, REMBG, om="true", ppm="true").content)
    assert len(np.unique(soft)) > 10 and set(np.unique(hard)) == {0, 255}
    assert abs(int((hard > 127).sum()) - int((soft > 127).sum())) < 0.02 * hard.size


@pytest.mark.parametrize(
    "name, value",
    [
        ("model", "u2net"),
        ("model", "fake"),
        ("a", "false"),
        ("af", "240"),
        ("ab", "10"),
        ("ae", "10"),
        ("om", "false"),
        ("ppm", "0"),
        ("extras", "{}"),
    ],
)
def test_default_value_changes_nothing(fake, small, name, value):
    response = ask(fake, small, REMBG, **{name: value})
    assert response.status_code == 200, response.text
    assert response.content == ask(fake, small, REMBG).content
    assert response.headers["x-model"] == "fake", "the one that ran, whatever it was asked as"


@pytest.mark.parametrize(
    "options, word",
    [
        ({"model": "birefnet-portrait"}, "birefnet-portrait"),
        ({"model": "u2netp"}, "u2netp"),
        ({"af": "200"}, "af"),
        ({"ab": "20", "a": "true"}, "ab"),
        ({"ae": "15", "a": "true"}, "ae"),
        ({"extras": '{"sam_prompt": []}'}, "extras"),
        ({"bgc": "1,2,3,128"}, "bgc"),
        ({"bgc": "256,0,0,255"}, "bgc"),
        ({"om": "true", "a": "true"}, "for a"),
        ({"om": "true", "bgc": "1,2,3,255"}, "bgc"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fake, small, options, word):
    problem = assert_problem(ask(fake, small, REMBG, **options), 400, "bad-request")
    assert word in problem["detail"] and problem["hint"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("a", "perhaps"),
        ("af", "256"),
        ("ab", "-1"),
        ("ae", "-1"),
        ("ae", "x"),
        ("bgc", "1,2,3"),
        ("bgc", "red"),
        ("bgc", "1,2,3,4,5"),
    ],
)
def test_value_that_rembg_cannot_read_is_422(fake, small, name, value):
    problem = assert_problem(ask(fake, small, REMBG, **{name: value}), 422, "invalid-option")
    assert problem["errors"][0]["loc"] == name


def test_unknown_parameter_names_the_nearest(fake, small):
    problem = assert_problem(ask(fake, small, REMBG, bgcolor="1"), 422, "invalid-option")
    assert "bgcolor" in problem["detail"] and "`bgc`" in problem["hint"]


@pytest.mark.parametrize("path", [f"{REMBG}?url=http://input.png", REMBG])
def test_address_is_refused(fake, path):
    problem = assert_problem(fake.get(path), 400, "bad-request")
    assert problem["detail"].startswith("url is not supported") and "POST" in problem["hint"]


def test_errors_are_problem_documents(fake, small):
    assert_problem(ask(fake, b"text", REMBG), 415, "unsupported-media")
    assert_problem(ask(fake, small[:100], REMBG), 422, "undecodable-media")
    assert_problem(fake.post(REMBG, files={"image": small}), 422, "invalid-option")
    assert_problem(fake.post(REMBG, files={"a": (None, "true")}), 400, "bad-request")
    assert_problem(fake.delete(REMBG), 405, "method-not-allowed")


def test_picture_without_a_person_is_answered_as_rembg_does(make_client, small):
    response = ask(make_client(FakeEngine(see_nobody)), small, REMBG)
    assert response.status_code == 200 and response.headers["x-person"] == "no"
    assert decode(response.content)[..., 3].max() == 0


def test_key_is_needed_where_there_are_keys(make_client, small):
    client = make_client(FakeEngine(see_person), api_keys=KEY)
    assert_problem(ask(client, small, REMBG), 401, "unauthorized")
    assert_problem(client.get(f"{REMBG}?url=x"), 401, "unauthorized")
    assert ask(client, small, REMBG, headers={"X-API-Key": KEY}).status_code == 200


def test_image_over_the_limit_is_413(make_client, small):
    client = make_client(FakeEngine(see_person), image_max_bytes=300)
    assert_problem(ask(client, small, REMBG), 413, "payload-too-large")


def test_openapi_describes_both_methods(fake):
    paths = fake.get("/openapi.json").json()["paths"][REMBG]
    form = paths["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    names = {"model", "a", "af", "ab", "ae", "om", "ppm", "bgc", "extras"}
    assert set(form["properties"]) == {"file", *names} and form["required"] == ["file"]
    assert form["properties"]["file"]["description"] == "the image"
    assert "`url`" in paths["get"]["summary"]
