"""What remove.bg's clients may send here and what is refused, in the words they read."""

import base64
import json
import re

import pytest

from service.api.problems import removebg_response
from service.errors import MattingError
from tests.compat_helpers import (
    REMOVEBG,
    ask,
    assert_removebg_error,
    see_nobody,
    see_person,
    see_speck,
)
from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine
from tests.helpers import Exchange, wait_until
from tests.hostile import make_flat_png

KEY = "alpha-key-1234"


# Parameters.


@pytest.mark.parametrize(
    "name, value, code",
    [
        ("image_url", "http://example.com/a.jpg", "invalid_image_url"),
        ("bg_image_url", "http://example.com/a.jpg", "invalid_bg_image_url"),
        ("type", "product", "invalid_type"),
        ("type", "car", "invalid_type"),
        ("type", "animal", "invalid_type"),
        ("type", "graphic", "invalid_type"),
        ("type", "transportation", "invalid_type"),
        ("type_level", "3", "invalid_type_level"),
        ("size", "huge", "invalid_size"),
        ("format", "gif", "invalid_format"),
        ("channels", "rgb", "invalid_channels"),
        ("roi", "10% 10% 90% 90%", "invalid_roi"),
        ("roi", "0px 0px 100px 100px", "invalid_roi"),
        ("crop", "perhaps", "invalid_crop"),
        ("crop_margin", "10px", "invalid_crop_margin"),
        ("crop_margin", "wide", "invalid_crop_margin"),
        ("scale", "5%", "invalid_scale"),
        ("position", "left", "invalid_position"),
        ("position", "10% 20% 30%", "invalid_position"),
        ("add_shadow", "perhaps", "invalid_add_shadow"),
        ("shadow_type", "car", "invalid_shadow_type"),
        ("shadow_method", "legacy", "invalid_shadow_method"),
        ("shadow_opacity", "50", "invalid_shadow_opacity"),
        ("semitransparency", "false", "invalid_semitransparency"),
        ("bg_color", "nocolour", "invalid_bg_color"),
        ("bg_color", "12345", "invalid_bg_color"),
        ("bg_color", "rgb(1,2,3)", "invalid_bg_color"),
        ("bg_color", "81d4fa77", "invalid_bg_color"),
        ("bg_color", "8df7", "invalid_bg_color"),
        ("bg_color", "f" * 5000, "invalid_bg_color"),
    ],
)
def test_refused_value_names_the_parameter(fake, small, name, value, code):
    error = assert_removebg_error(ask(fake, small, **{name: value}), 400, code)
    assert error["title"].startswith(name) and len(error["title"]) < 300


@pytest.mark.parametrize(
    "options, code",
    [
        ({"channels": "alpha", "bg_color": "red"}, "invalid_channels"),
        ({"format": "zip", "bg_color": "red"}, "invalid_format"),
        ({"format": "zip", "channels": "alpha"}, "invalid_format"),
        ({"crop": "false", "crop_margin": "10px"}, "invalid_crop_margin"),
        ({"channels": "alpha", "scale": "50%"}, "invalid_scale"),
        ({"format": "zip", "position": "center"}, "invalid_scale"),
        ({"format": "zip", "add_shadow": "true"}, "invalid_shadow_type"),
    ],
)
def test_pairs_that_leave_one_without_effect_are_refused(fake, small, options, code):
    assert_removebg_error(ask(fake, small, **options), 400, code)


def test_two_backgrounds_are_refused(fake, small):
    files = {"image_file": small, "bg_image_file": small}
    response = fake.post(REMOVEBG, files=files, data={"bg_color": "red"})
    assert_removebg_error(response, 400, "multiple_bg_sources")


def test_broken_background_is_named(fake, small):
    files = {"image_file": small, "bg_image_file": small[:100]}
    error = assert_removebg_error(fake.post(REMOVEBG, files=files), 400, "failed_to_read_image")
    assert "background" in error["detail"]


@pytest.mark.parametrize(
    "name, near", [("sise", "size"), ("bgcolor", "bg_color"), ("Crop", "crop")]
)
def test_unknown_parameter_names_the_nearest(fake, small, name, near):
    error = assert_removebg_error(ask(fake, small, **{name: "1"}), 400, "unknown_parameter")
    assert name in error["title"] and f"`{near}`" in error["detail"]
    response = fake.post(
        REMOVEBG, json={"image_file_b64": base64.b64encode(small).decode(), name: "1"}
    )
    assert response.json()["errors"] == [error]


def test_unknown_file_part_is_refused(fake, small):
    files = {"image_file": small, "photo": small}
    error = assert_removebg_error(fake.post(REMOVEBG, files=files), 400, "unknown_parameter")
    assert "photo" in error["title"] and "image_file" in error["detail"]


# Pictures.


def test_files_that_are_no_images_have_their_codes(fake, small):
    text = ask(fake, b"this is text")
    assert_removebg_error(text, 400, "invalid_file_type")
    for data in (small[:100], b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 600):
        assert_removebg_error(ask(fake, data), 400, "failed_to_read_image")
    response = fake.post(REMOVEBG, data={"image_file_b64": "not base64!"})
    assert_removebg_error(response, 400, "failed_to_read_image")
    large = assert_removebg_error(ask(fake, make_flat_png(9000, 9000)), 400, "resolution_too_high")
    assert "81.0 megapixels" in large["detail"] and "51" in large["detail"]


@pytest.mark.parametrize("see", [see_nobody, see_speck])
def test_picture_without_a_person_is_unknown_foreground(make_client, small, see):
    client = make_client(FakeEngine(see))
    error = assert_removebg_error(ask(client, small), 400, "unknown_foreground")
    assert error["title"].startswith("Could not identify foreground")


# Errors that are raised elsewhere.


def test_compressed_body_is_refused_in_their_words(fake, small):
    response = ask(fake, small, headers={"Content-Encoding": "gzip"})
    assert_removebg_error(response, 400, "invalid_file_type")


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}, {"Authorization": "Basic x"}])
def test_bad_key_is_403(make_client, small, headers):
    client = make_client(FakeEngine(see_person), api_keys=KEY)
    error = assert_removebg_error(ask(client, small, headers=headers), 403, "auth_failed")
    assert error["title"] == "API Key invalid" and KEY not in str(error)
    assert_removebg_error(client.get(REMOVEBG, headers=headers), 403, "auth_failed")
    for good in ({"X-Api-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert ask(client, small, headers=good).status_code == 200


def test_full_gate_is_429_with_retry_after(make_client, small):
    engine = BlockedEngine()
    client = make_client(engine, max_requests=1)
    first = Exchange(client, "/v1/image", small)
    try:
        wait_until(engine.entered.is_set)
        response = ask(client, small)
    finally:
        engine.release.set()
        first.wait()
    error = assert_removebg_error(response, 429, "rate_limit_exceeded")
    assert error["title"] == "Rate limit exceeded" and "queue is full" in error["detail"]
    assert int(response.headers["retry-after"]) >= 1


def test_our_own_faults_keep_their_status(make_client, small, monkeypatch):
    client = make_client(BrokenEngine())
    response = ask(client, small)
    assert_removebg_error(response, 500, "internal_error")
    assert "secret" not in response.text

    def fail(*args):
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("service.decoding.check_size", fail)
    response = ask(client, small)
    assert_removebg_error(response, 500, "internal_error")
    assert "secret" not in response.text


def test_draining_service_is_503(make_client, small):
    client = make_client(FakeEngine(see_person))
    client.portal.call(client.app.state.services.runtime.models.aclose)
    response = ask(client, small)
    assert_removebg_error(response, 503, "draining")


def test_every_error_of_the_tree_has_a_body():
    """Statuses of 5xx stay, those that remove.bg has are its own; 402 is never sent."""
    own = {400, 403, 408, 429, 500, 503, 504, 507}
    own_kinds = MattingError.__subclasses__()  # the command line has some of its own
    kinds = [MattingError, *(kind for kind in own_kinds if kind.__module__.startswith("service"))]
    assert len(kinds) > 15
    for kind in kinds:
        response = removebg_response(kind("what was wrong", hint="what to do", retry_after_s=3))
        (error,) = json.loads(response.body)["errors"]
        assert "what was wrong" in (error["title"] + error["detail"])
        assert "what to do" in error["detail"] and re.fullmatch("[a-z_]+", error["code"])
        assert response.headers["retry-after"] == "3"
        # The others are of jobs, sessions, uploads and kept results, which no route here has.
        if (
            kind.status not in (404, 406, 409, 410, 412, 416, 423, 460)
            and kind.slug != "idempotency-key-reused"
        ):
            assert response.status_code in own, kind
        if kind.status >= 500:
            assert response.status_code == kind.status


def test_other_paths_and_methods_answer_in_their_shape(fake):
    wrong = assert_removebg_error(fake.get(REMOVEBG), 405, "method_not_allowed")
    assert "POST" in wrong["detail"]
    assert_removebg_error(fake.get("/v1.0/account"), 404, "not_found")
    assert_removebg_error(fake.post("/v1.0/improve"), 404, "not_found")
