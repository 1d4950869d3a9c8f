"""A client generated from the API document, as users of it would make theirs."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from PIL import Image

from tests.helpers import ROOT

PHOTO = ROOT / "examples" / "portrait.jpg"


@pytest.fixture(scope="module")
def generated(live_server, tmp_path_factory: pytest.TempPathFactory):
    """The packages of a client of a live server, and a client that has its key."""
    server = live_server(api_keys="secret")
    folder = tmp_path_factory.mktemp("generated")
    with urlopen(f"{server.url}/openapi.json") as answer:
        (folder / "openapi.json").write_bytes(answer.read())
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    program = Path(sys.executable).with_name("openapi-python-client")
    command = [program, "generate", "--path", "openapi.json", "--config", "config.json"]
    done = subprocess.run(
        [*command, "--meta", "none", "--output-path", "generated_client"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "POST /v1/image" not in done.stdout, "nothing of this route was left out"
    sys.path.insert(0, str(folder))
    try:
        package = importlib.import_module("generated_client")
        with package.AuthenticatedClient(base_url=server.url, token="secret") as client:
            yield SimpleNamespace(
                client=client,
                image=importlib.import_module("generated_client.api.image.matte_image"),
                models=importlib.import_module("generated_client.models"),
                types=importlib.import_module("generated_client.types"),
            )
    finally:
        sys.path.remove(str(folder))


def ask(generated, content: bytes, **options):
    file = generated.types.File(io.BytesIO(content), "portrait.jpg", "image/jpeg")
    body = generated.models.MatteImageFilesBody(file=file, **options)
    return generated.image.sync_detailed(client=generated.client, body=body)


def test_generated_client_mattes_a_photo(generated):
    answer = ask(generated, PHOTO.read_bytes())
    assert answer.status_code == 200, answer.content
    with Image.open(io.BytesIO(answer.content)) as alpha:
        assert alpha.mode == "L" and alpha.size == (340, 340)


def test_generated_client_sends_options(generated):
    output = generated.models.MatteImageFilesBodyOutput.CUTOUT
    answer = ask(generated, PHOTO.read_bytes(), output=output, crop=True, threshold=0.5)
    assert answer.status_code == 200, answer.content
    with Image.open(io.BytesIO(answer.content)) as cutout:
        assert cutout.mode == "RGBA" and cutout.width < 340
        assert len(set(cutout.getchannel("A").tobytes())) == 2


def test_generated_client_reads_a_problem(generated):
    problem = ask(generated, b"no picture").parsed
    assert problem.status == 415 and problem.code == "unsupported-media" and problem.detail
