import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import Gone, InsufficientStorage, NotFound
from service.matting.hint import Region
from service.scratch import open_locked
from service.stills.result_store import PREFIX, KeptResult, ResultStore
from service.threads import Workers

MATTE = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
RESULT = KeptResult(b"x" * 500, MATTE, hint=b"y" * 400, region=Region(1, 2, 3, 4))


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def run(folder: Path, scenario: Callable[[ResultStore, Clock], Awaitable[None]], most=10_000):
    async def go() -> None:
        workers, clock = Workers(1, "test"), Clock()
        store = ResultStore(folder, most, workers, clock=clock)
        try:
            await scenario(store, clock)
        finally:
            await store.aclose()
            workers.close()

    asyncio.run(go())


def list_kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".image", ".npy", ".hint"))


def test_kept_result_comes_back_to_its_owner_alone(tmp_path):
    async def scenario(store, clock):
        result_id = await store.keep("a", RESULT, 60)
        found = await store.load("a", result_id)
        assert (found.image, found.hint, found.region) == (RESULT.image, RESULT.hint, RESULT.region)
        np.testing.assert_array_equal(found.matte, MATTE)
        with pytest.raises(NotFound):
            await store.load("b", result_id)
        with pytest.raises(NotFound):
            await store.load("a", "never-there")

    run(tmp_path, scenario)


def test_result_without_a_matte_comes_back_without(tmp_path):
    async def scenario(store, clock):
        result_id = await store.keep("a", KeptResult(b"x", None), 60)
        assert (await store.load("a", result_id)).matte is None

    run(tmp_path, scenario)


def test_ids_cannot_be_guessed(tmp_path):
    async def scenario(store, clock):
        ids = [await store.keep("a", KeptResult(b"x", None), 60) for _ in range(20)]
        assert len(set(ids)) == 20 and all(len(one) == 32 for one in ids)  # 192 random bits

    run(tmp_path, scenario)


def test_expired_result_is_gone_with_its_files(tmp_path):
    async def scenario(store, clock):
        result_id = await store.keep("a", RESULT, 60)
        clock.now_s += 59
        await store.load("a", result_id)
        clock.now_s += 2
        with pytest.raises(Gone):
            await store.load("a", result_id)
        with pytest.raises(NotFound):  # not even that it was there
            await store.load("b", result_id)
        assert list_kept(tmp_path) == [] and store.bytes == 0

    run(tmp_path, scenario)


def test_sweeper_removes_what_nobody_asks_for(tmp_path, monkeypatch):
    monkeypatch.setattr("service.stills.result_store.SWEEP_S", 0.001)

    async def scenario(store, clock):
        await store.keep("a", RESULT, 60)
        assert list_kept(tmp_path)
        clock.now_s += 61
        for _ in range(1000):
            if not list_kept(tmp_path):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the files stayed")

    run(tmp_path, scenario)


def test_result_used_longest_ago_makes_room(tmp_path):
    async def scenario(store, clock):
        first, second = [await store.keep("a", RESULT, 60) for _ in range(2)]
        await store.load("a", first)
        third = await store.keep("a", RESULT, 60)
        for kept in (first, third):
            await store.load("a", kept)
        with pytest.raises(Gone):
            await store.load("a", second)
        assert store.bytes == 2 * RESULT.bytes and len(list_kept(tmp_path)) == 6

    run(tmp_path, scenario, most=2 * RESULT.bytes)


def test_owner_of_most_makes_room_and_nobody_else(tmp_path):
    async def scenario(store, clock):
        one = await store.keep("b", RESULT, 60)
        many = [await store.keep("a", RESULT, 60) for _ in range(5)]
        await store.load("b", one)
        for gone in many[:3]:
            with pytest.raises(Gone):
                await store.load("a", gone)
        second = await store.keep("b", RESULT, 60)
        with pytest.raises(Gone):
            await store.load("a", many[3])
        await store.load("a", many[4])
        await store.load("b", second)

    run(tmp_path, scenario, most=3 * RESULT.bytes)


def test_result_larger_than_the_store_is_refused_with_the_limit(tmp_path):
    async def scenario(store, clock):
        kept = await store.keep("a", KeptResult(b"x" * 100, None), 60)
        with pytest.raises(InsufficientStorage) as caught:
            await store.keep("a", RESULT, 60)
        assert (caught.value.limit, caught.value.actual) == (500, RESULT.bytes)
        await store.load("a", kept)  # nothing was dropped for it

    run(tmp_path, scenario, most=500)


def test_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, data):
        raise OSError(errno.ENOSPC, "full")

    async def scenario(store, clock):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", fail)
            with pytest.raises(InsufficientStorage):
                await store.keep("a", RESULT, 60)
        assert store.bytes == 0 and list_kept(tmp_path) == []
        await store.load("a", await store.keep("a", RESULT, 60))

    run(tmp_path, scenario)


def test_folder_is_private_made_when_needed_and_gone_at_the_end(tmp_path):
    async def scenario(store, clock):
        assert list(tmp_path.iterdir()) == []
        await store.keep("a", RESULT, 60)
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    run(tmp_path, scenario)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_processes_go_and_those_in_use_stay(tmp_path):
    for name in ("dead", "alive"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
        (tmp_path / f"{PREFIX}{name}" / "x.image").write_bytes(b"x")
    lock = open_locked(tmp_path / f"{PREFIX}alive" / "lock")
    try:

        async def scenario(store, clock):
            assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}alive"]

        run(tmp_path, scenario)
    finally:
        os.close(lock)


def test_result_dropped_between_its_two_files_is_gone(tmp_path, monkeypatch):
    async def scenario(store, clock):
        result_id = await store.keep("a", RESULT, 60)
        read = Path.read_bytes

        def read_and_drop(path: Path) -> bytes:
            content = read(path)
            path.with_suffix(".npy").unlink()
            return content

        monkeypatch.setattr(Path, "read_bytes", read_and_drop)
        with pytest.raises(Gone):
            await store.load("a", result_id)

    run(tmp_path, scenario)
