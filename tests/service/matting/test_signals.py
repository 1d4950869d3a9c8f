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
