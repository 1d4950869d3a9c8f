"""`format=psd` of `POST /v1/image`: layers as image editors open them."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.media.image.layers import encode_layers, is_installed
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image


def test_layers_are_the_photo_and_the_cutout(make_client, portrait) -> None:
    psd_tools = pytest.importorskip("psd_tools")
    client = make_client(FakeEngine())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = io.BytesIO()
    Image.fromarray(portrait[:90, :120]).save(photo, "PNG", icc_profile=profile)
    answer = post_image(client, photo.getvalue(), output="bundle", format="psd", crop="true")
    assert answer.headers["content-type"] == "image/vnd.adobe.photoshop"
    document = psd_tools.PSDImage.open(io.BytesIO(answer.content))
    assert [layer.name for layer in document] == ["photo", "person"]
    cutout = decode(post_image(client, photo.getvalue(), output="cutout", crop="true").content)
    assert document.size == cutout.shape[1::-1]
    below, above = (np.asarray(layer.topil()) for layer in document)
    assert (above == cutout).all()
    assert below.shape == cutout.shape and (below[..., 3] == 255).all()
    icc = document.image_resources.get_data(psd_tools.constants.Resource.ICC_PROFILE)
    assert icc == profile
    assert (decode(answer.content)[..., :3] == below[..., :3]).all(), "for readers without layers"
    assert "psd" in client.get("/v1/capabilities").json()["image"]["outputs"]["bundle"]


def test_layers_take_few_bytes_a_pixel() -> None:
    pytest.importorskip("psd_tools")
    rows = np.arange(1000, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    photo = np.broadcast_to(rows, (1000, 1000, 3)).copy()
    person = np.broadcast_to(rows, (1000, 1000, 4)).copy()
    encode_layers({"photo": photo, "person": person})  # what is loaded late does not count
    tracemalloc.start()
    try:
        encode_layers({"photo": photo, "person": person})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * photo[:, :, 0].size


def test_layers_need_a_bundle_and_the_extra(make_client) -> None:
    client = make_client(FakeEngine())
    picture = encode(np.zeros((32, 32, 3), np.uint8), "PNG")
    refused = assert_problem(post_image(client, picture, format="psd"), 422, "invalid-option")
    assert "format=psd needs output=bundle" in refused["detail"]
    if not is_installed():
        answer = post_image(client, picture, output="bundle", format="psd")
        assert "[psd]" in assert_problem(answer, 422, "invalid-option")["hint"]
