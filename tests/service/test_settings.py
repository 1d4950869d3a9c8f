import hashlib
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.inference.providers import cuda_unavailable_reason
from service.settings import DEFAULT_MODEL, ENV_PREFIX, Settings, SettingsError, load_settings
from tests.helpers import run_service
from tests.onnx_files import write_model

HERE = Path(__file__).parent
# A value for every setting that is not its default; a new setting must be added here.
OTHER_VALUES = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "api_keys": ("one, two,,", ("one", "two")),
    "keys_file": ("/etc/keys.toml", Path("/etc/keys.toml")),
    "allow_anonymous": ("1", True),
    "allowed_hosts": ("a.example,b.example", ("a.example", "b.example")),
    "data_dir": (str(HERE), HERE),
    "model_path": ("/models/x.onnx", Path("/models/x.onnx")),
    "model_sha256": ("a" * 64, "a" * 64),
    "models": ("a.onnx, /b.onnx,", (Path("a.onnx"), Path("/b.onnx"))),
    "fast_model": ("u2netp", "u2netp"),
    "device": ("cpu", "cpu"),
    "precision": ("fp32", "fp32"),
    "threads": ("3", 3),
    "max_batch_size": ("4", 4),
    "queue_s": ("2.5", 2.5),
    "max_requests": ("7", 7),
    "max_megapixels": ("99.5", 99.5),
    "max_videos": ("5", 5),
    "uploads_max_mb": ("100", 100),
    "uploads_memory_max_mb": ("50", 50),
    "job_max_retries": ("0", 0),
    "job_retry_s": ("0.5", 0.5),
    "header_max_bytes": ("2048", 2048),
    "header_timeout_s": ("3", 3.0),
    "send_timeout_s": ("4", 4.0),
    "body_min_bytes_per_s": ("0", 0),
    "chunk_timeout_s": ("5", 5.0),
    "video_timeout_s": ("6", 6.0),
    "job_timeout_s": ("7", 7.0),
    "engine_stall_s": ("8", 8.0),
    "drain_delay_s": ("0", 0.0),
    "image_max_bytes": ("1000", 1000),
    "cors_origins": (
        "https://a.example, https://b.example",
        ("https://a.example", "https://b.example"),
    ),
    "image_result_max_mb": ("7", 7),
    "image_max_megapixels": ("12.5", 12.5),
    "image_max_side": ("4000", 4000),
    "batch_max_files": ("3", 3),
    "batch_max_bytes": ("5000", 5000),
    "result_store_mb": ("12", 12),
    "video_result_max_mb": ("100", 100),
    "max_sessions": ("31", 31),
    "max_sessions_per_key": ("7", 7),
    "max_chunks": ("3", 3),
    "chunk_max_bytes": ("1000", 1000),
    "chunk_max_frames": ("299", 299),
    "session_buffer_mb": ("63", 63),
    "session_disk_mb": ("511", 511),
    "session_idle_s": ("59", 59),
    "session_max_s": ("7199", 7199),
    "socket_message_max_bytes": ("5000", 5000),
    "socket_ping_s": ("11", 11.0),
    "video_max_bytes": ("2000", 2000),
    "video_max_s": ("30", 30.0),
    "video_max_frames": ("900", 900),
    "video_max_frame_megapixels": ("2.1", 2.1),
    "video_max_side": ("1920", 1920),
    "sync_video_max_s": ("10", 10.0),
    "network_max_megapixels": ("0.5", 0.5),
    "max_queued_jobs": ("8", 8),
    "job_ttl_s": ("60", 60.0),
    "database_url": ("postgresql://db/x", "postgresql://db/x"),
    "jobs_dir": ("/srv/jobs", Path("/srv/jobs")),
    "job_lease_s": ("9", 9.0),
    "storage_url": ("s3://bucket/x", "s3://bucket/x"),
    "storage_redirect": ("0", False),
    "job_max_attempts": ("3", 3),
    "jobs_max_bytes": ("4000", 4000),
    "disk_min_free_bytes": ("500", 500),
    "disk_min_free_percent": ("2.5", 2.5),
    "body_idle_timeout_s": ("3", 3.0),
    "image_body_timeout_s": ("40", 40.0),
    "video_body_timeout_s": ("400", 400.0),
    "request_timeout_s": ("6", 6.0),
    "drain_timeout_s": ("7", 7.0),
    "decoders": ("3", 3),
    "decoder_memory_bytes": (str(2**30), 2**30),
    "decoder_video_memory_bytes": (str(2**29), 2**29),
    "decoder_cpu_s": ("4", 4),
    "decoder_timeout_s": ("2.5", 2.5),
    "log_level": ("debug", "debug"),
    "otlp_endpoint": ("http://collector:4318", "http://collector:4318"),
    "workers": ("4", 4),
    "worker": ("w2", "w2"),
    "url_input": ("1", True),
    "url_timeout_s": ("20", 20.0),
    "put_results": ("1", True),
    "webhook_secret": (f"whsec_{'MTIz' * 8}", f"whsec_{'MTIz' * 8}"),
    "outgoing_allow": ("10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    "outgoing_timeout_s": ("3", 3.0),
    "delivery_tries": ("2", 2),
    "delivery_retry_s": ("1", 1.0),
}


def test_every_setting_has_its_variable(monkeypatch):
    assert set(OTHER_VALUES) == set(Settings.model_fields)
    for name, (text, _) in OTHER_VALUES.items():
        monkeypatch.setenv(ENV_PREFIX + name.upper(), text)
    settings, defaults = load_settings(), Settings.model_construct()
    for name, (_, value) in OTHER_VALUES.items():
        assert getattr(settings, name) == value != getattr(defaults, name), name


def test_every_setting_is_described():
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []


def test_defaults_are_valid_and_those_of_the_contract():
    settings = load_settings()
    assert settings.image_max_bytes == 25 * 2**20 and settings.image_max_megapixels == 51
    assert settings.image_max_side == 16_384 and settings.network_max_megapixels == 1.5
    assert settings.video_max_bytes == 512 * 2**20 and settings.video_max_s == 600
    assert settings.video_max_frames == 36_000 and settings.video_max_frame_megapixels == 9
    assert settings.video_max_side == 4096 and settings.max_videos == 2
    assert settings.chunk_max_bytes == 8 * 2**20 and settings.chunk_max_frames == 300
    assert settings.max_sessions == 32 and settings.max_sessions_per_key == 8
    assert settings.session_buffer_mb == 64 and settings.session_disk_mb == 512
    assert settings.session_idle_s == 60 and settings.session_max_s == 7200
    assert settings.queue_s == 1 and settings.api_keys == ()
    assert settings.model_path == DEFAULT_MODEL and DEFAULT_MODEL.is_file()


def test_argument_wins_over_the_variable(monkeypatch):
    monkeypatch.setenv("MATTING_PORT", "9000")
    assert load_settings(port=9001).port == 9001


def test_settings_cannot_be_changed_later():
    with pytest.raises(ValueError):
        load_settings().port = 1


@pytest.mark.parametrize(
    "name, near",
    [
        ("MATTING_PROT", "MATTING_PORT"),
        ("MATTING_API_KEY", "MATTING_API_KEYS"),
        ("MATTING_IMAGE_MAX_MB", "MATTING_IMAGE_MAX_BYTES"),
        ("matting_devise", "MATTING_DEVICE"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest_name(monkeypatch, name, near):
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is not a setting; did you mean {near}"):
        load_settings()


def test_variables_of_others_are_left_alone(monkeypatch):
    monkeypatch.setenv("MATTINGLY", "1")
    monkeypatch.setenv("PORT", "nonsense")
    load_settings()


@pytest.mark.parametrize(
    "name, value",
    [
        ("port", "http"),
        ("port", "70000"),
        ("port", ""),
        ("device", "gpu"),
        ("threads", "-1"),
        ("queue_s", "0"),
        ("queue_s", "nan"),
        ("queue_s", "inf"),
        ("request_timeout_s", "nan"),
        ("max_megapixels", "-5"),
        ("max_requests", "0"),
        ("max_requests", "1.5"),
        ("model_sha256", "abc"),
        ("decoder_memory_bytes", "1000"),
        ("log_level", "loud"),
        ("disk_min_free_percent", "101"),
        ("data_dir", "/no/such/folder"),
        ("storage_url", "bucket"),
        ("storage_url", "s3://"),
        ("storage_url", "memory:///x"),
        ("storage_url", "s3://key:secret@bucket"),
        ("data_dir", __file__),
    ],
)
def test_bad_value_names_its_variable_and_the_value(monkeypatch, name, value):
    variable = ENV_PREFIX + name.upper()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert text.startswith(f"{variable}={value!r}: ") and "\n" not in text


# The process.


def assert_refuses_to_start(*words: str, **settings) -> None:
    done = run_service(**settings)
    assert done.returncode == 3, done
    (line,) = done.stderr.splitlines()  # one line, no traceback
    assert line.startswith("cannot start: ") and done.stdout == ""
    for word in words:
        assert word in line


def test_start_with_a_bad_value_is_one_line_and_exit_3():
    assert_refuses_to_start("MATTING_PORT", "'http'", port="http")


def test_start_with_an_unknown_variable_is_one_line_and_exit_3():
    assert_refuses_to_start("MATTING_PROT", "MATTING_PORT", prot="8000")


def test_start_without_the_data_folder_is_one_line_and_exit_3():
    asks = "there is no such folder; make it: mkdir -p /no/such/folder"
    assert_refuses_to_start("MATTING_DATA_DIR", asks, data_dir="/no/such/folder")


def test_start_without_any_folder_to_write_to_is_one_line(monkeypatch):
    """As with a read-only root: only who names a folder can do without the system's."""

    def find_none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", find_none)
    with pytest.raises(SettingsError, match="No usable temporary.*MATTING_DATA_DIR"):
        load_settings({})
    assert load_settings({}, data_dir="/").data_dir == Path("/")


@pytest.mark.skipif(cuda_unavailable_reason() is None, reason="CUDA is there")
def test_start_on_cuda_without_cuda_is_one_line_and_exit_3():
    assert_refuses_to_start("CUDA", "MATTING_DEVICE=auto", "[gpu]", device="cuda")


def test_start_with_a_changed_model_is_one_line_and_exit_3(tmp_path):
    path = write_model(tmp_path / "tiny.onnx")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong = right[::-1]
    assert_refuses_to_start(right, wrong, model_path=path, model_sha256=wrong, device="cpu")


@pytest.mark.parametrize(
    "name, content",
    [("gone.onnx", None), ("cut.onnx", b"\x08\x0a\x12"), ("modnet.ckpt", b"\x80\x02.")],
)
def test_start_with_a_bad_model_is_one_line_and_exit_3(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert_refuses_to_start(name, model_path=path, device="cpu")


def test_start_on_a_taken_port_is_exit_3_and_names_the_port(live_server):
    server = live_server()
    done = run_service(port=server.port, decoders=1, device="cpu")
    assert done.returncode == 3 and str(server.port) in done.stderr
    assert server.is_ready()


def test_version_and_settings_are_printed_without_starting():
    assert run_service("--version").stdout.strip()
    table = run_service("--list-settings").stdout
    for name in Settings.model_fields:
        assert f"`{ENV_PREFIX}{name.upper()}`" in table


@pytest.mark.parametrize("secret", ["MTIz" * 8, "whsec_MTIz", "whsec_" + "MTIz" * 40, "whsec_!"])
def test_secret_of_webhooks_is_checked(secret: str) -> None:
    with pytest.raises(SettingsError, match="24 to 64 bytes|base64"):
        load_settings(webhook_secret=secret)
