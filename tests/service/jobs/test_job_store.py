"""The rows and files of jobs: what is written comes back, and changes are whole."""

import asyncio
import sqlite3
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from service.errors import InsufficientStorage
from service.jobs.files.folder import JobResult
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.schema import MIGRATIONS
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
