"""Whatever options come, the answer is 200 or a refusal in the client's own words, never a 5xx."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.stills.options import ImageOptions
from tests.fakes import FakeEngine
from tests.helpers import encode, read_metric

NAMES = [*ImageOptions.model_fields, "outptu", "", "file", "ä"]
VALUES = [
    *("alpha cutout composite foreground bundle png webp jpeg avif zip json auto off".split()),
    *("multiply ignore return keep srgb strip full preview blur white teal fake".split()),
    *("true false 0 1 2 5 32 64 96 100 0.5 0.01 -1 1e3 1e400 nan inf 007 +1 1_0".split()),
    *("10px 5% 5%,5% 10x20 1x1 100000x1 0.25MP 0MP 9999MP #fff #12345 rgb(1,2,3)".split()),
    *("hsl(0,0%,0%) #11223344 null [] {}".split()),
    *("", " ", "\0", "é", "x" * 300),
]
OPTIONS = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(st.sampled_from(VALUES), st.text(max_size=20)),
    max_size=5,
)
# Pairs that often go together, so that more than refusals is met.
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "output": st.sampled_from(["alpha", "cutout", "composite", "foreground", "bundle"]),
        "refine": st.sampled_from(["auto", "off"]),
        "threshold": st.floats(0.01, 0.99).map(str),
        "erode": st.integers(0, 100).map(str),
        "dilate": st.integers(0, 100).map(str),
        "feather": st.floats(0, 100).map(str),
        "keep_largest": st.sampled_from(["true", "false"]),
        "existing_alpha": st.sampled_from(["multiply", "ignore", "return"]),
        "size": st.sampled_from(["full", "preview", "1x1", "7x900", "0.0001MP"]),
        "ref_size": st.sampled_from(["64", "96", "1024"]),
    },
)
ACCEPTS = st.sampled_from(["*/*", "image/webp", "application/json", "image/avif", "text/html", ""])


@pytest.fixture(scope="module")
def fuzz_client(request):
    from tests.conftest import open_client

    with open_client(FakeEngine(lambda batch: (batch[:, 0] + 1) / 2)) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(portrait) -> list[bytes]:
    import numpy as np

    small = portrait[::16, ::16]
    return [
        encode(small, "PNG"),
        encode(np.dstack([small, small[..., 0]]), "PNG"),
        encode(small[:1, :1], "PNG"),
        encode(small[:2], "JPEG"),
    ]


@settings(max_examples=300)
@given(options=st.one_of(OPTIONS, LIKELY), accept=ACCEPTS, which=st.integers(0, 3))
def test_options_never_make_a_server_error(fuzz_client, pictures, options, accept, which):
    headers = {"Accept": accept, "Content-Type": "application/octet-stream"}
    data = pictures[which]
    answer = fuzz_client.post("/v1/image", content=data, params=options, headers=headers)
    assert answer.status_code in (200, 400, 406, 422), (answer.status_code, answer.text[:300])
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


def test_fuzz_met_results_and_refusals(fuzz_client):
    """The test above says little if all its requests are refused."""
    labels = {"route": "/v1/image", "method": "POST"}
    count = {
        s: read_metric(fuzz_client, "matting_requests_total", status=s, **labels)
        for s in ("200", "422")
    }
    assert all(count.values()), count
