import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pals_jax import metrics
from pals_jax.sweep import statistics

SCORES = st.floats(0, 1, allow_nan=False)


def test_mean_and_sd_by_hand():
    assert statistics.mean_and_sd([0.2, 0.4]) == pytest.approx((0.3, np.sqrt(0.02)))
    assert statistics.mean_and_sd([0.2]) == (0.2, None)


def test_paired_difference_by_hand():
    # Mean 2, s_d 1, t(2, 0.975) = 4.3027.
    found = statistics.paired_difference([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert found.pairs == 3
    assert not found.is_seen
    assert statistics.paired_difference([2.0, 2.0, 2.1]).is_seen


def test_one_pair_has_no_interval():
    one = statistics.paired_difference([0.5])
    assert one == (0.5, None, None, None, 1)
    assert not one.is_seen


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=8))
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    own, other = zip(*pairs, strict=True)
    differences = np.subtract(own, other)
    if np.std(differences) < 1e-6:
        return
    found = statistics.paired_difference(differences.tolist())
    expected = stats.ttest_rel(own, other).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("pairs", "expected"), [(5, 1.682), (10, 0.9960), (34, 0.4950)])
def test_detectable_difference_is_that_of_the_tables(pairs, expected):
    # Effect sizes of a two-sided paired t-test at 5 % with power 80 %, as G*Power has them.
    assert statistics.detectable_difference(1.0, pairs) == pytest.approx(expected, abs=2e-3)


def test_a_detectable_difference_is_detected_in_four_of_five_experiments():
    pairs, sd = 4, 0.02
    true = statistics.detectable_difference(sd, pairs)
    samples = np.random.default_rng(0).normal(true, sd, (4000, pairs))
    low, _ = stats.ttest_1samp(samples, 0, axis=1).confidence_interval(0.95)
    assert np.mean(low > 0) == pytest.approx(0.8, abs=0.02)


def test_bootstrap_of_equal_blocks_has_no_width():
    run = np.tile([[3, 1], [1, 5]], (6, 1, 1))
    reference = np.tile([[2, 2], [1, 5]], (6, 1, 1))
    expected = metrics.mean_iou(run[0]) - metrics.mean_iou(reference[0])
    low, high = statistics.block_bootstrap(
        [metrics.areas(run)], [metrics.areas(reference)], draws=50
    )
    assert (low, high) == pytest.approx((expected, expected))


def test_bootstrap_covers_the_spread_of_its_blocks():
    # Blocks of equal size, and a second class so large that its IoU is 1: mIoU is half the mean of
    # the blocks' IoU, of which the bootstrap's standard error is known.
    rng = np.random.default_rng(1)
    hits = rng.integers(30, 90, 40)
    reference = np.array([[[100, 0], [0, 10**8]]] * 40)
    run = reference.copy()
    run[:, 0, 0] = hits
    run[:, 0, 1] = 100 - hits
    low, high = statistics.block_bootstrap([metrics.areas(run)], [metrics.areas(reference)])
    spread = np.std(hits / 100) / np.sqrt(40)
    assert (high - low) / 2 == pytest.approx(1.96 * spread / 2, rel=0.15)


def test_a_class_that_a_draw_lacks_does_not_count():
    # Class 2 is in the truth of the first block only; without it, one of the two would be averaged
    # over a class more than the other.
    reference = np.tile(np.diag([50, 50, 0]), (8, 1, 1))
    reference[0, 2, 2] = 10
    run = reference.copy()
    run[1:, 0, 0] -= 1
    run[1:, 0, 2] += 1
    low, _ = statistics.block_bootstrap([metrics.areas(run)], [metrics.areas(reference)])
    whole = metrics.mean_iou(run.sum(0)) - metrics.mean_iou(reference.sum(0))
    assert whole == pytest.approx(-0.139, abs=0.01)
    assert low > -0.25


def test_a_class_that_is_only_predicted_counts_as_in_the_mean_iou():
    reference = np.tile(np.diag([50, 50, 0]), (8, 1, 1))
    run = reference.copy()
    run[:, 0, 0] -= 1
    run[:, 0, 2] += 1
    interval = statistics.block_bootstrap([metrics.areas(run)], [metrics.areas(reference)])
    whole = metrics.mean_iou(run.sum(0)) - metrics.mean_iou(reference.sum(0))
    assert interval == pytest.approx((whole, whole))
    assert whole < -0.3  # IoU 0 of the third class


def test_blocks_without_labels_are_no_evidence():
    labelled = np.tile(np.diag([50, 50]), (5, 1, 1))
    void = np.zeros((3, 2, 2), int)
    areas = [metrics.areas(np.concatenate([labelled, void]))]
    assert statistics.block_bootstrap(areas, areas) == (0, 0)
    areas = [metrics.areas(np.concatenate([labelled[:4], void]))]
    assert statistics.block_bootstrap(areas, areas) is None


def test_few_blocks_have_no_interval():
    areas = [np.ones((4, 3, 2), int)]
    assert statistics.block_bootstrap(areas, areas) is None
