"""Jobs whose files lie in Azure's storage: a real server of it (Azurite, from npm)."""

import base64
import hashlib
import hmac
import subprocess
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from service.jobs.files.bucket import open_bucket
from service.jobs.rows.schema import JobStoreError
from tests.fakes import FakeEngine
from tests.helpers import find_free_port, wait_until
from tests.job_requests import bring, wait_for_end
from tests.npm import install_npm_package
from tests.storage import S3, needs_storage

pytestmark = [
    needs_storage,
    pytest.mark.slow,  # installs the server
    pytest.mark.timeout(600),
]
NPM_PACKAGE = "azurite@3.35.0"
FLAGS = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
# Those of every such server, known to the library.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


class Azure(S3):
    """A server on a free port of this machine."""

    @property
    def environ(self) -> dict[str, str]:
        return {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": self.url}

    def make_container(self, name: str) -> str:
        """Return the URL of a folder in a new container."""
        date = formatdate(usegmt=True)
        signed = "\n".join(
            ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{VERSION}"]
            + [f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"]
        )
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": VERSION,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        url = f"{self.url}/{ACCOUNT}/{name}?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, None, headers, method="PUT")).close()
        return f"az://{name}/some/folder"


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    folder = install_npm_package(tmp_path_factory.mktemp("azurite"), NPM_PACKAGE)
    server = Azure(find_free_port())
    command = [str(folder / "node_modules" / ".bin" / "azurite-blob"), *FLAGS]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(server.port)]
    server.process = subprocess.Popen(command, cwd=folder)
    try:
        wait_until(server.is_open, 60)
        yield server
    finally:
        server.stop()


def test_job_lies_in_azure_and_is_downloaded_from_there(azure, make_client, clip, monkeypatch):
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)
    url = azure.make_container("jobs")
    client = make_client(FakeEngine(), storage_url=url)
    path = bring(client, clip).headers["location"]
    job = wait_for_end(client, path)
    assert job["state"] == "succeeded", job
    (result,) = job["results"]

    lead = client.get(result["url"])
    assert (lead.status_code, lead.headers["cache-control"]) == (307, "no-store")
    with urllib.request.urlopen(lead.headers["location"]) as answer:
        content = answer.read()
        assert answer.headers["Content-Type"] == result["content_type"]
        assert answer.headers["ETag"]
    assert hashlib.sha256(content).hexdigest() == result["sha256"]
    ranged = {"Range": "bytes=100-199"}
    with urllib.request.urlopen(
        urllib.request.Request(lead.headers["location"], headers=ranged)
    ) as answer:
        assert (answer.status, answer.read()) == (206, content[100:200])
    own = client.get(result["url"], headers=ranged | {"Sec-Fetch-Mode": "cors"})
    assert (own.status_code, own.content) == (206, content[100:200])
    assert own.headers["etag"] == f'"{result["sha256"]}"'

    bucket = open_bucket(url)
    stored = bucket.list("")
    assert any(one.key.endswith(result["name"]) and one.bytes == len(content) for one in stored)
    assert client.delete(path).status_code == 204
    wait_until(lambda: bucket.list("") == [])


def test_large_file_is_sent_in_parts(azure, monkeypatch, tmp_path):
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)
    bucket = open_bucket(azure.make_container("large"))
    content = bytes(range(256)) * 50_000
    (tmp_path / "file").write_bytes(content)
    assert bucket.put("a/b", tmp_path / "file") == len(content)
    with bucket.open("a/b") as file:
        file.seek(9_000_000)
        assert file.read(1000) == content[9_000_000:9_001_000]
    bucket.remove(["a/b", "gone"])
    assert bucket.list("a") == []


def test_container_that_is_missing_is_told_with_the_variables_that_matter(azure, monkeypatch):
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(JobStoreError, match=r"AZURE_STORAGE_\*"):
        open_bucket("az://missing/folder")
