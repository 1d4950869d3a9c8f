"""Jobs whose files lie in object storage: a real S3 server."""

import hashlib
import io
import threading
import urllib.request

import pytest

from service.errors import StorageUnavailable
from service.jobs import run as job_run
from service.jobs.files.bucket import Bucket, ObjectReader
from service.jobs.files.folder import INPUT
from service.jobs.opening import open_job_store
from service.jobs.recovery import EXPIRED_S
from service.jobs.rows.schema import JobStoreError
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, run_service, wait_until
from tests.job_requests import bring, wait_for_end
from tests.jobs import Bench, Clock, run_with_jobs
from tests.receiver import open_receiver
from tests.storage import needs_storage

pytestmark = needs_storage
OWN = {"Sec-Fetch-Mode": "cors"}  # of a script in a page: it is sent nowhere else


@pytest.fixture
def client(make_client, storage_url):
    return make_client(FakeEngine(), storage_url=storage_url)


@pytest.fixture
def result(client, clip) -> dict:
    job = wait_for_end(client, bring(client, clip).headers["location"])
    assert job["state"] == "succeeded", job
    return job["results"][0]


def test_download_leads_to_the_storage(client, result):
    response = client.get(result["url"])
    assert (response.status_code, response.headers["cache-control"]) == (307, "no-store")
    with urllib.request.urlopen(response.headers["location"]) as answer:
        content = answer.read()
        assert answer.headers["Content-Type"] == result["content_type"]
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (
        result["sha256"],
        result["bytes"],
    )


def test_service_itself_sends_ranges_and_etags(client, result):
    whole = client.get(result["url"], headers=OWN)
    etag = f'"{result["sha256"]}"'
    assert (whole.status_code, whole.headers["etag"]) == (200, etag)
    assert hashlib.sha256(whole.content).hexdigest() == result["sha256"]
    part = client.get(result["url"], headers=OWN | {"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{result['bytes']}"
    rest = client.get(result["url"], headers={"Range": "bytes=100-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert client.get(result["url"], headers={"If-None-Match": etag}).status_code == 304
    head = client.head(result["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(result["bytes"]))


@pytest.mark.parametrize("headers", [{"X-API-Key": "key"}, {"Sec-Fetch-Mode": "no-cors"}])
def test_key_and_pages_are_not_sent_elsewhere(client, result, headers):
    assert client.get(result["url"], headers=headers).status_code == 200


def test_redirects_can_be_switched_off(make_client, storage_url, clip):
    client = make_client(FakeEngine(), storage_url=storage_url, storage_redirect=False)
    job = wait_for_end(client, bring(client, clip).headers["location"])
    assert client.get(job["results"][0]["url"]).status_code == 200


def test_files_live_as_long_as_their_job(storage_url, tmp_path, clip):
    async def story(bench: Bench):
        files = bench.store.files
        job = await bench.wait(await bench.bring(clip))
        await bench.settle()
        (result,) = job.results
        assert files.list_job(job.id) == {files.name_result(result): result.bytes}
        bench.clock.elapsed_s += 60
        await bench.jobs.sweep()
        assert files.list_all() == {}
        assert (await bench.jobs.find("a", job.id)).state == "expired"
        bench.clock.elapsed_s += EXPIRED_S
        await bench.jobs.sweep()
        assert await bench.find_row(job) is None
        deleted = await bench.bring(clip)
        await bench.jobs.delete("a", deleted.id)
        assert files.list_all() == {}

    run_with_jobs(tmp_path, story, storage_url=storage_url, job_ttl_s=60)
    assert not list(tmp_path.glob("matting-job-*")), "nothing of a run stays on the disk"


def test_new_process_goes_on_and_removes_what_belongs_to_no_job(storage_url, tmp_path, clip):
    async def begin(bench: Bench):
        await bench.services.slots.wait()  # the only place, until the end
        await bench.bring(clip)
        bench.store.files.receive("orphan", {INPUT: io.BytesIO(b"x")})

    async def go_on(bench: Bench):
        (job,) = bench.store.list_all()
        done = await bench.wait(job)
        await bench.settle()
        assert done.state == "succeeded" and bench.store.files.list_ids() == [job.id]

    for story in (begin, go_on):
        run_with_jobs(tmp_path, story, storage_url=storage_url, max_videos=1)


def test_files_that_are_lost_or_altered_fail_the_job(storage_url, tmp_path, clip):
    async def story(bench: Bench):
        await bench.services.slots.wait()
        lost, altered = await bench.bring(clip), await bench.bring(clip)
        bench.store.files.remove(lost.id)
        bucket = bench.store.files._bucket
        name = bench.store.find_storage_name()
        bucket.put(f"{name}/{altered.id}/{INPUT}", io.BytesIO(clip[:-1] + b"?"))
        bench.services.slots.leave()
        for job, words in ((lost, "have been removed"), (altered, "not kept the clip")):
            ended = await bench.wait(job)
            assert (ended.state, ended.error["code"]) == ("failed", "gone")
            assert words in ended.error["detail"]

    run_with_jobs(tmp_path, story, storage_url=storage_url, max_videos=1)


def refuse(*_, **__):
    raise StorageUnavailable("the object storage of jobs does not answer", retry_after_s=5)


@pytest.mark.parametrize("method", ["open", "put"])
def test_work_waits_for_a_storage_that_is_away(storage_url, tmp_path, clip, monkeypatch, method):
    monkeypatch.setattr(job_run, "STORAGE_S", 0.01)

    async def story(bench: Bench):
        await bench.services.slots.wait()
        job = await bench.bring(clip)
        calls = []

        def note(*_, **__):
            calls.append(method)
            if len(calls) == 3:
                monkeypatch.undo()
            refuse()

        monkeypatch.setattr(Bucket, method, note)
        bench.services.slots.leave()
        ended = await bench.wait(job)
        assert (ended.state, ended.attempts, len(calls)) == ("succeeded", 1, 3)

    run_with_jobs(tmp_path, story, storage_url=storage_url, max_videos=1, job_max_retries=0)


def test_upload_that_cannot_be_kept_is_503_and_no_job(client, clip, monkeypatch, portrait_jpeg):
    monkeypatch.setattr(Bucket, "put", refuse)
    response = bring(client, clip)
    problem = assert_problem(response, 503, "not-ready")
    assert "object storage" in problem["detail"] and response.headers["retry-after"] == "5"
    assert client.app.state.services.jobs.store.list_all() == []
    assert client.post("/v1/image", files={"file": portrait_jpeg}).status_code == 200


def test_deletion_answers_while_the_storage_is_away_and_the_files_go_later(
    storage_url, tmp_path, clip, monkeypatch
):
    clock = Clock()

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        await bench.settle()
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "remove", refuse)
            await bench.jobs.delete("a", job.id)
        assert await bench.find_row(job) is None and bench.store.files.list_ids() == [job.id]
        clock.day_s = 4e9  # objects have the time of the server
        clock.elapsed_s += 3600
        await bench.jobs.sweep()
        assert bench.store.files.list_ids() == []

    run_with_jobs(tmp_path, story, clock=clock, storage_url=storage_url)


def test_start_without_the_storage_says_so(storage_url, tmp_path, monkeypatch):
    done = run_service(storage_url="s3://no-such-bucket/x", data_dir=tmp_path)
    assert done.returncode == 3 and "MATTING_STORAGE_URL cannot be used" in done.stderr
    assert "NoSuchBucket" in done.stderr and "Traceback" not in done.stderr
    store = open_job_store(Settings(data_dir=tmp_path))
    store.files.receive("job", {INPUT: io.BytesIO(b"x")})
    store.close()
    with pytest.raises(JobStoreError, match="holds files of jobs.*MATTING_STORAGE_URL"):
        open_job_store(Settings(data_dir=tmp_path, storage_url=storage_url))


def test_results_are_sent_by_put_and_read_by_no_thread_that_photos_need(
    make_client, storage_url, clip, monkeypatch
):
    threads = []
    readinto = ObjectReader.readinto

    def note(self, buffer):
        threads.append(threading.current_thread().name)
        return readinto(self, buffer)

    monkeypatch.setattr(ObjectReader, "readinto", note)
    with open_receiver() as receiver:
        client = make_client(
            FakeEngine(), storage_url=storage_url, put_results=True, outgoing_allow="127.0.0.0/8"
        )
        threads.clear()  # of the start
        job = wait_for_end(
            client, bring(client, clip, put_urls=f"{receiver.url}/a").headers["location"]
        )
        wait_until(lambda: receiver.requests, 30)
        client.get(job["results"][0]["url"], headers=OWN)
    assert hashlib.sha256(receiver.requests[0].body).hexdigest() == job["results"][0]["sha256"]
    assert {name.rpartition("_")[0] for name in threads} == {"job-files"}
