"""Coverage, Gini, novelty, diversity, serendipity and calibration, each against a value worked out by hand."""

import math
from itertools import combinations

import numpy as np
import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.categories import category_matrix
from genrec.data.rows import NO_ITEM
from genrec.evaluation import beyond_accuracy as beyond

NONE = NO_ITEM
FILMS = Catalog.from_items(
    [
        Item("0", "Alien", categories=("horror", "space")),
        Item("1", "Aliens", categories=("action", "space")),
        Item("2", "Annie Hall", categories=("comedy",)),
        Item("3", "Unknown"),
        Item("4", "Manhattan", categories=("comedy", "drama")),
    ]
)
LISTS = np.array([[0, 1, 2], [2, 4, NONE], [3, NONE, NONE], [NONE, NONE, NONE]])


def test_coverage_counts_items_not_places():
    assert beyond.coverage(LISTS, 10) == 5 / 10
    assert beyond.coverage(np.array([[0, 1], [1, 0]]), 4) == 0.5
    assert beyond.coverage(np.full((3, 2), NONE), 4) == 0


def test_exposure_ignores_empty_places():
    np.testing.assert_array_equal(beyond.exposure(LISTS, 6), [1, 1, 2, 1, 1, 0])


def test_gini_by_hand():
    assert beyond.gini(np.array([3, 3, 3, 3])) == 0
    assert beyond.gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)  # (n - 1) / n: as unequal as can be
    # Half the mean absolute difference over the mean: |1-2|, |1-6|, |2-6| twice each, over 9 pairs, mean 3.
    assert beyond.gini(np.array([6, 1, 2])) == pytest.approx((2 * (1 + 5 + 4) / 9) / (2 * 3))
    assert math.isnan(beyond.gini(np.zeros(4, dtype=int)))


def test_novelty_is_the_information_in_bits():
    takers = np.array([7, 3, 0, 1, 0])  # of 7 users; one is added to both: 8/8, 4/8, 1/8, 2/8, 1/8
    np.testing.assert_allclose(beyond.novelty(LISTS, takers, 7), [(0 + 1 + 3) / 3, 3, 2, np.nan])


def test_average_popularity_is_over_the_items_that_are_there():
    np.testing.assert_allclose(
        beyond.average_popularity(LISTS, np.array([9, 3, 0, 1, 4])), [4, 2, 1, np.nan], equal_nan=True
    )


def test_category_diversity_by_hand():
    # Alien and Aliens share 1 of 3 categories, neither shares any with Annie Hall; Annie Hall is half of Manhattan.
    expected = [(2 / 3 + 1 + 1) / 3, 1 / 2, np.nan, np.nan]
    np.testing.assert_allclose(beyond.category_diversity(LISTS, category_matrix(FILMS)), expected)


def test_category_diversity_with_more_categories_than_a_word_has_bits():
    generator = np.random.default_rng(0)
    categories = generator.random((30, 150)) < 0.05
    lists = np.array([generator.permutation(30)[:6] for _ in range(7)])

    def distance(first, second):
        either = (categories[first] | categories[second]).sum()
        return 1 - (categories[first] & categories[second]).sum() / either

    known = categories.any(axis=1)
    expected = [np.mean([distance(*pair) for pair in combinations(row[known[row]], 2)]) for row in lists]
    np.testing.assert_allclose(beyond.category_diversity(lists, categories), expected)


def test_a_catalogue_without_categories_has_no_diversity_to_tell():
    bare = category_matrix(Catalog.from_items([Item("0", "a"), Item("1", "b")]))
    assert np.isnan(beyond.category_diversity(np.array([[0, 1]]), bare)).all()


def test_embedding_diversity_equals_the_mean_over_pairs():
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((8, 5)) * generator.uniform(0.1, 9, (8, 1))
    vectors[7] = 0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    lists = np.array([[0, 1, 2, 3], [4, 5, 7, NONE], [6, NONE, NONE, NONE]])

    def by_pairs(row):
        return np.mean([1 - unit[i] @ unit[j] for i, j in combinations(row[row != NONE], 2)])

    expected = [by_pairs(lists[0]), by_pairs(lists[1]), np.nan]
    np.testing.assert_allclose(beyond.embedding_diversity(lists, vectors.astype(np.float32)), expected, atol=1e-6)


def test_serendipity_is_a_hit_that_popularity_would_have_missed():
    lists = np.array([[0, 1], [0, 1], [0, 1], [0, NONE]])
    targets = np.array([1, 0, 2, NONE])
    expected_lists = np.array([[3, 4], [3, 0], [2, 3], [NONE, NONE]])
    np.testing.assert_array_equal(beyond.serendipity(lists, targets, expected_lists), [1, 0, 0, 0])


def test_calibration_by_hand():
    weights = beyond.category_weights(category_matrix(FILMS))
    # Columns: action, comedy, drama, horror, space. History: Annie Hall twice and Manhattan.
    history = beyond.category_distribution(beyond.membership_of([[2, 2, 4], [3]], 5), weights)
    np.testing.assert_allclose(history, [[0, 5 / 6, 1 / 6, 0, 0], [0, 0, 0, 0, 0]])

    history = history[[0, 0, 0, 1]]
    lists = np.array([[4, NONE], [2, 0], [NONE, NONE], [2, 4]])

    def divergence(comedy, drama, alpha=0.01):
        mixed = [(1 - alpha) * q + alpha * p for q, p in ((comedy, 5 / 6), (drama, 1 / 6))]
        return 5 / 6 * math.log(5 / 6 / mixed[0]) + 1 / 6 * math.log(1 / 6 / mixed[1])

    expected = [divergence(1 / 2, 1 / 2), divergence(1 / 2, 0), -math.log(0.01), np.nan]
    np.testing.assert_allclose(beyond.calibration(lists, history, weights), expected)


def test_a_list_with_the_history_s_mix_is_perfectly_calibrated():
    weights = beyond.category_weights(category_matrix(FILMS))
    history = beyond.category_distribution(beyond.membership_of([[0, 2, 3]], 5), weights)
    assert beyond.calibration(np.array([[2, 0, 3]]), history, weights)[0] == pytest.approx(0)


def test_text_shares_sum_to_one_and_name_what_did_not_occur():
    shares = beyond.text_shares(["exact", "exact", "nearest", "sampled"])
    assert shares == {"exact": 0.5, "normalised": 0, "nearest": 0.25, "rejected": 0, "sampled": 0.25}
    assert beyond.text_shares([]) == {}
