"""Databases of jobs that are refused at the start, and never replaced."""

import io
import os
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.jobs.files.folder import INPUT, JobFiles
from service.jobs.rows.schema import MIGRATIONS, JobStoreError
from service.jobs.rows.store import (
    DATABASE,
    FOLDER,
    JobStore,
)
from tests.service.jobs.test_job_store import make_job, open_store, query


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
