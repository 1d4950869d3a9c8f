"""The files of jobs in a folder and in object storage: the same tests for both."""

import hashlib
import io
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from service.clips.matte import ResultFile
from service.errors import InsufficientStorage, StorageUnavailable
from service.jobs.files.bucket import RETRIES, open_bucket
from service.jobs.files.folder import BACKGROUND, INPUT, JobFiles, JobResult, check_budget
from service.jobs.files.objects import ObjectFiles
from service.jobs.rows.schema import JobStoreError
from service.scratch import ScratchFolder
from service.settings import Settings
from tests.helpers import find_free_port
from tests.storage import S3, needs_storage

CONTENT = bytes(range(256)) * 25_000  # more than one part of an upload
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = RETRIES | {"max_retries": 1, "retry_timeout": timedelta(seconds=1)}


class Timer:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def open_stored(url: str, folder: Path, name: str = "database", timer=time.monotonic):
    scratch = ScratchFolder(folder, "scratch-")
    return ObjectFiles(open_bucket(url, QUICK), name, folder / "files", scratch, timer)


@pytest.fixture(params=["folder", "file", pytest.param("s3", marks=needs_storage)])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> JobFiles:
    if request.param == "folder":
        return JobFiles(tmp_path / "files")
    if request.param == "file":
        pytest.importorskip("obstore")
        return open_stored(f"file://{tmp_path}/objects", tmp_path)
    return open_stored(request.getfixturevalue("storage_url"), tmp_path)


@pytest.fixture
def stored(storage_url: str, tmp_path: Path) -> ObjectFiles:
    return open_stored(storage_url, tmp_path)


def receive(files: JobFiles, job_id: str = "job") -> dict[str, str]:
    return files.receive(job_id, {INPUT: io.BytesIO(CONTENT), BACKGROUND: io.BytesIO(b"b")})


def publish(files: JobFiles, content: bytes = CONTENT, job_id: str = "job") -> JobResult:
    path = files.begin_results(job_id) / "alpha.mp4"
    path.write_bytes(content)
    (result,) = files.publish_results(job_id, [ResultFile(path, "video/mp4", len(content))])
    return result


def read(file) -> bytes:
    with file:
        return b"".join(iter(lambda: file.read(1 << 18), b""))


def test_uploads_are_kept_as_they_came_and_found_by_name(files):
    assert receive(files) == {INPUT: DIGEST, BACKGROUND: hashlib.sha256(b"b").hexdigest()}
    assert files.list_ids() == ["job"]
    assert files.list_job("job") == {INPUT: len(CONTENT), BACKGROUND: 1}
    for _ in range(2):  # a second run fetches it again
        assert read(files.open_upload("job", INPUT)) == CONTENT
        files.leave("job")
    with pytest.raises(FileNotFoundError):
        files.open_upload("other", INPUT)


def test_result_is_read_in_ranges_and_the_uploads_go(files):
    receive(files)
    result = publish(files)
    assert result == JobResult("alpha.mp4", "video/mp4", len(CONTENT), DIGEST)
    with files.open_result("job", result) as file:
        file.seek(5_000_000)
        assert file.read(3) == CONTENT[5_000_000:5_000_003]
        file.seek(0)
        assert read(file) == CONTENT
    files.keep_results_only("job", [result])
    assert files.list_job("job") == {files.name_result(result): len(CONTENT)}
    files.remove("job")
    files.remove("job")
    assert files.list_ids() == []
    with pytest.raises(FileNotFoundError):
        files.open_result("job", result)


def test_results_of_a_run_that_was_not_written_down_go_with_the_end_of_the_next(files):
    receive(files)
    publish(files, b"of a run that died")
    files.drop_results("job")
    result = publish(files)
    files.keep_results_only("job", [result])
    assert files.list_job("job") == {files.name_result(result): len(CONTENT)}


def test_only_old_files_are_listed_as_old(files):
    receive(files)
    now_s = time.time()
    assert files.list_old(now_s - 3600) == [] and files.list_old(now_s + 3600) == ["job"]


def test_bytes_of_all_jobs_are_bounded(files):
    receive(files, "one")
    receive(files, "two")
    used = 2 * (len(CONTENT) + 1)
    assert files.measure_bytes() == used
    check_budget(Settings(jobs_max_bytes=used), files)
    with pytest.raises(InsufficientStorage) as caught:
        check_budget(Settings(jobs_max_bytes=used), files, 1)
    assert (caught.value.limit, caught.value.actual) == (used, used + 1)
    files.remove("one")
    assert files.measure_bytes() == used / 2


@needs_storage
def test_storage_is_not_counted_anew_each_second_and_work_in_progress_is(storage_url, tmp_path):
    timer = Timer()
    stored = open_stored(storage_url, tmp_path, timer=timer)
    other = open_stored(storage_url, tmp_path)
    assert stored.measure_bytes() == 0
    receive(other)
    assert stored.measure_bytes() == 0
    (stored.begin_results("job") / "alpha.mp4").write_bytes(b"12345")
    assert stored.measure_bytes() == 5
    timer.now_s += 11
    assert stored.measure_bytes() == len(CONTENT) + 6
    stored.leave("job")
    assert stored.measure_bytes() == len(CONTENT) + 1


@needs_storage
def test_run_that_lost_its_job_overwrites_nothing(stored):
    receive(stored)
    mine = publish(stored)
    publish(stored, b"of a service that was away for long, and goes on")
    assert read(stored.open_result("job", mine)) == CONTENT


@needs_storage
def test_two_databases_share_a_bucket(storage_url, tmp_path):
    one, other = (open_stored(storage_url, tmp_path, name) for name in ("a", "b"))
    receive(one)
    assert (one.list_ids(), other.list_ids(), other.list_old(time.time() + 99)) == (["job"], [], [])


@needs_storage
def test_signed_url_gives_the_result_with_its_type_and_name_to_whoever_has_it(stored):
    receive(stored)
    url = stored.sign_result("job", publish(stored))
    request = urllib.request.Request(url, headers={"Range": "bytes=10-19"})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read()) == (206, CONTENT[10:20])
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="alpha.mp4"'


def test_folder_signs_nothing(tmp_path):
    result = JobResult("alpha.mp4", "video/mp4", 1, DIGEST)
    assert JobFiles(tmp_path).sign_result("job", result) is None


@needs_storage
def test_storage_that_ends_is_unavailable_and_comes_back(tmp_path, monkeypatch):
    server = S3()
    server.start()
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    try:
        stored = open_stored(server.make_bucket(), tmp_path)
        assert stored.measure_bytes() == 0
        server.stop()
        failures: list[None] = []
        stored.watch(lambda: failures.append(None))
        with pytest.raises(StorageUnavailable, match="does not answer") as caught:
            receive(stored)
        assert len(failures) == 1, "nobody waits for more than that"
        assert stored.measure_bytes() == stored.measure_bytes() == 0, "as it was counted before"
        assert len(failures) == 2
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
        server.start()
        with pytest.raises(StorageUnavailable, match="does not answer"):
            receive(stored)  # the new server has no bucket: it does not look like a missing file
    finally:
        server.stop()


@needs_storage
def test_altered_result_is_not_published(stored, monkeypatch):
    receive(stored)
    bucket_open = stored._bucket.open
    monkeypatch.setattr(stored._bucket, "open", lambda key: io.BytesIO(CONTENT[:-1] + b"?"))
    with pytest.raises(StorageUnavailable, match=r"has altered alpha\.mp4"):
        publish(stored)
    monkeypatch.setattr(stored._bucket, "open", bucket_open)
    monkeypatch.setattr(stored._bucket, "put", lambda *_: 7)
    with pytest.raises(StorageUnavailable, match=f"has 7 of {len(CONTENT)} bytes"):
        receive(stored, "other")


@needs_storage
def test_storage_that_cannot_be_used_is_named(s3, storage_url, monkeypatch, tmp_path):
    with pytest.raises(JobStoreError, match="MATTING_STORAGE_URL cannot be used: .*NoSuchBucket"):
        open_bucket("s3://no-such-bucket-here/x", QUICK)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{find_free_port()}")
    with pytest.raises(JobStoreError, match="cannot be used: .*error sending request.*AWS_"):
        open_bucket(storage_url, QUICK)
