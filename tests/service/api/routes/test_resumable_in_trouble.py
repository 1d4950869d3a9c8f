"""Resumable uploads on full disks, after kills, and of clients that want all the room."""

import base64
import hashlib
import os
from pathlib import Path

import pytest

from service.errors import InsufficientStorage
from service.jobs.uploads.opened import UNCONFIRMED
from service.jobs.uploads.store import UploadStore
from tests.fakes import FakeEngine
from tests.helpers import assert_problem
from tests.service.api.routes.test_resumable import PIECE, TUS, begin, read_offset, send

SHA1_OF_NOTHING = base64.b64encode(hashlib.sha1(b"").digest()).decode()
CHECKED = {"Upload-Checksum": f"sha1 {SHA1_OF_NOTHING}"}


@pytest.mark.parametrize("checksum", [{}, CHECKED], ids=["plain", "checksum"])
def test_full_disk_is_507_and_the_upload_goes_on_when_there_is_room(
    make_client, disk: Path, brief: bytes, checksum: dict[str, str]
) -> None:
    client = make_client(FakeEngine(), data_dir=disk, disk_min_free_bytes=0)
    path = begin(client, len(brief)).headers["location"]
    assert send(client, path, 0, brief[:100]).status_code == 204
    with (disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
        while True:
            rest.write(bytes(4096))
    refused = send(client, path, 100, brief[100:], **checksum)
    assert_problem(refused, 507, "insufficient-storage")
    (disk / "rest").unlink()
    offset = read_offset(client, path)
    assert offset == 100 if checksum else offset >= 100
    done = send(client, path, offset, brief[offset:])
    assert done.status_code == 204 and "x-job-id" in done.headers


def test_bytes_without_their_checksum_do_not_outlive_a_kill(fake) -> None:
    path = begin(fake, 10).headers["location"]
    assert send(fake, path, 0, b"good").status_code == 204
    store: UploadStore = fake.app.state.services.uploads
    upload_id = path.rpartition("/")[2]
    _, opened = store.open("anonymous", upload_id)
    opened.expect(4, "sha1")
    opened.write(b"broken")
    assert store.find("anonymous", upload_id).offset == 4, "while they come"
    opened.file.close()  # as the end of a process does
    assert read_offset(fake, path) == 4
    assert send(fake, path, 4, b"x").headers["upload-offset"] == "5"
    folder = store._folder / upload_id
    assert (folder / "data").read_bytes() == b"goodx" and not (folder / UNCONFIRMED).exists()


def test_one_key_cannot_begin_all_uploads(make_client) -> None:
    client = make_client(FakeEngine(), api_keys="one,two,three", max_queued_jobs=8)
    counts = []
    for key in ("one", "two", "three"):
        headers = TUS | {"X-API-Key": key}
        count = 0
        while (begun := begin(client, 10, headers)).status_code == 201:
            count += 1
        assert assert_problem(begun, 429, "overloaded")["limit"] == count
        counts.append(count)
    assert counts == [4, 2, 1]


def test_one_key_cannot_have_all_bytes(make_client) -> None:
    client = make_client(FakeEngine(), api_keys="one,two", jobs_max_bytes=1000)
    one, two = (TUS | {"X-API-Key": key} for key in ("one", "two"))
    assert_problem(begin(client, 1001, one), 507, "insufficient-storage")
    assert begin(client, 400, one).status_code == 201
    refused = assert_problem(begin(client, 101, one), 507, "insufficient-storage")
    assert (refused["limit"], refused["actual"]) == (500, 501)
    assert begin(client, 600, two).status_code == 201, "the first may be large"
    assert_problem(begin(client, 1, two), 507, "insufficient-storage")


@pytest.mark.parametrize("name", ["%00", "a%00b", "%2e%2e", "..%5c", "%ff", "x" * 300])
def test_name_that_no_upload_has_is_unknown(fake, name: str) -> None:
    path = f"/v1/uploads/{name}"
    assert fake.head(path, headers=TUS).status_code == 404
    assert_problem(send(fake, path, 0, b"x"), 404, "not-found")
    assert_problem(fake.delete(path, headers=TUS), 404, "not-found")


def test_upload_that_is_forgotten_while_it_becomes_a_job(fake, brief: bytes, monkeypatch) -> None:
    path = begin(fake, len(brief)).headers["location"]
    store: UploadStore = fake.app.state.services.uploads
    save = store.save

    def forget_and_save(upload) -> None:
        store.remove(upload.id)
        save(upload)

    monkeypatch.setattr(store, "save", forget_and_save)
    answer = fake.patch(path, content=brief, headers=PIECE | {"Upload-Offset": "0"})
    assert answer.status_code == 204
    assert fake.get(f"/v1/jobs/{answer.headers['x-job-id']}").status_code == 200


def test_record_that_cannot_be_read_is_in_nobodys_way_and_goes_in_time(make_client) -> None:
    client = make_client(FakeEngine())
    path = begin(client, 10).headers["location"]
    store: UploadStore = client.app.state.services.uploads
    folder = store._folder / path.rpartition("/")[2]
    for text in ("", "[]", '{"id": "of a newer version"}'):
        (folder / "record.json").write_text(text)
        assert client.head(path, headers=TUS).status_code == 404
        assert begin(client, 10).status_code == 201 and folder.exists()
    os.utime(folder, (0, 0))
    assert begin(client, 10).status_code == 201 and not folder.exists()


def test_upload_whose_end_was_interrupted_becomes_one_job(fake, brief: bytes, monkeypatch) -> None:
    path = begin(fake, len(brief)).headers["location"]
    store: UploadStore = fake.app.state.services.uploads
    with monkeypatch.context() as patch:
        patch.setattr(store, "save", fail)
        assert_problem(send(fake, path, 0, brief), 507, "insufficient-storage")
    found = {fake.head(path, headers=TUS).headers["x-job-id"] for _ in range(2)}
    found.add(send(fake, path, len(brief), b"").headers["x-job-id"])
    assert len(found) == 1
    rows = fake.app.state.services.jobs.store._execute(
        "SELECT id FROM jobs WHERE idempotency_key = ?", f"upload {path.rpartition('/')[2]}"
    )
    assert {row[0] for row in rows.fetchall()} == found


def fail(upload) -> None:
    raise InsufficientStorage("full")
