"""Whose turn it is at the network: live frames first, fair shares for the rest."""

from collections import Counter
from dataclasses import dataclass

import pytest

from service.inference.fair_queue import LIVE_RUNS, Caller, FairQueue


@dataclass(frozen=True)
class Picture:
    name: str
    shape: tuple[int, ...] = (3, 32, 32)
    cost: int = 10


def fill(queue: FairQueue, caller: Caller, count: int, **more) -> None:
    for number in range(count):
        queue.push(caller, Picture(f"{caller.owner}{number}", **more))


def drain(queue: FairQueue, most: int = 1) -> list[str]:
    """Return the names in the order in which they go, batches joined by `+`."""
    names = []
    while batch := queue.pop_batch(most):
        names.append("+".join(picture.name for picture in batch))
    return names


def test_one_owner_is_served_in_order_whatever_the_shape():
    queue = FairQueue()
    for number, side in enumerate([32, 64, 32, 96]):
        queue.push(Caller(), Picture(str(number), (3, side, side), side))
    assert drain(queue) == ["0", "1", "2", "3"]
    assert len(queue) == 0 and queue.pop_batch(8) == []


def test_owner_with_one_picture_does_not_wait_behind_one_with_many():
    queue = FairQueue()
    fill(queue, Caller(owner="a"), 5)
    fill(queue, Caller(owner="b"), 1)
    assert drain(queue) == ["a0", "b0", "a1", "a2", "a3", "a4"]


def test_shares_are_of_work_and_not_of_pictures():
    queue = FairQueue()
    fill(queue, Caller(owner="big"), 4, cost=30)
    fill(queue, Caller(owner="small"), 9, cost=10)
    served = Counter(name.rstrip("0123456789") for name in drain(queue)[:8])
    assert served == {"big": 2, "small": 6}


def test_who_comes_back_after_a_pause_has_saved_nothing():
    queue = FairQueue()
    fill(queue, Caller(owner="a"), 20)
    for _ in range(10):
        queue.pop_batch(1)
    fill(queue, Caller(owner="b"), 20)
    served = Counter(name[0] for name in drain(queue)[:10])
    assert served == {"a": 5, "b": 5}


def test_who_was_alone_owes_nothing():
    queue = FairQueue()
    fill(queue, Caller(owner="a"), 20)
    drain(queue)
    fill(queue, Caller(owner="a"), 3)
    fill(queue, Caller(owner="b"), 3)
    assert Counter(name[0] for name in drain(queue)[:4]) == {"a": 2, "b": 2}


def test_photos_and_clips_share_equally_whoever_sends_more():
    queue = FairQueue()
    for owner in "abcd":
        fill(queue, Caller("clip", owner), 10)
    fill(queue, Caller("image", "photo"), 10)
    served = Counter("photo" if name.startswith("photo") else "clip" for name in drain(queue)[:12])
    assert served == {"photo": 6, "clip": 6}


def test_live_frames_go_first_but_not_alone():
    queue = FairQueue()
    fill(queue, Caller("clip", "clip"), 3)
    fill(queue, Caller("image", "photo"), 3)
    fill(queue, Caller("live", "live"), 8)
    order = [name.rstrip("0123456789") for name in drain(queue)]
    assert order[:LIVE_RUNS] == ["live"] * LIVE_RUNS and order[LIVE_RUNS] != "live"
    assert order[LIVE_RUNS + 1 : 2 * LIVE_RUNS + 1] == ["live"] * LIVE_RUNS
    assert {order[LIVE_RUNS], order[2 * LIVE_RUNS + 1]} == {"clip", "photo"}


def test_live_connections_of_several_owners_take_turns():
    queue = FairQueue()
    fill(queue, Caller("live", "a"), 6)
    fill(queue, Caller("live", "b"), 2)
    assert drain(queue)[:4] == ["a0", "b0", "a1", "b1"]


def test_batch_is_of_one_shape_and_fairly_filled():
    queue = FairQueue()
    fill(queue, Caller(owner="a"), 5)
    fill(queue, Caller(owner="b"), 1, shape=(3, 64, 64))
    fill(queue, Caller(owner="c"), 2)
    assert drain(queue, most=4) == ["a0+c0+a1+c1", "b0", "a2+a3+a4"]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_what_nobody_waits_for_is_taken_out(taken):
    queue, caller = FairQueue(), Caller(owner="a")
    pictures = [Picture(f"a{number}") for number in range(3)]
    for picture in pictures:
        queue.push(caller, picture)
    queue.remove(caller, pictures[taken])
    queue.remove(caller, pictures[taken])  # twice does no harm
    queue.remove(Caller(owner="nobody"), pictures[0])
    assert list(queue) == [picture for picture in pictures if picture is not pictures[taken]]
    assert len(queue) == 2
