"""Resumable uploads by tus 1.0.0, raw and with the official client in Node."""

import base64
import hashlib
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from service.jobs.uploads.store import UploadStore
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, wait_until
from tests.job_requests import wait_for_end
from tests.npm import install_npm_package

UPLOADS = "/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream"}
NPM_PACKAGE = "tus-js-client@4.3.1"
UPLOAD = """
const fs = require("fs");
const tus = require("tus-js-client");
const [endpoint, path, chunk] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint, chunkSize: Number(chunk), uploadSize: fs.statSync(path).size,
  metadata: {filename: "clip.mp4", filetype: "video/mp4", outputs: "alpha", crf: "30"},
  retryDelays: [0, 100],
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: ({lastResponse}) => console.log(lastResponse.getHeader("X-Job-ID")),
});
upload.start();
"""


def write_metadata(**options: str) -> str:
    pairs = {name: base64.b64encode(value.encode()).decode() for name, value in options.items()}
    return ",".join(f"{name} {value}" for name, value in pairs.items())


def begin(client, length: int, headers: dict[str, str] = TUS, **options: str) -> httpx.Response:
    told = {"Upload-Length": str(length), "Upload-Metadata": write_metadata(**options)}
    return client.post(UPLOADS, headers=headers | told)


def send(client, path: str, offset: int, piece: bytes, **more: str) -> httpx.Response:
    headers = PIECE | {"Upload-Offset": str(offset)} | more
    return client.patch(path, content=piece, headers=headers)


def read_offset(client, path: str) -> int:
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def test_pieces_become_a_job(fake, brief: bytes) -> None:
    begun = begin(fake, len(brief), filename="me.mp4", outputs="alpha", crf="30")
    assert begun.status_code == 201 and begun.headers["tus-resumable"] == "1.0.0"
    path, middle = begun.headers["location"], len(brief) // 2
    assert "upload-expires" in begun.headers and read_offset(fake, path) == 0
    first = send(fake, path, 0, brief[:middle])
    assert (first.status_code, first.headers["upload-offset"]) == (204, str(middle))
    assert "x-job-id" not in first.headers and read_offset(fake, path) == middle
    wrong = send(fake, path, 0, brief[:middle])
    assert_problem(wrong, 409, "conflict")
    assert wrong.headers["tus-resumable"] == "1.0.0"
    last = send(fake, path, middle, brief[middle:])
    assert last.headers["upload-offset"] == str(len(brief))
    job_id = last.headers["x-job-id"]
    assert fake.head(path, headers=TUS).headers["x-job-id"] == job_id
    assert send(fake, path, len(brief), b"").headers["x-job-id"] == job_id, "sent again"
    job = wait_for_end(fake, f"/v1/jobs/{job_id}")
    assert job["state"] == "succeeded" and job["options"] == {"outputs": ["alpha"], "crf": 30}
    direct = fake.post("/v1/video", params={"outputs": "alpha", "crf": 30}, files={"file": brief})
    assert fake.get(job["results"][0]["url"]).content == direct.content


def test_upload_that_was_cut_off_goes_on(live_server, brief: bytes) -> None:
    server = live_server()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        path = begin(client, len(brief)).headers["location"]
        length = {"Content-Length": str(len(brief))}
        told = PIECE | length | {"Upload-Offset": "0", "Host": "localhost"}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"PATCH {path} HTTP/1.1\r\n{head}\r\n".encode() + brief[:1000])
            wait_until(lambda: read_offset(client, path) == 1000)
        answer = wait_until(
            lambda: (sent := send(client, path, 1000, brief[1000:])).status_code == 204 and sent
        )
        assert client.get(f"/v1/jobs/{answer.headers['x-job-id']}").status_code == 200


def test_checksum_guards_a_piece(fake, brief: bytes) -> None:
    path = begin(fake, len(brief)).headers["location"]
    digest = base64.b64encode(hashlib.sha1(brief[:500]).digest()).decode()
    wrong = send(fake, path, 0, brief[1:501], **{"Upload-Checksum": f"sha1 {digest}"})
    assert_problem(wrong, 460, "checksum-mismatch")
    assert read_offset(fake, path) == 0
    right = send(fake, path, 0, brief[:500], **{"Upload-Checksum": f"sha1 {digest}"})
    assert right.status_code == 204 and read_offset(fake, path) == 500
    unknown = send(fake, path, 500, b"x", **{"Upload-Checksum": "crc32 AAAA"})
    assert "sha1, sha256" in assert_problem(unknown, 400, "bad-request")["detail"]


def test_upload_is_forgotten_on_demand_and_in_time(make_client, monkeypatch) -> None:
    client = make_client(FakeEngine(), max_queued_jobs=1)
    path = begin(client, 10).headers["location"]
    assert_problem(begin(client, 10), 429, "overloaded")
    assert client.delete(path, headers=TUS).status_code == 204
    assert client.head(path, headers=TUS).status_code == 404
    path = begin(client, 10).headers["location"]
    store: UploadStore = client.app.state.services.uploads
    clock = store._clock
    monkeypatch.setattr(store, "_clock", lambda: clock() + 1e6)
    assert client.head(path, headers=TUS).status_code == 410
    assert begin(client, 10).status_code == 201, "its place is free"


def test_upload_belongs_to_its_key(app) -> None:
    path = begin(app, 10).headers["location"]
    other = {"X-API-Key": "two"}
    assert app.head(path, headers=TUS | other).status_code == 404
    assert_problem(send(app, path, 0, b"x", **other), 404, "not-found")
    assert app.delete(path, headers=TUS | other).status_code == 404
    assert read_offset(app, path) == 0


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Upload-Length": "10"}, 412, "Tus-Resumable must be 1.0.0"),
        (TUS | {"Upload-Length": "-1"}, 400, "number of bytes"),
        (TUS, 400, "Upload-Length must be"),
        (TUS | {"Upload-Length": "0"}, 400, "a clip has bytes"),
        (TUS | {"Upload-Length": str(10**12)}, 413, "limit"),
        (TUS | {"Upload-Length": "1", "Upload-Metadata": "crf ?"}, 400, "base64"),
        (TUS | {"Upload-Length": "1", "Upload-Metadata": "crf OTk="}, 422, "crf"),
        (TUS | {"Upload-Length": "1", "Upload-Metadata": "outptus YQ=="}, 422, "outptus"),
    ],
)
def test_upload_that_cannot_be_is_refused_at_once(fake, headers, status: int, words: str) -> None:
    answer = fake.post(UPLOADS, headers=headers)
    assert answer.status_code == status and words in answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"


def test_piece_that_cannot_be_is_refused(fake) -> None:
    path = begin(fake, 10).headers["location"]
    assert_problem(send(fake, path, 0, b"x" * 11), 413, "payload-too-large")
    assert read_offset(fake, path) == 0
    plain = fake.patch(path, content=b"x", headers=TUS | {"Upload-Offset": "0"})
    assert_problem(plain, 415, "unsupported-media")
    store: UploadStore = fake.app.state.services.uploads
    _, opened = store.open("anonymous", path.rpartition("/")[2])
    try:
        assert_problem(send(fake, path, 0, b"x"), 423, "locked")
    finally:
        opened.close()


def test_server_says_what_it_knows(fake) -> None:
    answer = fake.options(UPLOADS)
    assert answer.status_code == 204 and answer.headers["tus-version"] == "1.0.0"
    extensions = set(answer.headers["tus-extension"].split(","))
    assert extensions == {"creation", "expiration", "checksum", "termination"}
    assert int(answer.headers["tus-max-size"]) > 10**6


@pytest.fixture(scope="module")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_npm_package(tmp_path_factory.mktemp("npm"), NPM_PACKAGE)


def test_official_client_sends_a_clip(npm_folder: Path, live_server, brief: bytes) -> None:
    (npm_folder / "clip.mp4").write_bytes(brief)
    (npm_folder / "upload.js").write_text(UPLOAD)
    url = live_server().url
    command = ["node", "upload.js", url + UPLOADS, "clip.mp4", str(len(brief) // 3)]
    done = subprocess.run(command, cwd=npm_folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with httpx.Client(base_url=url, timeout=60) as client:
        job = wait_for_end(client, f"/v1/jobs/{done.stdout.strip()}")
    assert job["state"] == "succeeded" and job["options"] == {"outputs": ["alpha"], "crf": 30}
