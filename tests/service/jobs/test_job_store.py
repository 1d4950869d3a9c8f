"""The rows and files of jobs, and what is refused at the start."""

import asyncio
import io
import os
import sqlite3
import stat
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from service.errors import InsufficientStorage
from service.jobs.files.folder import INPUT, JobFiles, JobResult
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.schema import MIGRATIONS, JobStoreError
from service.jobs.rows.store import (
    DATABASE,
    FOLDER,
    Job,
    JobStore,
    digest_request,
    make_id,
)
from tests.postgres import needs_postgres

RESULT = JobResult("composite.mp4", "video/mp4", 10, "0" * 64)


def make_job(owner: str = "a", created_s: float = 1000.0, **more) -> Job:
    return Job(
        id=make_id(),
        owner=owner,
        state="queued",
        options={"crf": 30},
        outputs=("composite", "alpha"),
        created_s=created_s,
        expires_s=created_s + 60,
        request_digest="1" * 64,
        **more,
    )


@contextmanager
def open_store(data_dir: Path, *migrations: str):
    store = JobStore.open(data_dir, (*MIGRATIONS, *migrations))
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path):
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def any_store(request: pytest.FixtureRequest, tmp_path: Path):
    """A store of each kind; what it does is the same."""
    if request.param == "sqlite":
        opened = JobStore.open(tmp_path)
    else:
        url = request.getfixturevalue("postgres").make_database()
        opened = PostgresJobStore.open_shared(url, tmp_path, 30)
    yield opened
    opened.close()


def query(data_dir: Path, sql: str) -> list[tuple]:
    """Ask the database as another program would."""
    connection = sqlite3.connect(data_dir / FOLDER / DATABASE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def make_full_job(**fields):
    """Return a job with a value in every column but that of deliveries."""
    return make_job(
        idempotency_key="k",
        attempts=1,
        frames_done=3,
        frames_total=9,
        report={"frames": 9},
        error={"code": "gone"},
        results=(RESULT,),
        **fields,
    )


def test_every_column_comes_back_as_it_was(any_store):
    job = make_full_job(deliveries=({"state": "pending"},))
    any_store.insert(job, 0)
    assert any_store.load(job.id) == job and any_store.load("other") is None
    assert any_store.list_all() == [job]


def test_transaction_that_fails_writes_nothing(any_store):
    job = make_job()
    any_store.insert(job, 0)
    with pytest.raises(ValueError), any_store.transaction():
        any_store.update(job.id, state="failed")
        raise ValueError
    assert any_store.load(job.id) == job


def test_job_comes_back_as_it_was_also_from_another_process(tmp_path):
    job = make_full_job()
    with open_store(tmp_path) as store:
        store.insert(job, 0)
        assert store.load(job.id) == job and store.load("other") is None
    with open_store(tmp_path) as store:
        assert store.list_all() == [job]


def test_ids_cannot_be_guessed():
    ids = {make_id() for _ in range(100)}
    assert len(ids) == 100 and all(len(bytes.fromhex(job_id)) >= 16 for job_id in ids)


def test_commits_are_durable(store):
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


def test_jobs_are_listed_newest_first_whatever_the_clock_did(any_store):
    times = [1000.0, 900.0, 2000.0, 10.0]
    jobs = [make_job(created_s=created_s) for created_s in times]
    for job in (*jobs, make_job(owner="b")):
        any_store.insert(job, 0)
    newest_first = jobs[::-1]
    assert any_store.list_owned("a", 10) == newest_first
    assert any_store.list_owned("a", 2) == newest_first[:2]
    assert any_store.list_owned("a", 10, before=newest_first[1].id) == newest_first[2:]


def test_key_names_one_job_of_its_owner_until_it_is_free(any_store):
    first, of_another = make_job(idempotency_key="k"), make_job("b", idempotency_key="k")
    any_store.insert(first, 0)
    any_store.insert(of_another, 0)
    assert any_store.find_key("a", "k", 0) == first
    assert any_store.find_key("a", "k", first.created_s) is None, "too old"
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        any_store.insert(make_job(created_s=2000, idempotency_key="k"), first.created_s - 1)
    later = make_job(created_s=2000, idempotency_key="k")
    any_store.insert(later, first.created_s)
    assert any_store.find_key("a", "k", 0) == later and any_store.load(first.id) is not None
    assert any_store.find_key("b", "k", 0) == of_another


def test_update_requeue_and_delete_change_one_job(any_store):
    job, other = make_job(), make_job()
    for one in (job, other):
        any_store.insert(one, 0)
    any_store.update(job.id, state="running", attempts=2, results=(RESULT,), report={"a": 1})
    found = any_store.load(job.id)
    assert (found.state, found.attempts, found.results) == ("running", 2, (RESULT,))
    assert any_store.count_states() | {"running": 1, "queued": 1} == any_store.count_states()
    any_store.requeue(job.id)
    assert (any_store.load(job.id).state, any_store.load(job.id).attempts) == ("queued", 1)
    any_store.requeue(job.id)
    assert any_store.load(job.id).attempts == 1, "only what runs is stopped"
    any_store.delete(job.id)
    assert any_store.list_all() == [other]


def test_digest_of_a_request_covers_options_and_every_file():
    base = digest_request({"crf": 1, "audio": "drop"}, {"input": "a", "background": "b"})
    assert base == digest_request({"audio": "drop", "crf": 1}, {"background": "b", "input": "a"})
    for options, files in [
        ({"crf": 2, "audio": "drop"}, {"input": "a", "background": "b"}),
        ({"crf": 1, "audio": "drop"}, {"input": "b", "background": "a"}),
        ({"crf": 1, "audio": "drop"}, {"input": "a"}),
    ]:
        assert digest_request(options, files) != base


def test_full_database_is_insufficient_storage_and_works_again(store):
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    job = make_job(report={"text": "x" * 100_000})

    async def story():
        with pytest.raises(InsufficientStorage):
            await store.ask(store.insert, job, 0)
        assert await store.ask(store.load, job.id) is None
        store._connection.execute("PRAGMA max_page_count = 100000")
        await store.ask(store.insert, job, 0)
        assert await store.ask(store.load, job.id) == job

    asyncio.run(story())
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# What is refused at the start.


def assert_refused(data_dir: Path, *words: str, migrations=MIGRATIONS) -> None:
    with pytest.raises(JobStoreError) as caught:
        JobStore.open(data_dir, migrations)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_second_opener_is_refused_until_the_first_has_closed(tmp_path):
    with open_store(tmp_path):
        assert_refused(tmp_path, "another process", "MATTING_DATA_DIR", FOLDER)
    with open_store(tmp_path):
        pass


def test_newer_version_is_refused_and_stays_untouched(tmp_path):
    newer = "ALTER TABLE jobs ADD COLUMN colour TEXT;"
    with open_store(tmp_path, newer) as store:
        assert store.list_all() == []
    assert_refused(tmp_path, f"version {len(MIGRATIONS) + 1}", f"up to {len(MIGRATIONS)}")
    assert query(tmp_path, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]


def test_older_version_is_brought_forward_with_its_jobs(tmp_path):
    job = make_job()
    with open_store(tmp_path) as store:
        store.insert(job, 0)
    with open_store(tmp_path, "ALTER TABLE jobs ADD COLUMN colour TEXT DEFAULT 'red';") as store:
        assert store.list_all() == [job]
    assert query(tmp_path, "SELECT colour FROM jobs") == [("red",)]
    assert query(tmp_path, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]


def test_failing_migration_changes_nothing(tmp_path):
    with open_store(tmp_path):
        pass
    broken = "ALTER TABLE jobs ADD COLUMN colour TEXT; CREATE TABLE jobs (id TEXT);"
    assert_refused(tmp_path, "already exists", migrations=(*MIGRATIONS, broken))
    assert query(tmp_path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert "colour" not in query(tmp_path, "SELECT sql FROM sqlite_master WHERE name='jobs'")[0][0]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 16), (100, 60), (4096, 4096)], ids=["magic", "schema", "rows"]
)
def test_damaged_database_is_refused_and_never_replaced(tmp_path, offset, length):
    with open_store(tmp_path) as store:
        for _ in range(50):
            store.insert(make_job(), 0)
    path = tmp_path / FOLDER / DATABASE
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(255 - b for b in content[offset : offset + length])
    path.write_bytes(content)
    assert_refused(tmp_path, "cannot be used", str(path), "restore")
    assert path.read_bytes() == content


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "missing"])
def test_files_without_their_database_are_refused_and_kept(tmp_path, is_empty):
    with open_store(tmp_path) as store:
        store.files.receive("some", {INPUT: io.BytesIO(b"clip")})
    path = tmp_path / FOLDER / DATABASE
    path.unlink()
    if is_empty:
        path.touch()
    assert_refused(tmp_path, "missing or empty", "files")
    assert JobFiles(tmp_path / FOLDER / "files").path("some", INPUT).read_bytes() == b"clip"


@contextmanager
def as_nobody():
    """Give up the rights of root, which may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", [DATABASE, "."])
def test_what_cannot_be_written_is_refused(tmp_path, name):
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    with as_nobody(), open_store(tmp_path):
        pass
    path = tmp_path / FOLDER / name
    with as_nobody():
        path.chmod(0o400 if path.is_file() else 0o500)
        before = sorted((tmp_path / FOLDER).iterdir())
        if path.is_file():
            assert_refused(tmp_path, "cannot be used", str(path))
            assert sorted((tmp_path / FOLDER).iterdir()) == before
        else:  # a folder of the same user is made writable again
            with open_store(tmp_path):
                assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / FOLDER).mkdir(0o777)
    os.chown(tmp_path / FOLDER, 65534, 65534)
    assert_refused(tmp_path, "another user", "MATTING_DATA_DIR")


def test_link_in_place_of_the_folder_is_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / FOLDER).symlink_to(elsewhere)
    assert_refused(tmp_path, "another user")
    assert list(elsewhere.iterdir()) == []
