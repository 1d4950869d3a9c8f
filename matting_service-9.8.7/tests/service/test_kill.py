"""What kill -9 leaves of a clip that a request waits for."""

import threading
from pathlib import Path

from tests.clips import make_clip
from tests.helpers import start_live_server, wait_until
from tests.service.jobs.test_job_crashes import NO_ANSWER, call


def test_files_of_a_clip_in_progress_go_with_the_next_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    clip = make_clip(tmp_path / "long.mp4", seconds=20, tone=False).read_bytes()

    def list_work() -> list[Path]:
        return [path for path in data_dir.glob("matting-work-*/*/*") if path.is_file()]

    def post() -> None:
        try:
            call(server, "POST", "/v1/video", clip)
        except NO_ANSWER:
            pass

    server = start_live_server(tmp_path / "log", data_dir=data_dir)
    posting = threading.Thread(target=post)
    posting.start()
    wait_until(list_work, 60)
    server.process.kill()
    server.process.wait()
    posting.join()
    assert list_work(), "the dead process leaves its files"
    server = start_live_server(tmp_path / "log2", data_dir=data_dir)
    try:
        assert not list(data_dir.glob("matting-work-*"))
    finally:
        server.stop()
