"""Kept answers: the last of each session, within a bound of all, the newest always."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from service.scratch import ScratchFolder
from service.sessions.answers import KEPT_ANSWERS, PREFIX, Answer, AnswerSpool

MOST = 1000


def keep(spool: AnswerSpool, session_id: str, sequence: int, size: int) -> None:
    path, file = spool.create()
    with file:
        file.write(b"x" * size)
    spool.keep(session_id, sequence, Answer(path, size, "text/plain", {"sequence": str(sequence)}))


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 600)), max_size=40))
def test_newest_stays_old_ones_go_and_disk_is_bounded(tmp_path_factory, given) -> None:
    parent = tmp_path_factory.mktemp("spool")
    folder = ScratchFolder(parent, PREFIX)
    spool = AnswerSpool(folder, MOST)
    sizes: dict[str, list[int]] = {}
    for session_id, size in given:
        sequence = len(sizes.setdefault(session_id, []))
        sizes[session_id].append(size)
        keep(spool, session_id, sequence, size)
        newest = sum(all_sizes[-1] for all_sizes in sizes.values())
        assert spool.size_bytes <= max(MOST, newest)
        assert spool.size_bytes == sum(path.stat().st_size for path in list_files(parent))
        for owner, all_sizes in sizes.items():
            last = len(all_sizes) - 1
            answer = spool.find(owner, last)
            assert answer and answer.headers["sequence"] == str(last)
            assert answer.path.stat().st_size == all_sizes[-1]
            assert spool.find(owner, last - KEPT_ANSWERS) is None
    for session_id in sizes:
        spool.drop(session_id)
    assert spool.size_bytes == 0 and list_files(parent) == []
    folder.close()
    assert list(parent.iterdir()) == []


def test_last_answers_of_a_session_stay_while_there_is_room(tmp_path: Path) -> None:
    spool = AnswerSpool(ScratchFolder(tmp_path, PREFIX), MOST)
    for sequence in range(12):
        keep(spool, "a", sequence, 10)
    found = [spool.find("a", sequence) is not None for sequence in range(12)]
    assert found == [False] * (12 - KEPT_ANSWERS) + [True] * KEPT_ANSWERS
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
