import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.matting.signals import PERSON_SHARE, measure_confidence, shows_person


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_confidence_is_a_share(seed, height, width):
    alpha = np.random.default_rng(seed).random((height, width), np.float32)
    confidence = measure_confidence(alpha)
    assert type(confidence) is float and 0 <= confidence <= 1


@pytest.mark.parametrize(
    "value, confidence", [(0.0, 1), (1.0, 1), (0.5, 0), (0.9, 0.64), (0.1, 0.64)]
)
def test_confidence_of_even_mattes(value, confidence):
    alpha = np.full((20, 30), value, np.float32)
    assert measure_confidence(alpha) == pytest.approx(confidence, abs=1e-5)


def test_confidence_does_not_depend_on_how_much_is_empty():
    alpha = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    padded = np.pad(alpha, 50)
    assert measure_confidence(padded) == pytest.approx(measure_confidence(alpha), abs=1e-5)


def test_softer_edges_are_less_confident():
    hard = (np.arange(100) > 50).astype(np.float32)[np.newaxis]
    soft = np.clip((np.arange(100, dtype=np.float32) - 40) / 20, 0, 1)[np.newaxis]
    softer = np.clip((np.arange(100, dtype=np.float32) - 20) / 60, 0, 1)[np.newaxis]
    found = [measure_confidence(alpha) for alpha in (hard, soft, softer)]
    assert found[0] == 1 and found == sorted(found, reverse=True)


@pytest.mark.parametrize("extra, shown", [(0, True), (-1, False)])
def test_person_covers_a_share_of_the_picture(extra, shown):
    alpha = np.zeros((100, 100), np.float32)
    alpha.reshape(-1)[: round(PERSON_SHARE * alpha.size) + extra] = 1
    assert shows_person(alpha) is shown


@pytest.mark.parametrize("value, shown", [(0.0, False), (0.89, False), (0.91, True), (1.0, True)])
def test_person_is_somebody_the_network_is_sure_of(value, shown):
    for shape in ((1, 1), (1, 50), (64, 96)):
        assert shows_person(np.full(shape, value, np.float32)) is shown


def make_disc(pixels: int, side: int = 512) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - side // 2
    return ((rows**2 + columns**2) * np.pi < pixels).astype(np.float32)


@pytest.mark.parametrize("side", [512, 1024])
def test_small_but_certain_person_is_somebody(side):
    assert shows_person(make_disc(round(0.01 * side * side), side))
    assert not shows_person(make_disc(round(0.001 * 512 * 512), side))


def test_specks_are_nobody_however_many():
    specks = np.zeros((512, 512), np.float32)
    specks[::4, ::4] = specks[1::4, ::4] = 1
    assert specks.mean() > 0.1 and not shows_person(specks)


@pytest.mark.parametrize("open_at_the_edge", [False, True])
@pytest.mark.parametrize("value", [0.2, 0.5, 0.7])
def test_uncertain_hole_in_a_solid_person_is_less_confident(open_at_the_edge, value):
    person = make_disc(80_000)
    holed = person.copy()
    holed[240:270, 240:270] = value
    if open_at_the_edge:
        holed[250:260, 270:] *= value
    share = float((4 * holed * (1 - holed)).sum() / person.sum())
    assert measure_confidence(person) == 1
    assert measure_confidence(holed) == pytest.approx(1 - share, abs=0.01)


def test_clear_gap_between_arm_and_body_is_decided():
    person = make_disc(80_000)
    person[200:300, 150:230] = 0
    assert measure_confidence(person) == 1


def test_person_need_not_fill_a_square():
    thin = np.zeros((512, 700), np.float32)
    thin[10:12, :600] = 1
    assert shows_person(thin)
    thin[:, 490] = 0  # two pieces of 980 and of 218 pixels
    assert not shows_person(thin)
