"""Which options of a clip go together, for every output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clips.options import VideoOptions
from service.clips.outputs import NAMES, OUTPUTS
from service.errors import InvalidOption
from service.options import parse_options

SILENT = {"frames", "gif", "webp"}
# By option, a value and the outputs that it does something for.
SERVED = {
    "background": ("red", {"composite"}),
    "foreground": ("off", set(NAMES) - {"alpha"}),
    "audio": ("drop", set(NAMES) - SILENT),
    "crf": ("18", {"composite", "alpha", "green", "stacked"}),
    "preset": ("fast", {"composite", "alpha", "green", "stacked"}),
    "refine": ("off", set(NAMES)),
    "model": ("modnet", set(NAMES)),
    "prefer": ("speed", set(NAMES)),
    "smoothing": ("off", set(NAMES)),
    "ofd_threshold": ("0.2", set(NAMES)),
    "ref_size": ("64", set(NAMES)),
    "max_fps": ("12.5", set(NAMES)),
    "start": ("1", set(NAMES)),
    "existing_alpha": ("ignore", set(NAMES)),
    "keep_largest": ("true", set(NAMES)),
    "threshold": ("0.5", set(NAMES)),
    "erode": ("2", set(NAMES)),
    "dilate": ("2", set(NAMES)),
    "feather": ("1.5", set(NAMES)),
    "deinterlace": ("off", set(NAMES)),
    "hdr": ("refuse", set(NAMES)),
    "keep_metadata": ("true", set(NAMES) - SILENT),
    "end": ("2", set(NAMES)),
    "shadow": ("soft", set(NAMES) - {"alpha", "green"}),
    "roi": ("0,0,8,8", set(NAMES)),
    "scale": ("50%", set(NAMES) - {"alpha"}),
}


@pytest.mark.parametrize("output", NAMES)
@pytest.mark.parametrize("option", SERVED)
def test_option_is_refused_where_it_does_nothing(option: str, output: str) -> None:
    value, served = SERVED[option]
    given_options = {"outputs": output, option: value}
    if output in served:
        assert parse_options(VideoOptions, given_options).outputs == (output,)
        return
    with pytest.raises(InvalidOption, match=option):
        parse_options(VideoOptions, given_options)


def test_every_option_is_in_the_table() -> None:
    assert set(SERVED) == set(VideoOptions.model_fields) - {
        "outputs",
        "blur_radius",
        "position",
    }


def test_position_needs_a_scaled_frame() -> None:
    assert parse_options(VideoOptions, {"scale": "50%", "position": "0% 100%"}).placement
    with pytest.raises(InvalidOption, match="position needs scale"):
        parse_options(VideoOptions, {"position": "0% 100%"})


def test_option_may_serve_one_of_several_outputs() -> None:
    options = parse_options(
        VideoOptions, {"outputs": " webm , composite,frames", "background": "blur", "crf": "30"}
    )
    assert options.outputs == ("webm", "composite", "frames")


def test_default_is_shown_as_it_is_sent() -> None:
    shown = VideoOptions.model_json_schema()["properties"]["outputs"]
    assert parse_options(VideoOptions, {}) == parse_options(VideoOptions, {"outputs": "composite"})
    assert (shown["type"], shown["default"]) == ("string", "composite")


WORDS = st.sampled_from(
    [*NAMES, ",", "0", "1", "-1", "1e400", "nan", "inf", "0.5", "auto", "off", "ofd", "red", "blur"]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=4).map("".join), st.text(max_size=12))


@given(st.dictionaries(st.sampled_from([*VideoOptions.model_fields, "outptus"]), TEXTS, max_size=5))
def test_options_are_taken_or_refused_in_words(options: dict[str, str]) -> None:
    try:
        parsed = parse_options(VideoOptions, options)
    except InvalidOption as error:
        assert error.detail and "\n" not in error.detail.split(":")[0]
    else:
        assert parsed.outputs and set(parsed.outputs) <= set(OUTPUTS)
        assert parsed.end is None or parsed.end > (parsed.start or 0)
