"""Intervals hold what they promise, tests find what is there and little else."""

import itertools

import numpy as np
import pytest

from genrec.evaluation.uncertainty import Difference, Estimate, bootstrap_means, holm, paired_tests


def test_intervals_match_the_normal_theory_of_a_large_sample():
    values = np.random.default_rng(0).random((4000, 2)) < [0.1, 0.5]
    estimates = bootstrap_means(values.astype(float), seed=0, resamples=2000)
    for column, estimate in zip(values.T, estimates, strict=True):
        half = 1.96 * column.std() / np.sqrt(len(column))
        assert estimate.value == column.mean()
        assert estimate.low == pytest.approx(column.mean() - half, abs=0.001)
        assert estimate.high == pytest.approx(column.mean() + half, abs=0.001)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    # Each column is an experiment of its own: 300 cases with a true rate of 0.2.
    estimates = bootstrap_means((generator.random((300, 500)) < 0.2).astype(float), seed=2, resamples=500)
    assert 0.92 <= np.mean([estimate.low <= 0.2 <= estimate.high for estimate in estimates]) <= 0.97


def test_same_seed_same_interval_whatever_stands_beside_it():
    values = np.random.default_rng(0).random((50, 3))
    together = bootstrap_means(values, seed=4)
    assert together == bootstrap_means(values, seed=4)
    assert together != bootstrap_means(values, seed=5)
    assert together[1].low == pytest.approx(bootstrap_means(values[:, 1:2], seed=4)[0].low, abs=1e-12)


def test_chunks_only_bound_the_memory(monkeypatch):
    values = np.random.default_rng(0).random((50, 3))
    whole = bootstrap_means(values, seed=0, resamples=40)
    monkeypatch.setattr("genrec.evaluation.uncertainty.CHUNK_NUMBERS", 7 * 50)
    for one, other in zip(whole, bootstrap_means(values, seed=0, resamples=40), strict=True):
        assert one.low == pytest.approx(other.low)
        assert one.high == pytest.approx(other.high)


def test_undefined_cases_are_left_out_of_their_own_figure_only():
    values = np.array([[1.0, np.nan, np.nan], [0.0, 4.0, np.nan], [1.0, 6.0, np.nan], [0.0, np.nan, np.nan]])
    first, second, third = bootstrap_means(values, seed=0)
    assert (first.value, second.value) == (0.5, 5.0)
    assert 4.0 <= second.low <= second.high <= 6.0
    assert np.isnan(third.value)
    assert third.low is third.high is None


def test_no_hits_no_interval_to_speak_of():
    assert bootstrap_means(np.zeros((20, 1)), seed=0) == [Estimate(0.0, 0.0, 0.0)]


def test_the_sign_flip_test_agrees_with_all_flips():
    first = np.array([[3.0], [1.0], [4.0], [1.0], [5.0], [0.0], [2.0]])
    second = np.array([[1.0], [2.0], [1.0], [0.0], [1.0], [0.0], [1.0]])
    differences = (first - second)[:, 0]
    every = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=7)]
    exact = np.mean([total >= abs(differences.sum()) for total in every])
    (test,) = paired_tests(first, second, seed=0, flips=40_000)
    assert test.value == pytest.approx(10 / 7)
    assert test.p_value == pytest.approx(exact, abs=0.005)


def test_equal_systems_differ_by_nothing():
    figures = np.random.default_rng(0).random((30, 2))
    for test in paired_tests(figures, figures, seed=0, flips=500):
        assert (test.value, test.low, test.high, test.p_value) == (0, 0, 0, 1)


def test_a_real_difference_is_found_and_its_sign_kept():
    generator = np.random.default_rng(0)
    base = generator.random((400, 1))
    better = base + 0.02 + generator.normal(0, 0.05, (400, 1))
    # Their own intervals overlap, since the cases differ much more than the systems do.
    one, two = bootstrap_means(np.hstack([base, better]), seed=0)
    assert two.low < one.high
    (test,) = paired_tests(better, base, seed=0, flips=2000)
    assert test.low > 0
    assert test.p_value < 0.01
    (reverse,) = paired_tests(base, better, seed=0, flips=2000)
    assert (reverse.value, reverse.p_value) == (pytest.approx(-test.value), test.p_value)


def test_systems_that_differ_by_chance_are_rarely_told_apart():
    generator = np.random.default_rng(3)
    first = (generator.random((200, 400)) < 0.3).astype(float)
    second = (generator.random((200, 400)) < 0.3).astype(float)
    p_values = np.array([test.p_value for test in paired_tests(first, second, seed=0, flips=500, resamples=50)])
    assert np.mean(p_values < 0.05) <= 0.075
    assert p_values.min() > 0


def test_holm_by_hand():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.9 x 1; the third may not fall below the second.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_json_round_trips():
    for value in (Estimate(0.25, 0.125, 0.5), Estimate(0.5), Difference(0.5, 0.25, 0.75, 0.125, 0.25)):
        assert type(value).from_json(value.to_json()) == value
