"""Any truncation and any change of a file is a result or a refusal, and never an error of ours."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import (
    encode,
)
from tests.profiles import make_profile
from tests.service.api.routes.test_image_hostile import SMALL, assert_image_or_refusal
from tests.stills import LOSSLESS, store

SMALL_FILES = {
    format: encode(SMALL[:24, :40], format)
    for format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "HEIF")
} | {
    f"{format}, turned, wide": store(
        SMALL[:24, :40], 6, format, icc_profile=make_profile("P3"), **LOSSLESS[format]
    )
    for format in sorted(LOSSLESS)
}


FUZZ = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.sampled_from(sorted(SMALL_FILES)), st.floats(0, 1))
@FUZZ
def test_any_truncation_is_an_image_or_a_refusal(fake_client, format, fraction):
    data = SMALL_FILES[format]
    assert_image_or_refusal(fake_client, data[: int(len(data) * fraction)])


@given(
    st.sampled_from(sorted(SMALL_FILES)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
)
@FUZZ
def test_any_changed_bytes_are_an_image_or_a_refusal(fake_client, format, changes):
    data = bytearray(SMALL_FILES[format])
    for place, value in changes:
        # Half of the changes fall into the first bytes, where the structure is.
        span = len(data) - 1 if value % 2 else min(len(data) - 1, 80)
        data[int(place * span)] = value
    assert_image_or_refusal(fake_client, bytes(data))
