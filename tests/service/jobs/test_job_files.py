"""The files of jobs: private, complete or absent, on the disk before anybody is told."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest

from service.clips.matte import ResultFile
from service.errors import InsufficientStorage
from service.jobs.files.folder import (
    BACKGROUND,
    INPUT,
    JobFiles,
    JobResult,
    check_room,
    hash_uploads,
)
from service.settings import Settings

CONTENT = bytes(range(256)) * 10_000  # more than one piece
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    return JobFiles(tmp_path / "files")


def receive(files: JobFiles, job_id: str = "job") -> dict[str, str]:
    return files.receive(job_id, {INPUT: io.BytesIO(CONTENT), BACKGROUND: io.BytesIO(b"b")})


def publish(files: JobFiles, *paths: Path) -> tuple[JobResult, ...]:
    results = [ResultFile(path, "video/mp4", path.stat().st_size) for path in paths]
    return files.publish_results("job", results)


class DiskRecorder:
    """Notes what is brought to the disk, in order, and fails at a chosen step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.steps: list[str] = []
        self.fails_at: int | None = None
        self.error = errno.ENOSPC
        self._root = root
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)

    def fsync(self, fd: int) -> None:
        self.note(f"fsync {self.name(os.readlink(f'/proc/self/fd/{fd}'))}")
        self._fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.note(f"rename {self.name(source)} {self.name(target)}")
        self._rename(source, target)

    def note(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.fails_at:
            raise OSError(self.error, os.strerror(self.error))

    def name(self, path: Path | str) -> str:
        return os.path.relpath(path, self._root)


def test_upload_is_on_the_disk_before_its_name_and_its_name_before_the_end(
    files, monkeypatch, tmp_path
):
    disk = DiskRecorder(monkeypatch, tmp_path)
    assert receive(files) == {INPUT: DIGEST, BACKGROUND: hashlib.sha256(b"b").hexdigest()}
    assert disk.steps == [
        "fsync files/job/input.part",
        "rename files/job/input.part files/job/input",
        "fsync files/job/background.part",
        "rename files/job/background.part files/job/background",
        "fsync files/job",
        "fsync files",
        "fsync .",
    ]


def test_results_are_on_the_disk_before_their_name_and_their_name_before_the_end(
    files, monkeypatch, tmp_path
):
    receive(files)
    folder = files.begin_results("job")
    paths = [folder / "composite.mp4", folder / "alpha.mp4"]
    for path in paths:
        path.write_bytes(CONTENT)
    disk = DiskRecorder(monkeypatch, tmp_path)
    assert publish(files, *paths) == (
        JobResult("composite.mp4", "video/mp4", len(CONTENT), DIGEST),
        JobResult("alpha.mp4", "video/mp4", len(CONTENT), DIGEST),
    )
    assert disk.steps == [
        "fsync files/job/results.part/composite.mp4",
        "fsync files/job/results.part/alpha.mp4",
        "fsync files/job/results.part",
        "rename files/job/results.part files/job/results",
        "fsync files/job",
    ]


def test_nobody_else_may_read(files):
    receive(files)
    path = files.begin_results("job") / "composite.mp4"
    path.write_bytes(CONTENT)
    publish(files, path)
    modes = {True: set(), False: set()}
    for found in files.path("job").rglob("*"):
        modes[found.is_dir()].add(stat.S_IMODE(found.stat().st_mode))
    modes[True].add(stat.S_IMODE(files.path("job").stat().st_mode))
    assert modes == {True: {0o700}, False: {0o600}}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", range(1, 8))
def test_disk_that_fails_at_any_step_leaves_nothing(files, monkeypatch, tmp_path, step, code):
    disk = DiskRecorder(monkeypatch, tmp_path)
    disk.fails_at, disk.error = step, code
    with pytest.raises(InsufficientStorage):
        receive(files)
    assert files.list_ids() == [] and len(disk.steps) == step
    receive(files)
    assert files.path("job", INPUT).read_bytes() == CONTENT


def test_other_errors_are_not_the_disk(files, monkeypatch, tmp_path):
    disk = DiskRecorder(monkeypatch, tmp_path)
    disk.fails_at, disk.error = 1, errno.EBADF
    with pytest.raises(OSError, match="Bad file"):
        receive(files)
    assert files.list_ids() == []


def test_results_of_an_earlier_run_go_and_the_upload_stays(files):
    receive(files)
    for _ in range(2):
        folder = files.begin_results("job")
        assert list(folder.iterdir()) == []
        (folder / "composite.mp4").write_bytes(b"half")
    publish(files, folder / "composite.mp4")
    files.begin_results("job")
    names = sorted(path.name for path in files.path("job").iterdir())
    assert names == [BACKGROUND, INPUT, "results.part"]


def test_finished_job_keeps_its_results_only(files):
    receive(files)
    path = files.begin_results("job") / "composite.mp4"
    path.write_bytes(CONTENT)
    publish(files, path)
    files.keep_results_only("job", ())
    assert [path.name for path in files.path("job").iterdir()] == ["results"]
    files.remove("job")
    files.remove("job")
    assert files.list_ids() == []


def test_digests_of_uploads_do_not_depend_on_where_they_were_read(files):
    upload = io.BytesIO(CONTENT)
    upload.seek(77)
    assert hash_uploads({INPUT: upload}) == {INPUT: DIGEST}
    assert hash_uploads({INPUT: upload}) == {INPUT: DIGEST}


@pytest.mark.parametrize(
    ("setting", "least"),
    [({"disk_min_free_bytes": 300, "disk_min_free_percent": 0}, 300)]
    + [({"disk_min_free_bytes": 300, "disk_min_free_percent": 40}, 400)],
    ids=["bytes", "per-cent"],
)
def test_disk_keeps_its_reserve(files, monkeypatch, setting, least):
    files.folder.mkdir()
    upload = {INPUT: io.BytesIO(b"x" * 50)}

    def stat_disk(free: int):
        fields = [10, 10, 100, free // 10, free // 10, 0, 0, 0, 0, 0]  # blocks of 10 bytes
        return lambda path: os.statvfs_result(fields)

    settings = Settings(**setting)
    monkeypatch.setattr(os, "statvfs", stat_disk(least + 50))
    check_room(settings, files, upload)
    monkeypatch.setattr(os, "statvfs", stat_disk(least + 40))
    check_room(settings, files, {})
    with pytest.raises(InsufficientStorage) as caught:
        check_room(settings, files, upload)
    assert (caught.value.limit, caught.value.actual) == (least, least + 40)
