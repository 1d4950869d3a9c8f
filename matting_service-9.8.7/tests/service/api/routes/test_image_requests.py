"""How an image and its options may come in, and what is refused."""

import pytest

from tests.helpers import assert_problem, post_image

SMALL = {"ref_size": 128}  # quick where the matte is not the subject


@pytest.mark.parametrize("name", ["file", "image_file", "image"])
def test_multipart_part_may_have_any_of_its_names(client, portrait_jpeg, name):
    response = client.post("/v1/image", files={name: portrait_jpeg}, data={"ref_size": "128"})
    assert response.status_code == 200
    assert response.content == post_image(client, portrait_jpeg, **SMALL).content


def test_options_come_from_query_and_form_alike(client, portrait_jpeg):
    options = {"output": "composite", "background": "red", "ref_size": "128"}
    files = {"file": portrait_jpeg}
    by_form = client.post("/v1/image", files=files, data=options)
    by_query = client.post("/v1/image", files=files, params=options)
    by_both = client.post("/v1/image", files=files, params=options, data=options)
    assert by_form.status_code == 200
    assert by_form.content == by_query.content == by_both.content
    assert by_form.content == post_image(client, portrait_jpeg, **options).content


def test_same_option_with_different_values_is_refused(client, portrait_jpeg):
    files = {"file": portrait_jpeg}
    response = client.post("/v1/image?ref_size=128", files=files, data={"ref_size": "160"})
    problem = assert_problem(response, 422, "invalid-option")
    assert "ref_size" in problem["detail"] and "twice" in problem["detail"]
    url = "/v1/image?output=alpha&output=cutout"
    assert_problem(client.post(url, files=files), 422, "invalid-option")


@pytest.mark.parametrize(
    "name, near",
    [("outptu", "output"), ("backgroud", "background"), ("refsize", "ref_size")],
)
def test_unknown_option_names_the_nearest_one(client, portrait_jpeg, name, near):
    problem = assert_problem(
        post_image(client, portrait_jpeg, **{name: "1"}), 422, "invalid-option"
    )
    assert name in problem["detail"] and f"`{near}`" in problem["hint"]
    assert problem["errors"] == [{"loc": name, "msg": "unknown option"}]


def test_unknown_option_that_is_near_nothing_lists_them_all(client, portrait_jpeg):
    problem = assert_problem(post_image(client, portrait_jpeg, zzz="1"), 422, "invalid-option")
    for name in ("output", "format", "background", "ref_size", "quality", "compression"):
        assert name in problem["hint"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("output", "matte"),
        ("output", ""),
        ("format", "gif"),
        ("format", "PNG "),
        ("background", "nocolour"),
        ("background", "#12345"),
        ("background", "#11223344"),
        ("background", "x" * 500),
        ("ref_size", "0"),
        ("ref_size", "-512"),
        ("ref_size", "500"),
        ("ref_size", "4096"),
        ("ref_size", "1e3"),
        ("ref_size", "nan"),
        ("ref_size", "9" * 5000),
        ("quality", "0"),
        ("quality", "101"),
        ("compression", "10"),
    ],
)
def test_bad_value_is_refused_and_names_the_option(client, portrait_jpeg, name, value):
    needs = {
        "background": {"output": "composite"},
        "quality": {"format": "jpeg"},
    }.get(name, {})
    response = post_image(client, portrait_jpeg, **({name: value} | needs))
    problem = assert_problem(response, 422, "invalid-option")
    assert problem["errors"][0]["loc"] == name and problem["detail"].startswith(name)
    assert len(response.content) < 2000 and "pydantic" not in response.text


@pytest.mark.parametrize(
    "options, words",
    [
        ({"background": "red"}, "output=composite"),
        ({"background": "red", "output": "cutout"}, "output=composite"),
        ({"quality": "80"}, "format=jpeg"),
        ({"quality": "80", "format": "png"}, "format=jpeg"),
        ({"foreground": "off"}, "alpha"),
        ({"icc": "strip"}, "alpha"),
        ({"crop_margin": "5%"}, "crop=true"),
        ({"blur_radius": "5", "output": "composite"}, "background=blur"),
        ({"output": "bundle", "format": "png"}, "zip"),
        ({"format": "zip"}, "output=bundle"),
        ({"compression": "3", "format": "webp"}, "format=png"),
    ],
)
def test_option_without_effect_is_refused(client, portrait_jpeg, options, words):
    response = post_image(client, portrait_jpeg, **options)
    problem = assert_problem(response, 422, "invalid-option")
    assert words in problem["detail"]


def test_no_file_is_refused(client):
    response = client.post("/v1/image", files={"output": (None, "alpha")})
    problem = assert_problem(response, 400, "bad-request")
    assert "`file`" in problem["detail"]


def test_file_under_another_name_is_refused_with_the_right_one(client, portrait_jpeg):
    response = client.post("/v1/image", files={"photo": portrait_jpeg})
    problem = assert_problem(response, 422, "invalid-option")
    assert "photo" in problem["detail"] and "`file`" in problem["hint"]


def test_file_sent_as_text_says_so(client):
    response = client.post("/v1/image", files={"file": (None, "photo.jpg")})
    problem = assert_problem(response, 400, "bad-request")
    assert "`file`" in problem["detail"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/jsonp", "video/mp4", "image"])
def test_other_content_type_is_refused(client, portrait_jpeg, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    response = client.post("/v1/image", content=portrait_jpeg, headers=headers)
    problem = assert_problem(response, 415, "unsupported-media")
    assert (kind or "missing") in problem["detail"] and "multipart/form-data" in problem["hint"]


@pytest.mark.parametrize(
    "kind, body",
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\nbody\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=" + "x" * 3000, b"--x"),
    ],
)
def test_broken_multipart_is_a_bad_request(client, kind, body):
    response = client.post("/v1/image", content=body, headers={"Content-Type": kind})
    assert_problem(response, 400, "bad-request")


def test_too_many_fields_are_a_bad_request(client, portrait_jpeg):
    data = {f"field{n}": "1" for n in range(200)}
    response = client.post("/v1/image", files={"file": portrait_jpeg}, data=data)
    assert_problem(response, 400, "bad-request")


def test_file_name_never_reaches_the_answer_or_a_path(client, portrait_jpeg):
    for name in ("../../etc/passwd", "x" * 5000, "a\r\nX-Evil: 1", "ß\0.png"):
        response = client.post(
            "/v1/image", files={"file": (name, portrait_jpeg)}, data={"ref_size": "128"}
        )
        assert response.status_code in (200, 400)
        assert "x-evil" not in response.headers
