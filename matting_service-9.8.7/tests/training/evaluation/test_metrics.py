import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label as label_regions

from training.evaluation import metrics

MEASURES = [metrics.mse, metrics.mad, metrics.sad, metrics.grad, metrics.conn]

# 8-bit levels, as files hold them
mattes = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, (2, *shape)).map(lambda levels: levels.astype(np.float32) / 255)
)


def make_disc(size=64, radius=20.0, centre=(32, 32), softness=4.0):
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)


def make_noisy(label, seed=0, scale=0.2):
    noise = np.random.default_rng(seed).normal(0, scale, label.shape)
    return np.clip(label + noise, 0, 1).astype(np.float32)


def compute_reference_grad(alpha, label, sigma=1.4):
    """The definition pixel by pixel: 9 x 9 filters of unit energy, borders repeated."""
    kernel = np.zeros((9, 9))
    for i in range(9):
        for j in range(9):
            y, x = i - 4, j - 4
            kernel[i, j] = -x * math.exp(-(x * x + y * y) / (2 * sigma * sigma))
    kernel /= math.sqrt((kernel**2).sum())

    def measure(matte):
        along_x = ndimage.convolve(matte.astype(np.float64), kernel, mode="nearest")
        along_y = ndimage.convolve(matte.astype(np.float64), kernel.T, mode="nearest")
        return np.sqrt(along_x**2 + along_y**2)

    return ((measure(alpha) - measure(label)) ** 2).sum() / 1000


def compute_reference_conn(alpha, label):
    """The definition with scikit-image's regions and a loop over the pixels."""
    sources = []
    for tenths in range(1, 11):
        common = np.minimum(alpha, label).astype(np.float64)
        regions = label_regions(common >= tenths / 10, connectivity=1)
        sizes = np.bincount(regions.ravel())[1:]
        source = regions == 1 + np.argmax(sizes) if len(sizes) else np.zeros(alpha.shape, bool)
        sources.append(source)
    total = 0.0
    for place in np.ndindex(alpha.shape):
        level = 0
        while level < 10 and sources[level][place]:
            level += 1
        phi = [1 - d if (d := float(m[place]) - level / 10) >= 0.15 else 1 for m in (alpha, label)]
        total += abs(phi[0] - phi[1])
    return total / 1000


@pytest.mark.parametrize("measure", MEASURES)
@given(both=mattes)
def test_equal_mattes_have_no_error(measure, both):
    assert measure(both[0], both[0].copy()) == 0
    assert metrics.iou(both[0], both[0].copy()) == 1


@pytest.mark.parametrize("measure", [*MEASURES, metrics.iou])
@given(both=mattes)
def test_measures_are_symmetric_and_do_not_depend_on_mirroring(measure, both):
    value = measure(*both)
    assert value >= 0
    assert measure(both[1], both[0]) == pytest.approx(value, rel=1e-6, abs=1e-12)
    if measure is not metrics.conn:  # of two regions of one size the first is taken
        mirrored = measure(both[0][:, ::-1], both[1][:, ::-1])
        assert mirrored == pytest.approx(value, rel=1e-6, abs=1e-12)


@given(both=mattes)
def test_pixel_measures_stay_in_order(both):
    mse, mad, sad = (measure(*both) for measure in (metrics.mse, metrics.mad, metrics.sad))
    assert mad**2 <= mse + 1e-12 and mse <= mad + 1e-12 and mad <= 1
    assert sad * 1000 == pytest.approx(mad * both[0].size)
    assert 0 <= metrics.iou(*both) <= 1


def test_pixel_measures_of_a_known_case():
    alpha, label = np.array([[0.0, 0.5], [1.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.25]])
    assert metrics.mad(alpha, label) == pytest.approx((0.5 + 0.75) / 4)
    assert metrics.mse(alpha, label) == pytest.approx((0.25 + 0.5625) / 4)
    assert metrics.sad(alpha, label) == pytest.approx(0.00125)
    assert metrics.iou(alpha, label) == pytest.approx(1 / 3)


def test_sums_over_many_pixels_keep_their_digits():
    label = np.zeros((4000, 5000), np.float32)
    assert metrics.sad(label + np.float32(0.1), label) == pytest.approx(2000, rel=1e-6)


def test_iou_of_two_empty_mattes_is_one():
    assert metrics.iou(np.zeros((4, 4)), np.full((4, 4), 0.5)) == 1


@given(both=mattes)
@settings(max_examples=40)
def test_grad_equals_its_definition(both):
    expected = compute_reference_grad(*both)
    assert metrics.grad(*both) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(both=mattes)
@settings(max_examples=60)
def test_conn_equals_its_definition(both):
    assert metrics.conn(*both) == pytest.approx(compute_reference_conn(*both), abs=1e-6)


@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_measures_of_a_noisy_disc_equal_their_definitions(scale):
    label = make_disc()
    alpha = make_noisy(label, scale=scale)
    assert metrics.grad(alpha, label) == pytest.approx(compute_reference_grad(alpha, label))
    expected = compute_reference_conn(alpha, label)
    assert metrics.conn(alpha, label) == pytest.approx(expected, abs=1e-6)


def test_all_measures_grow_with_noise():
    label = make_disc()
    for measure in MEASURES:
        small, large = (measure(make_noisy(label, scale=scale), label) for scale in (0.05, 0.3))
        assert small < large


def test_grad_of_a_step_is_its_filter_response():
    # Across a step of height 1 the response sums the derivative on one side, times the smoothing.
    x = np.arange(-4, 5)
    smooth = np.exp(-(x**2) / (2 * 1.4**2))
    derive = x * smooth
    smooth, derive = smooth / np.linalg.norm(smooth), derive / np.linalg.norm(derive)
    step = np.zeros((1, 20))
    step[:, 10:] = 1
    responses = [derive[max(0, 4 + 10 - column) :].sum() for column in range(20)]
    expected = sum((response * smooth.sum()) ** 2 for response in responses) / 1000
    assert metrics.grad(step, np.zeros_like(step)) == pytest.approx(expected)


def test_conn_counts_an_island_and_not_a_faint_veil():
    label = np.zeros((20, 20), np.float32)
    label[:, :8] = 1
    island, veil = label.copy(), label.copy()
    island[8:10, 14:16] = 1  # not connected to the person: 4 pixels off by 1
    veil[:, 8:] = 0.14  # below theta
    assert metrics.conn(island, label) == pytest.approx(0.004)
    assert metrics.conn(veil, label) == 0


def test_measures_refuse_other_shapes_and_bytes():
    for measure in [*MEASURES, metrics.iou]:
        with pytest.raises(ValueError, match="shape"):
            measure(np.zeros((4, 4)), np.zeros((4, 5)))
        with pytest.raises(ValueError, match="uint8"):
            measure(np.zeros((4, 4), np.uint8), np.zeros((4, 4)))


STILL = np.zeros((32, 32, 2), np.float32)


def test_dtssd_ignores_a_steady_error():
    labels = [make_disc(32, 10, (16, 12 + t)) for t in range(4)]
    assert metrics.dtssd([0.5 * label for label in labels], [0.5 * label for label in labels]) == 0
    offset = np.zeros((32, 32), np.float32)
    offset[:4] = 0.7
    assert metrics.dtssd([label + offset for label in labels], labels) == pytest.approx(0, abs=1e-5)


def test_dtssd_of_one_flash():
    labels = np.zeros((4, 8, 8))
    alphas = labels.copy()
    alphas[2] = 0.5  # two changes of 0.5 in three pairs
    assert metrics.dtssd(alphas, labels) == pytest.approx(100 * (0 + 0.5 + 0.5) / 3)
    assert metrics.dtssd(iter(alphas), iter(labels)) == metrics.dtssd(alphas, labels)


def test_messddt_follows_the_motion():
    labels = [make_disc(32, 8, (16, 12 + 2 * t)) for t in range(3)]
    # The error moves with the disc: with the true motion there is no change of it.
    alphas = [0.5 * label for label in labels]
    motion = np.zeros((32, 32, 2), np.float32)
    motion[..., 0] = 2.2  # rounded to whole pixels
    assert metrics.messddt(alphas, labels, [motion] * 2) == 0
    expected = np.mean([np.mean(np.abs(0.25 * (a**2 - b**2))) for a, b in [labels[:2], labels[1:]]])
    assert metrics.messddt(alphas, labels, [STILL] * 2) == pytest.approx(100 * expected, rel=1e-5)


def test_flicker_needs_no_label():
    alphas = [make_disc(32, 8, (16, 12 + 2 * t)) for t in range(3)]
    motion = np.zeros((32, 32, 2), np.float32)
    motion[..., 0] = 2
    assert metrics.flicker(alphas, [motion] * 2) == 0
    assert metrics.flicker(alphas, [STILL] * 2) == pytest.approx(
        metrics.dtssd(alphas, [np.zeros((32, 32))] * 3)
    )


def test_clip_measures_of_a_single_frame_are_zero():
    frame = [make_disc(32)]
    assert metrics.dtssd(frame, frame) == metrics.messddt(frame, frame, []) == 0
    assert metrics.flicker(frame, []) == metrics.flicker([], []) == 0


def test_clip_measures_refuse_unequal_lengths_and_sizes():
    frame = make_disc(32)
    with pytest.raises(ValueError, match="shorter"):
        metrics.dtssd([frame, frame], [frame])
    with pytest.raises(ValueError, match="flow"):
        metrics.flicker([frame, frame], [STILL[:16]])
    with pytest.raises(ValueError, match="flow"):
        metrics.flicker([frame, make_disc(16)], [STILL])


def test_pixels_that_leave_the_picture_do_not_count():
    far = np.full((32, 32, 2), 99, np.float32)
    assert metrics.flicker([make_disc(32), np.ones((32, 32))], [far]) == 0


def test_estimated_flow_finds_a_shift(portrait):
    before, after = portrait[100:356, 100:356], portrait[98:354, 95:351]
    flow = metrics.estimate_flow(before, after)
    assert flow.shape == (256, 256, 2) and flow.dtype == np.float32
    inner = flow[32:-32, 32:-32].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inner, axis=0), [5, 2], atol=0.2)
