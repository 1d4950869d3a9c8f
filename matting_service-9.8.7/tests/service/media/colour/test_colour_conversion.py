"""Described colour to sRGB, against formulas written out here and profiles made by hand."""

import numpy as np
import pytest

from service.media.colour.convert import SrgbConverter, nominal_peak
from service.media.colour.description import (
    BT2020,
    DISPLAY_P3,
    Colour,
    Curve,
    Transfer,
    matrix_between,
    matrix_to_xyz,
)
from service.media.colour.tone import MAX_PEAK, compress
from service.media.colour.transfer import decode, encode_pq
from tests.profiles import convert_to_srgb, encode_srgb

NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
SKIN = np.array([[232, 190, 172], [224, 172, 138], [141, 85, 56], [92, 56, 40]], np.uint8)
# sRGB's linear light in BT.2020's primaries: the matrix of ITU-R BT.2087.
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def code_as(transfer: int, srgb: np.ndarray, white_nits: float = 203.0) -> np.ndarray:
    """Return sRGB pixels as uint16 codes of BT.2020, PQ (16) or HLG (18)."""
    values = srgb / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    wide = linear @ TO_BT2020.T
    if transfer == 16:
        return np.rint(encode_pq(wide * white_nits) * 65535).astype(np.uint16)
    display = wide * white_nits / 1000
    luminance = display @ np.array([0.2627, 0.6780, 0.0593])
    scene = display * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    with np.errstate(invalid="ignore"):
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(12 * scene - b) + c)
    return np.rint(np.clip(coded, 0, 1) * 65535).astype(np.uint16)


def differ(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_srgb_matrix_is_the_published_one():
    expected = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    assert np.abs(matrix_to_xyz(Colour().primaries) - expected).max() < 1e-4
    assert np.abs(matrix_between(Colour().primaries, BT2020) - TO_BT2020).max() < 1e-4


def test_srgb_stays_as_it_is():
    assert Colour.from_codes(1, 13).is_srgb
    assert np.array_equal(SrgbConverter(Colour()).convert(NOISE), NOISE)


def test_display_p3_is_what_its_icc_profile_says():
    converter = SrgbConverter(Colour.from_codes(12, 13))
    expected = np.rint(convert_to_srgb("P3", NOISE))
    assert differ(converter.convert(NOISE), expected) <= 1


@pytest.mark.parametrize("transfer", [16, 18])
def test_sdr_picture_coded_as_hdr_comes_back(transfer):
    colour = Colour.from_codes(9, transfer)
    codes = code_as(transfer, NOISE)
    peak = SrgbConverter(colour, 65535).measure_peak(codes)
    assert peak == pytest.approx(1, abs=0.06)
    assert differ(SrgbConverter(colour, 65535, peak).convert(codes), NOISE) <= 2


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize("peak", [1.0, 2.0, MAX_PEAK, 20.0])
def test_reference_white_is_nearly_white_and_skin_stays(transfer, peak):
    colour = Colour.from_codes(9, transfer)
    converter = SrgbConverter(colour, 65535, peak)
    white = converter.convert(code_as(transfer, np.full((1, 3), 255, np.uint8)))
    assert white.min() >= 0.85 * 255
    weights = np.array([0.2126, 0.7152, 0.0722])
    skin = converter.convert(code_as(transfer, SKIN))
    before, after = SKIN @ weights, skin @ weights
    assert np.abs(after / before - 1).max() < 0.05


def test_tone_curve_rises_to_white_and_leaves_the_dark():
    luminance = np.linspace(0, MAX_PEAK, 2000)
    mapped = compress(luminance, MAX_PEAK)
    assert (np.diff(mapped) > 0).all()
    assert mapped[-1] == pytest.approx(1, abs=1e-6)
    dark = luminance < 0.4
    assert np.abs(mapped[dark] - luminance[dark]).max() < 1e-9


def test_bright_light_keeps_its_hue_and_never_passes_white():
    light = np.array([[1000.0, 300, 100], [4000, 4000, 4000], [0, 0, 1000]])
    codes = np.rint(encode_pq(light) * 65535).astype(np.uint16)
    first, second, third = SrgbConverter(Colour.from_codes(9, 16), 65535).convert(codes).tolist()
    assert first[0] > first[1] > first[2]
    assert second == [255, 255, 255]
    assert third[2] == max(third)


def test_hlg_reference_white_is_three_quarters():
    codes = np.full((1, 3), round(0.75 * 65535), np.uint16)
    assert SrgbConverter(Colour.from_codes(9, 18), 65535).measure_peak(codes) == pytest.approx(
        1, abs=0.01
    )


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2, 2.6])
def test_gamma_and_linear(gamma):
    colour = Colour(transfer=Transfer(Curve.GAMMA, gamma))
    expected = np.rint(encode_srgb((NOISE / 255) ** gamma))
    assert differ(SrgbConverter(colour).convert(NOISE), expected) <= 1


def test_codes_of_ten_bits_have_white_where_it_is_said():
    codes = np.array([[0, 512, 1023]], np.uint16)
    converted = SrgbConverter(Colour(), 1023).convert(codes)
    assert differ(converted, np.array([[0, 128, 255]])) <= 1


@pytest.mark.parametrize("curve", list(Curve))
def test_every_curve_begins_at_black_and_rises(curve):
    light = decode(Transfer(curve, 2.0), np.linspace(0, 1, 100))
    assert light[0] == pytest.approx(0, abs=1e-9)
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize(
    "codes, name",
    [
        ((1, 13), "sRGB"),
        ((1, 1), "sRGB"),
        ((2, 2), "sRGB"),
        ((200, 77), "sRGB"),
        ((12, 13), "Display P3"),
        ((9, 16), "BT.2020 PQ"),
        ((9, 18), "BT.2020 HLG"),
        ((9, 14), "BT.2020"),
        ((1, 4), "BT.709 gamma 2.2"),
        ((1, 8), "BT.709 linear"),
    ],
)
def test_names_of_colours(codes, name):
    assert Colour.from_codes(*codes).name == name


@pytest.mark.parametrize("white", [(0.3127, 0.0), (0.9, 0.9), (float("nan"), 0.3)])
def test_chromaticities_that_span_nothing_are_refused(white):
    with pytest.raises(ValueError):
        matrix_to_xyz((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *white))
    with pytest.raises(ValueError):
        matrix_to_xyz((0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3127, 0.329))


def test_every_listed_set_of_primaries_keeps_white():
    for code in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22):
        colour = Colour.from_codes(code, 13)
        white = SrgbConverter(colour).convert(np.full((1, 3), 255, np.uint8))
        assert white.min() >= 254, code


def test_peak_of_a_clip_comes_from_its_metadata():
    pq, hlg = Colour.from_codes(9, 16), Colour.from_codes(9, 18)
    assert nominal_peak(pq) == nominal_peak(hlg) == nominal_peak(pq, 4000) == MAX_PEAK
    assert nominal_peak(pq, 406) == pytest.approx(2)
    assert nominal_peak(pq, 50) == 1
    assert Colour.from_codes(12, 13).has_primaries(DISPLAY_P3)
