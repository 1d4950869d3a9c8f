"""A disk that is really full: a small one, mounted for the test."""

from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, wait_until


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(320, 240), tone=False).read_bytes()


def test_full_disk_fails_jobs_and_nothing_else_and_heals_by_itself(
    make_client, disk: Path, clip: bytes, portrait_jpeg: bytes
) -> None:
    client = make_client(FakeEngine(), data_dir=disk, disk_min_free_bytes=0, job_max_retries=0)

    def bring(**options: object):
        return client.post(
            "/v1/video",
            params=options,
            files={"file": clip},
            headers={"Prefer": "respond-async"},
        )

    def find_states(urls: list[str]) -> list[str]:
        return [client.get(url).json()["state"] for url in urls]

    urls = []
    while (response := bring(crf=0)).status_code == 202:
        urls.append(response.headers["location"])
        assert len(urls) < 100, "the disk is never full"
    assert_problem(response, 507, "insufficient-storage")
    assert client.post("/v1/image", files={"file": portrait_jpeg}).status_code == 200
    ended = {"succeeded", "failed"}
    wait_until(lambda: ended.issuperset(find_states(urls)), 240, every_s=0.1)
    jobs = [client.get(url).json() for url in urls]
    codes = {job["error"]["code"] for job in jobs if job["state"] == "failed"}
    assert codes <= {"insufficient-storage"}
    with (disk / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
        while True:  # now there is not even room for a row
            rest.write(bytes(4096))
    assert_problem(bring(), 507, "insufficient-storage")
    for url in urls:  # those without files free no room
        assert client.delete(url).status_code in (204, 507)
    (disk / "rest").unlink()
    for url in urls:
        assert client.delete(url).status_code in (204, 404)
    done = wait_until(lambda: (r := bring()).status_code == 202 and r, 10).headers["location"]
    wait_until(lambda: find_states([done]) == ["succeeded"], 30)
    store = client.app.state.services.jobs.store
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(store.files.list_ids()) == 1
