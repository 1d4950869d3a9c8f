"""The store of jobs in PostgreSQL: what the one in SQLite does, and leases."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from service.errors import InProgress, NotReady
from service.jobs.files.folder import INPUT
from service.jobs.opening import open_job_store
from service.jobs.recovery import EXPIRED_S, ORPHAN_S, Orphans
from service.jobs.rows.postgres import MIGRATIONS, PostgresJobStore
from service.jobs.rows.schema import JobStoreError
from service.jobs.rows.store import LeaseLost
from service.settings import Settings
from tests.postgres import Postgres, needs_postgres, run_postgres
from tests.service.jobs.test_job_store import RESULT, make_job

pytestmark = needs_postgres


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.make_database()


@pytest.fixture
def two(url: str, tmp_path: Path):
    """Two services on one database."""
    stores = [PostgresJobStore.open_shared(url, tmp_path, 30) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


def end_leases(store: PostgresJobStore) -> None:
    """Make the leases look as if their holders had been silent for too long."""
    store._execute("UPDATE jobs SET lease_until = now() - interval '1 second'")


def test_each_job_is_claimed_once_oldest_first(two):
    one, other = two
    jobs = [make_job() for _ in range(3)]
    for job in jobs:
        one.insert(job, 0)
    claimed = [one.claim(), other.claim(), one.claim(), other.claim()]
    assert claimed == [*(job.id for job in jobs), None]
    one.release(jobs[0].id)
    assert other.claim() == jobs[0].id
    other.update(jobs[0].id, state="succeeded", results=(RESULT,))
    other.release(jobs[0].id)
    assert one.claim() is None, "a finished job is not run again"


def test_owners_take_turns(two):
    one, other = two
    jobs = [make_job(owner=owner) for owner in "aaabbc"]
    for job in jobs:
        one.insert(job, 0)
    assert [one.claim() for _ in range(4)] == [jobs[number].id for number in (0, 3, 5, 1)]
    assert [other.claim() for _ in range(3)] == [jobs[2].id, jobs[4].id, None]


def test_job_of_a_silent_service_is_taken_up_and_the_first_holder_changes_nothing(two):
    one, other = two
    job = make_job()
    one.insert(job, 0)
    assert one.claim() == job.id
    one.update(job.id, state="running", attempts=1)
    assert one.renew() == set() and other.claim() is None
    end_leases(one)
    assert other.claim() == job.id
    assert one.renew() == {job.id} and other.renew() == set()
    with pytest.raises(LeaseLost):
        one.update(job.id, state="succeeded")
    one.release(job.id)
    assert other.load(job.id).state == "running" and other.renew() == set()


def test_what_a_service_has_left_unsent_is_taken_over_once(url, tmp_path):
    one, other, third = (PostgresJobStore.open_shared(url, tmp_path, 30) for _ in range(3))
    sent, unsent = make_job(), make_job()
    for job in (sent, unsent):
        one.insert(job, 0)
        assert one.claim() == job.id
        one.update(job.id, state="succeeded", results=(RESULT,))
    one.kept.add(unsent.id)
    for job in (sent, unsent):
        one.release(job.id)
    assert other.claim_delivery() is None, "its service is still at it"
    one.close()
    assert other.claim_delivery() == unsent.id
    assert third.claim_delivery() is None
    end_leases(other)
    assert third.claim_delivery() == unsent.id
    with pytest.raises(LeaseLost):
        other.update(unsent.id, deliveries=())
    third.kept.clear()
    third.release(unsent.id)
    assert other.claim_delivery() is None
    for store in (other, third):
        store.close()


def test_deleted_job_is_lost_to_its_holder(two):
    one, other = two
    job = make_job()
    one.insert(job, 0)
    assert one.claim() == job.id
    other.delete(job.id)
    assert one.renew() == {job.id}
    with pytest.raises(LeaseLost):
        one.update(job.id, frames_done=3)


def test_closing_lets_others_have_the_jobs_at_once(url, tmp_path):
    one, other = (PostgresJobStore.open_shared(url, tmp_path, 30) for _ in range(2))
    job = make_job()
    one.insert(job, 0)
    assert one.claim() == job.id
    one.close()
    assert other.claim() == job.id
    other.close()


def test_same_key_at_two_services_at_once_makes_one_job(two):
    one, other = two
    one.insert(make_job(idempotency_key="k"), 0)
    with pytest.raises(InProgress):
        asyncio.run(other.ask(other.insert, make_job(idempotency_key="k"), 0))
    assert len(other.list_all()) == 1


def test_due_jobs_are_listed(two):
    store = two[0]
    job = replace(make_job(), state="succeeded", expires_s=100)
    store.insert(job, 0)
    assert (store.list_due(99), store.list_due(101)) == ([], [job.id])
    store.update(job.id, state="expired")
    assert (store.list_due(101), store.list_due(101 + EXPIRED_S)) == ([], [job.id])


def test_only_old_files_without_a_row_are_orphans(two):
    store = two[0]
    job = make_job()
    store.insert(job, 0)
    for job_id in (job.id, "old", "new"):
        store.files.path(job_id).mkdir()
        store.files.path(job_id, INPUT).touch()
    for job_id in (job.id, "old"):
        os.utime(store.files.path(job_id), (1000, 1000))
    asyncio.run(Orphans(store, lambda: 2000 + ORPHAN_S, lambda: 0.0).sweep())
    assert set(store.files.list_ids()) == {job.id, "new"}


def test_database_that_ends_is_not_ready_and_comes_back(tmp_path):
    with run_postgres() as server:
        store = PostgresJobStore.open_shared(server.make_database(), tmp_path, 30)
        job = make_job()
        store.insert(job, 0)
        server.stop()

        async def story() -> None:
            with pytest.raises(NotReady):
                await store.ask(store.load, job.id)
            await asyncio.to_thread(server.start)
            assert await store.ask(store.load, job.id) == job

        asyncio.run(story())
        store.close()


def test_newer_version_and_what_does_not_answer_are_refused_without_the_password(
    url, two, tmp_path
):
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO matting_schema VALUES (99)")
    with pytest.raises(JobStoreError, match=f"version 99.*up to {len(MIGRATIONS)}"):
        PostgresJobStore.open_shared(url, tmp_path, 30)
    with pytest.raises(JobStoreError, match="DATABASE_URL cannot be used") as caught:
        PostgresJobStore.open_shared("postgresql://a:secret@127.0.0.1:1/b", tmp_path, 30)
    assert "secret" not in str(caught.value)


def test_shared_folder_must_be_named():
    with pytest.raises(JobStoreError, match="MATTING_STORAGE_URL, or the folder MATTING_JOBS_DIR"):
        open_job_store(Settings(database_url="postgresql://localhost/x"))
