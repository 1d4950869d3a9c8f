"""Several models in one service: which one a request gets, when it is loaded, what is told."""

from pathlib import Path

import numpy as np
import pytest

from service.app import create_app
from service.inference.models import ModelError
from service.settings import DEFAULT_MODEL, Settings
from tests.clips import make_clip
from tests.conftest import TEST_SETTINGS
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, post_image, read_metric
from tests.networks import describe
from tests.onnx_files import METADATA, write_model
from tests.providers import BEST, HAS_CUDA
from tests.sessions import SessionClient
from tests.videos import post

IMAGE = encode(np.full((64, 64, 3), 200, np.uint8), "PNG")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two further models; the second one is the fast one."""
    folder = tmp_path_factory.mktemp("models")
    return tuple(
        write_model(folder / f"{name}.onnx", metadata=METADATA | {"name": name})
        for name in ("second", "modnet-fast")
    )


@pytest.fixture
def client(make_client, paths):
    return make_client(FakeEngine(), models=paths)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("c") / "c.mp4", seconds=0.3, fps=10).read_bytes()


def list_models(client) -> dict[str, dict]:
    return {model["name"]: model for model in client.get("/v1/models").json()["models"]}


def test_model_is_loaded_when_it_is_asked_for_and_not_before(client):
    before = list_models(client)
    assert list(before) == ["fake", "second", "modnet-fast"]
    assert [model["default"] for model in before.values()] == [True, False, False]
    assert [model["default_for_speed"] for model in before.values()] == [False, False, True]
    assert [model["loaded"] for model in before.values()] == [True, False, False]
    assert before["second"]["provider"] is None
    answer = post_image(client, IMAGE, model="second")
    assert (answer.headers["x-model"], answer.headers["x-provider"]) == ("second", BEST)
    after = list_models(client)
    assert [model["loaded"] for model in after.values()] == [True, True, False]
    second = after["second"]
    assert second["provider"] == BEST and second["precision"] in ("fp32", "bf16")
    labels = {name: second[name] for name in ("name", "sha256", "provider", "precision")}
    assert read_metric(client, "matting_model_info", **labels) == 1


@pytest.mark.parametrize("options", [{}, {"model": "auto"}, {"model": "fake"}])
def test_photo_gets_the_first_model_without_a_wish(client, options):
    assert post_image(client, IMAGE, **options).headers["x-model"] == "fake"


@pytest.mark.skipif(HAS_CUDA, reason="there the first model serves all")
def test_clip_gets_the_fast_model_for_speed_and_the_first_for_quality(client, clip):
    for options, name in (
        ({}, "fake"),
        ({"prefer": "quality"}, "fake"),
        ({"prefer": "speed"}, "modnet-fast"),
        ({"model": "second"}, "second"),
    ):
        answer = post(client, clip, outputs="alpha", **options)
        assert answer.status_code == 200 and answer.headers["x-model"] == name


def test_session_keeps_the_model_of_its_first_frame(client):
    for options, name in (({}, "fake"), ({"prefer": "speed"}, "modnet-fast")):
        session = SessionClient(client, output="alpha", packaging="frames", **options)
        assert session.opened["model"] is None
        for _ in range(2):
            answer = session.send([IMAGE])
            assert answer.headers["x-model"] == name and answer.headers["x-provider"]
            assert session.get().json()["model"] == name
        assert session.finish().headers["x-model"] == name


def test_model_that_is_not_served_is_refused_everywhere(client, clip):
    for answer in (
        post_image(client, IMAGE, model="third"),
        post(client, clip, model="third"),
        client.post("/v1/sessions", json={"model": "third"}),
        client.post("/api/remove", params={"model": "third"}, files={"file": IMAGE}),
    ):
        problem = answer.json()
        assert answer.status_code in (400, 422) and "no model `third`" in problem["detail"]
        assert all(f"`{name}`" in problem["hint"] for name in ("fake", "second", "modnet-fast"))


def test_prefer_with_a_model_of_ones_own_is_refused(client, clip):
    problem = assert_problem(
        post(client, clip, model="second", prefer="speed"), 422, "invalid-option"
    )
    assert "prefer needs model=auto" in problem["detail"]


def test_rembg_clients_reach_the_models_by_name(client):
    for model, name in (("u2net", "fake"), ("second", "second")):
        answer = client.post("/api/remove", params={"model": model}, files={"file": IMAGE})
        assert answer.headers["x-model"] == name


def test_size_of_ones_own_is_refused_where_the_network_has_one_size(make_client, tmp_path):
    path = write_model(tmp_path / "x.onnx", metadata={})
    describe(path, mean=0.5, std=0.5, size=(64, 96))
    client = make_client(FakeEngine(), models=(path,))
    for answer in (
        post_image(client, IMAGE, model="x", ref_size=64),
        client.post("/v1/sessions", json={"model": "x", "ref_size": 64}),
    ):
        problem = assert_problem(answer, 422, "invalid-option")
        assert "96 x 64" in problem["detail"]
    assert post_image(client, IMAGE, model="x").status_code == 200


def replace_model(path) -> None:
    write_model(path, "out-of-range", metadata=METADATA | {"name": "x"})


def describe_otherwise(path) -> None:
    describe(path, mean=0.1, std=0.5)


LOSSES = [replace_model, Path.unlink, describe_otherwise]


@pytest.mark.parametrize("lose", LOSSES)
def test_model_that_changed_on_the_disk_is_503_and_the_others_serve(make_client, tmp_path, lose):
    path = write_model(tmp_path / "x.onnx", metadata=METADATA | {"name": "x"})
    client = make_client(FakeEngine(), models=(path,))
    lose(path)
    for _ in range(2):
        problem = assert_problem(post_image(client, IMAGE, model="x"), 503, "not-ready")
        assert "`x`" in problem["detail"] and str(tmp_path) not in str(problem)
    assert post_image(client, IMAGE).status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("lose", LOSSES)
def test_model_that_is_loaded_stays_whatever_comes_of_its_file(make_client, tmp_path, lose):
    path = write_model(tmp_path / "x.onnx", metadata=METADATA | {"name": "x"})
    client = make_client(FakeEngine(), models=(path,))
    before = post_image(client, IMAGE, model="x")
    lose(path)
    after = post_image(client, IMAGE, model="x")
    assert after.status_code == 200 and after.content == before.content


def start(settings: dict, engine) -> None:
    from starlette.testclient import TestClient

    with TestClient(create_app(Settings(**TEST_SETTINGS | settings), engine)):
        pass


@pytest.mark.parametrize("name", ["fake", "auto"])
def test_two_models_of_one_name_are_refused_at_start(tmp_path, name):
    path = write_model(tmp_path / "x.onnx", metadata=METADATA | {"name": name})
    with pytest.raises(ModelError, match=f"names of their own, and not `auto`: fake, {name}"):
        start({"models": (path,), "data_dir": tmp_path}, FakeEngine())


def test_bad_file_among_the_models_is_refused_at_start_though_it_would_be_loaded_later(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="x.onnx is not a usable ONNX model"):
        start({"models": (tmp_path / "x.onnx",), "data_dir": tmp_path}, FakeEngine())


def test_other_embedded_weights_are_served_beside_the_first_alone(tmp_path):
    assert Settings().other_models == (DEFAULT_MODEL.with_name("modnet.onnx"),)
    assert Settings(model_path=tmp_path / "x.onnx").other_models == ()
    assert Settings(models=()).other_models == ()
