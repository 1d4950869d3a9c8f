import pytest

from service.api.negotiation import choose_format, parse_accept
from service.errors import ImpossibleOutput, InvalidOption, NotAcceptable
from service.stills.options import ImageOptions


@pytest.mark.parametrize(
    "accept, chosen",
    [
        (None, "png"),
        ("*/*", "png"),
        ("image/*", "png"),
        ("", "png"),
        ("image/webp", "webp"),
        ("IMAGE/JPEG", "jpeg"),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "png"),
        ("image/avif,image/webp,*/*;q=0.8", "webp"),
        ("image/png;q=0.5, image/webp;q=0.9", "webp"),
        ("image/png;q=0, */*", "webp"),
        ("text/html, image/jpeg;q=0.1", "jpeg"),
        ("application/json", "json"),
        ("image/*;q=0.2, application/json", "json"),
        ("image/webp;q=nonsense, image/jpeg;q=0.1", "jpeg"),
        ("image/webp;q=nan, image/jpeg;q=0.1", "jpeg"),
        ("image/webp; Q = 0.3, image/jpeg", "jpeg"),
    ],
)
def test_accept_decides_when_format_is_left_out(accept, chosen):
    assert choose_format(ImageOptions(), accept) == chosen


def test_format_wins_over_accept():
    assert choose_format(ImageOptions(format="avif"), "image/png") == "avif"


@pytest.mark.parametrize(
    "output, accept, chosen",
    [("cutout", "image/*", "png"), ("bundle", None, "zip"), ("bundle", "application/json", "json")],
)
def test_default_depends_on_the_output(output, accept, chosen):
    assert choose_format(ImageOptions(output=output), accept) == chosen


@pytest.mark.parametrize(
    "output, accept",
    [
        ("alpha", "text/html"),
        ("alpha", "image/gif"),
        ("alpha", "*/*;q=0"),
        ("cutout", "image/jpeg"),
        ("bundle", "image/png"),
    ],
)
def test_nothing_acceptable_names_what_there_is(output, accept):
    with pytest.raises(NotAcceptable) as caught:
        choose_format(ImageOptions(output=output), accept)
    assert "application/" in caught.value.detail and "format" in caught.value.hint


def test_alpha_in_jpeg_is_impossible():
    with pytest.raises(ImpossibleOutput):
        choose_format(ImageOptions(output="cutout", format="jpeg"), None)


@pytest.mark.parametrize(
    "options, accept",
    [
        ({"quality": 80}, None),
        ({"quality": 80}, "application/json"),
        ({"compression": 3}, "image/webp"),
        ({"compression": 3, "format": "avif"}, None),
    ],
)
def test_encoder_setting_of_another_format_is_refused(options, accept):
    with pytest.raises(InvalidOption):
        choose_format(ImageOptions(**options), accept)


@pytest.mark.parametrize(
    "options", [{"quality": 80}, {"compression": 3}, {"quality": 80, "compression": 3}]
)
def test_bundle_takes_both_encoder_settings(options):
    assert choose_format(ImageOptions(output="bundle", **options), None) == "zip"


def test_long_accept_is_cut_off():
    assert len(parse_accept("image/png," * 10_000)) == 32
