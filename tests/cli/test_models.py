import hashlib
import http.server
import shutil
import threading
from dataclasses import dataclass, field

import pytest

from cli.__main__ import main as matte
from cli.models import pull as models
from cli.models.download import RemoteFile
from tests.helpers import ROOT

CONTENT = bytes(range(256)) * 1200  # 300 kB


@dataclass
class Mirror:
    """What a local server does, and what it was asked."""

    content: bytes = CONTENT
    has_ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)  # bytes of each of the first answers
    status: int | None = None
    asked: list[str | None] = field(default_factory=list)  # Range headers
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mirror = self.server.mirror
        wanted = self.headers["Range"]
        mirror.asked.append(wanted)
        if mirror.status:
            self.send_error(mirror.status)
            return
        start = 0
        if wanted and mirror.has_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            end = len(mirror.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        body = mirror.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mirror.breaks_after:
            body = body[: mirror.breaks_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """Return `serve(**what it does)`: a Mirror behind a real server on this machine."""
    servers = []

    def start(**behaviour):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.mirror = Mirror(**behaviour)
        server.mirror.url = f"http://127.0.0.1:{server.server_port}/weights.ckpt"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.mirror

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pull(monkeypatch, tmp_path):
    """Return `pull(*mirrors)`: the exit code of the command with these mirrors of CONTENT."""
    converted = []

    def convert(*arguments, **options):
        converted.append((*arguments, options))

    monkeypatch.setattr(models, "export", convert)

    def run(*mirrors, content=CONTENT):
        sha256 = hashlib.sha256(content).hexdigest()
        urls = tuple(mirror if isinstance(mirror, str) else mirror.url for mirror in mirrors)
        file = RemoteFile("weights.ckpt", len(content), sha256, urls)
        monkeypatch.setitem(models.WEIGHTS, "webcam", file)
        return matte(["models", "pull", "webcam", "--out", str(tmp_path / "out")])

    run.folder, run.converted = tmp_path / "out", converted
    return run


def read_refusal(capsys):
    """Return the single line of stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_weights_are_fetched_and_converted(capsys, serve, pull):
    assert pull(serve()) == 0
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT
    assert list_names(pull.folder) == ["weights.ckpt"]
    (arguments,) = pull.converted
    assert arguments == (
        pull.folder / "weights.ckpt",
        pull.folder / "modnet-webcam.onnx",
        {"name": "modnet-webcam", "ref_size": 512},
    )
    assert "SHA-256 verified" in capsys.readouterr().out


def test_broken_connection_is_taken_up_where_it_broke(serve, pull):
    mirror = serve(breaks_after=[200_000])
    assert pull(mirror) == 0
    assert mirror.asked == [None, "bytes=200000-"]
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT


def test_second_call_goes_on_where_the_first_ended(capsys, serve, pull):
    dead = serve(breaks_after=[200_000, *[0] * 20])
    assert pull(dead) == 1
    assert "broke 107,200 bytes before the end" in read_refusal(capsys)
    assert list_names(pull.folder) == ["weights.ckpt.part"]
    other = serve()
    assert pull(other) == 0
    assert other.asked == ["bytes=200000-"]
    assert list_names(pull.folder) == ["weights.ckpt"]
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT


def test_server_without_ranges_sends_all_again(serve, pull):
    mirror = serve(has_ranges=False, breaks_after=[200_000])
    assert pull(mirror) == 0
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT


def test_file_that_is_there_is_not_fetched(serve, pull):
    mirror = serve()
    assert pull(mirror) == pull(mirror) == 0
    assert len(mirror.asked) == 1 and len(pull.converted) == 2


def test_altered_file_that_is_there_is_replaced(serve, pull):
    pull.folder.mkdir()
    (pull.folder / "weights.ckpt").write_bytes(CONTENT[:-1] + b"x")
    assert pull(serve()) == 0
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT


def test_wrong_hash_is_refused_and_deleted(capsys, serve, pull):
    altered = CONTENT[:-1] + b"x"
    assert pull(serve(content=altered)) == 1
    line = read_refusal(capsys)
    assert hashlib.sha256(altered).hexdigest() in line
    assert hashlib.sha256(CONTENT).hexdigest() in line and "refused and deleted" in line
    assert list_names(pull.folder) == [] and pull.converted == []


def test_next_mirror_is_asked(serve, pull):
    gone, altered, good = serve(status=404), serve(content=CONTENT[::-1]), serve()
    assert pull("http://127.0.0.1:1/nobody", gone, altered, good) == 0
    assert [len(mirror.asked) for mirror in (gone, altered, good)] == [1, 1, 1]
    assert (pull.folder / "weights.ckpt").read_bytes() == CONTENT


def test_each_mirror_is_named_when_none_has_it(capsys, serve, pull):
    assert pull(serve(status=404), serve(status=503), "http://127.0.0.1:1/nobody") == 1
    line = read_refusal(capsys)
    assert "HTTP 404" in line and "HTTP 503" in line and "refused" in line


def test_endless_answer_is_cut(capsys, serve, pull):
    mirror = serve(content=CONTENT * 3)
    assert pull(mirror) == 1
    assert "more than the 307,200 bytes" in read_refusal(capsys)
    assert len(mirror.asked) == 1
    assert all(path.stat().st_size == 0 for path in pull.folder.iterdir())


def test_folder_that_cannot_be_written_is_one_line(capsys, tmp_path, serve, pull):
    pull.folder.write_text("a file")
    assert pull(serve()) == 1
    assert str(pull.folder) in read_refusal(capsys)


def test_unknown_name_is_a_usage_error(capsys):
    assert matte(["models", "pull", "portrait"]) == 2
    assert "photographic" in capsys.readouterr().err


def test_official_weights_are_pinned():
    for name, file in models.WEIGHTS.items():
        assert name in file.name and file.size_bytes == 26_255_603 and len(file.sha256) == 64
        assert len(file.urls) >= 2 and all(url.startswith("https://") for url in file.urls)


def test_real_export_of_what_was_fetched(monkeypatch, serve, pull):
    """The fast network's checkpoint, fetched and converted by the real exporter."""
    import export.pipeline as pipeline
    from export.__main__ import export
    from service.settings import DEFAULT_MODEL

    monkeypatch.setattr(models, "export", export)
    # Tracing takes long and is tested elsewhere; loading, verification and report are real.
    monkeypatch.setattr(
        pipeline, "write_onnx", lambda network, path, metadata: shutil.copy(DEFAULT_MODEL, path)
    )
    content = (ROOT / "training" / "weights" / "modnet-fast.npz").read_bytes()
    assert pull(serve(content=content, breaks_after=[len(content) // 2]), content=content) == 0
    assert list_names(pull.folder) == ["modnet-webcam.json", "modnet-webcam.onnx", "weights.ckpt"]
