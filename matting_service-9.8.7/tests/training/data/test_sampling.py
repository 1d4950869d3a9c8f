from pathlib import Path

import numpy as np
import pytest

from training.data.pairs import DataError, Pair
from training.data.sampling import UNSEEN, PhotoErrors, draw_order, favour_hard, make_shares


def make_pairs(data_set: str, **counts: int) -> list[Pair]:
    """Return so many pairs of each kind; the kind `none` lies in no folder."""
    return [
        Pair(str(n) if kind == "none" else f"{kind}/{n}", Path(), Path(), "train", data_set)
        for kind, count in counts.items()
        for n in range(count)
    ]


def sum_kinds(pairs: list[Pair], values: np.ndarray) -> dict[str, float]:
    sums: dict[str, float] = {}
    for pair, value in zip(pairs, values, strict=True):
        sums[pair.kind] = sums.get(pair.kind, 0) + float(value)
    return sums


def test_photos_are_alike_unless_something_is_said():
    pairs = make_pairs("old", street=6, people=2) + make_pairs("new", none=4)
    assert make_shares(pairs, {}, 1.0) == pytest.approx(np.full(12, 1 / 12))


def test_kinds_weigh_by_count_by_name_and_by_data_set():
    pairs = make_pairs("old", street=16, people=1) + make_pairs("new", none=1)
    assert pairs[-1].kind == "new"
    shares = make_shares(pairs, {"street": 0.5, "new": 3.0, "old": 2.0}, 0.5)
    # 16 ** 0.5 * 0.5 * 2, 1 * 2, 1 * 3
    assert sum_kinds(pairs, shares) == pytest.approx(
        {"street": 4 / 9, "people": 2 / 9, "new": 1 / 3}
    )


def test_weight_of_nothing_is_refused():
    pairs = make_pairs("old", street=2)
    with pytest.raises(DataError, match="no kind and no data set stret, did you mean street"):
        make_shares(pairs, {"stret": 1.0}, 1.0)
    with pytest.raises(DataError, match="at least one must be above 0"):
        make_shares(pairs, {"street": 0.0}, 1.0)


@pytest.mark.parametrize("count", [12, 24])
def test_equal_shares_draw_each_photo_equally_often(count):
    order = draw_order(np.full(12, 1 / 12), count, np.random.default_rng(1))
    assert np.bincount(order, minlength=12).tolist() == [count // 12] * 12
    assert order.tolist() != sorted(order.tolist())


def test_draws_are_as_often_as_the_shares_say_to_within_one():
    shares = np.array([0.5, 0.26, 0.24, 0.0])
    for seed in range(20):
        counts = np.bincount(draw_order(shares, 10, np.random.default_rng(seed)), minlength=4)
        assert (np.abs(counts - 10 * shares) < 1 + 1e-9).all() and counts[3] == 0


def test_hard_photos_are_drawn_more_often_within_their_kind():
    pairs = make_pairs("old", street=4, people=2)
    shares = make_shares(pairs, {}, 1.0)
    errors = np.array([0.01, 0.02, 0.03, 0.5, UNSEEN, UNSEEN])
    found = favour_hard(shares, errors, pairs, cap=4.0)
    assert sum_kinds(pairs, found) == pytest.approx(sum_kinds(pairs, shares))
    assert found[:4] / found[0] == pytest.approx([1, 1, 1.2, 4])  # the median is 0.025
    assert found[4] == found[5]
    assert favour_hard(shares, errors, pairs, cap=1.0) == pytest.approx(shares)


def test_errors_are_those_of_the_beginning_of_the_epoch():
    pairs = make_pairs("old", street=3)
    errors = PhotoErrors(pairs)
    errors.note(np.array([1, -1]), np.array([0.3, 0.9]))
    assert errors.drawn.tolist() == [UNSEEN] * 3
    assert errors.latest.tolist() == [UNSEEN, 0.3, UNSEEN]
    restored = PhotoErrors(pairs)
    restored.load_state_dict(errors.state_dict())
    restored.begin_epoch()
    assert restored.drawn.tolist() == errors.latest.tolist()
    other = PhotoErrors(pairs[:2])
    other.load_state_dict(errors.state_dict())  # of other photos
    assert other.latest.tolist() == [UNSEEN] * 2
