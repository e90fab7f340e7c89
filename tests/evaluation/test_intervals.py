import math

import numpy as np
import pytest
import scipy.stats

from enlca.evaluation.intervals import bootstrap_interval, paired_interval, student_t


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_quantiles_of_student_are_those_of_scipy(confidence):
    for freedom in (1, 2, 3, 4, 7, 23, 99, 1000):
        expected = scipy.stats.t.ppf((1 + confidence) / 2, df=freedom)
        assert student_t(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_a_paired_interval_is_that_of_a_paired_t_test():
    generator = np.random.default_rng(3)
    a, b = generator.normal(30, 5, (2, 17))
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.9)
    interval = paired_interval(a - b, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert interval.mean == pytest.approx(np.mean(a) - np.mean(b))


def test_one_difference_decides_nothing():
    interval = paired_interval([0.5])
    assert (interval.mean, interval.low, interval.high) == (0.5, -math.inf, math.inf)
    assert not interval.decided


@pytest.mark.parametrize(
    ("differences", "decided"),
    [([0.2, 0.2, 0.3], True), ([-0.2, -0.2, -0.3], True), ([0.1, 0.1, 0.2], False)],
)
def test_a_difference_is_decided_where_its_interval_excludes_zero(differences, decided):
    assert paired_interval(differences).decided is decided


def crossed(generator, *, sets, seeds, pictures):
    """Differences of mean zero: a part of the seed, one of the picture, one of both."""
    shared = generator.normal(0, 0.2, (sets, seeds, 1)), generator.normal(0, 0.3, (sets, 1, pictures))
    return shared[0] + shared[1] + generator.normal(0, 0.1, (sets, seeds, pictures))


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    tables = crossed(np.random.default_rng(5), sets=200, seeds=13, pictures=29)
    intervals = [bootstrap_interval(table, confidence=0.9, draws=400) for table in tables]
    covered = np.mean([interval.low < 0 < interval.high for interval in intervals])
    # 13 seeds: the spread in the sample is a few percent less than the true one.
    assert 0.9 - 0.06 < covered < 0.9 + 0.06


def test_the_bootstrap_of_one_seed_is_that_of_its_pictures():
    [table] = crossed(np.random.default_rng(7), sets=1, seeds=1, pictures=101)
    normal, drawn = paired_interval(table[0]), bootstrap_interval(table)
    assert drawn.mean == normal.mean
    assert (drawn.low, drawn.high) == pytest.approx((normal.low, normal.high), abs=0.01)


def test_pictures_that_all_seeds_share_are_drawn_once_for_all_of_them():
    """What a picture adds does not average out over seeds: 31 equal rows say no more than one."""
    [row] = crossed(np.random.default_rng(7), sets=1, seeds=1, pictures=37)
    one, many = bootstrap_interval(row, draws=4000), bootstrap_interval(row.repeat(31, axis=0), draws=4000)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)


def test_the_same_numbers_give_the_same_interval():
    [table] = crossed(np.random.default_rng(2), sets=1, seeds=3, pictures=5)
    assert bootstrap_interval(table) == bootstrap_interval(table)
    assert bootstrap_interval(table) != bootstrap_interval(table, seed=1)


@pytest.mark.parametrize("differences", [[], [math.inf, 1.0], [math.nan]])
def test_what_has_no_interval_is_refused(differences):
    with pytest.raises(ValueError, match=r"must be finite|no differences"):
        paired_interval(differences)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_is_between_0_and_1(confidence):
    for interval, differences in ((paired_interval, np.ones(3)), (bootstrap_interval, np.ones((2, 3)))):
        with pytest.raises(ValueError, match="confidence must lie between"):
            interval(differences, confidence=confidence)
