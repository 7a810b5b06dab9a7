"""Re-ranking: each wish against a list worked out by hand, and what holds for any list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.catalog import Catalog, Item
from genrec.errors import ConfigError
from genrec.evaluation.compare import beyond_accuracy as beyond
from genrec.ranking.reranking import ItemFacts, Reranking, category_mix, divergence, rerank, scaled


def facts(vectors, categories, popularity=None):
    """Facts of items with the given vectors, categories (one column each) and popularity."""
    vectors = np.array(vectors, np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    popularity = np.zeros(len(vectors)) if popularity is None else np.array(popularity, np.float64)
    return ItemFacts(vectors / lengths, np.array(categories, np.bool_), popularity)


# Four items: 0 and 1 are twins, 2 stands at a right angle, 3 opposite. Categories: comedy, drama.
FOUR = facts([[1, 0], [1, 0], [0, 1], [-1, 0]], [[1, 0], [1, 0], [0, 1], [0, 1]], [1.0, 0.5, 0.0, 0.0])
ROWS = np.arange(4)
SCORES = np.array([4.0, 3.0, 2.0, 1.0])  # scaled: 1, 2/3, 1/3, 0


def lists(wishes, k=4, history=(), some=FOUR, rows=ROWS, scores=SCORES):
    return rerank(rows, scores, k, wishes, some, history).tolist()


def test_nothing_asked_changes_nothing():
    assert lists(Reranking(), k=3) == [0, 1, 2]
    assert not Reranking().asked
    assert Reranking().candidates(10) == 10


def test_more_candidates_than_places_are_asked_for():
    assert Reranking(diversity=0.1).candidates(5) == 50
    assert Reranking(diversity=0.1).candidates(20) == 100


def test_mmr_by_hand():
    # lambda = 1/2. First the best. Then: twin 1/3 - 1/2, right angle 1/6 - 0, opposite 0 + 1/2: the opposite.
    # Then: twin 1/3 - 1/2 = -1/6, right angle 1/6 - 0: the right angle.
    assert lists(Reranking(diversity=0.5)) == [0, 3, 2, 1]
    # With little diversity the twin stays second: 0.9 * 2/3 - 0.1 = 0.5, against 0.3 and 0.1.
    assert lists(Reranking(diversity=0.1)) == [0, 1, 2, 3]


def test_full_diversity_forgets_relevance_after_the_first():
    assert lists(Reranking(diversity=1.0), k=2) == [0, 3]


def test_the_first_place_is_the_most_relevant_for_any_diversity():
    assert {lists(Reranking(diversity=d / 10), k=1)[0] for d in range(11)} == {0}


def test_at_most_so_many_of_a_category():
    assert lists(Reranking(max_per_category=1), k=2) == [0, 2]


def test_the_limit_rises_where_nothing_else_is_left():
    assert lists(Reranking(max_per_category=1)) == [0, 2, 1, 3]


def test_an_item_counts_in_each_of_its_categories():
    some = facts(np.eye(3), [[1, 1], [0, 1], [1, 0]])
    assert lists(Reranking(max_per_category=1), k=2, some=some, rows=np.arange(3), scores=SCORES[:3]) == [0, 1]
    none = facts(np.eye(3), [[1, 1], [0, 1], [0, 0]])
    assert lists(Reranking(max_per_category=1), k=2, some=none, rows=np.arange(3), scores=SCORES[:3]) == [0, 2]


def test_popularity_discount_by_hand():
    # 1 - 1, 2/3 - 1/2, 1/3 - 0, 0 - 0: item 2 first, then 1, then the two zeros in their order.
    assert lists(Reranking(discount_popularity=1.0)) == [2, 1, 0, 3]
    # 1 - 0.2, 2/3 - 0.1, 1/3, 0
    assert lists(Reranking(discount_popularity=0.2)) == [0, 1, 2, 3]


def test_calibration_by_hand():
    # The history is half comedy, half drama. With c = 0.9 a list of 0 alone has
    # KL = 1/2 ln(0.5 / 0.995) + 1/2 ln(0.5 / 0.005) = 1.9585 whichever category, so the best comes first: 0.1 * 1.
    # Then 0.1 * 2/3 - 0.9 * 1.9585 for the second comedy, 0.1 * 1/3 - 0 for the first drama.
    assert lists(Reranking(calibration=0.9), k=2, history=[1, 2]) == [0, 2]
    assert divergence(np.array([0.5, 0.5]), np.array([[1.0, 0.0]]))[0] == pytest.approx(1.9585, abs=1e-4)
    # A history of nothing but drama wants drama alone.
    assert lists(Reranking(calibration=0.9), k=2, history=[3]) == [2, 3]


def test_calibration_looks_at_the_whole_list():
    # Comedy, comedy, drama, drama; the history is one third comedy. With c = 1 relevance only breaks ties: KL is 4.6 p
    # of what is missing, so a drama comes first; then a comedy, which leaves 1/2 of 1/3; then another drama, 1/3 again.
    assert lists(Reranking(calibration=1.0), history=[0, 2, 3]) == [2, 0, 3, 1]


def test_an_item_of_two_categories_is_half_of_each():
    np.testing.assert_allclose(category_mix(np.array([[1, 1], [0, 1], [0, 0]], np.bool_)), [1 / 4, 3 / 4])
    np.testing.assert_array_equal(category_mix(np.zeros((0, 2), np.bool_)), [0, 0])


def test_an_unknown_taste_leaves_the_order():
    assert lists(Reranking(calibration=1.0)) == [0, 1, 2, 3]
    assert lists(Reranking(calibration=1.0, discount_popularity=1.0)) == [2, 1, 0, 3]


def test_divergence_is_the_evaluation_metric():
    generator = np.random.default_rng(0)
    categories = generator.random((40, 6)) < 0.3
    weights = beyond.category_weights(categories)
    shown = np.array([generator.choice(40, 5, replace=False) for _ in range(8)])
    history = beyond.category_distribution(beyond.membership_of([range(12)] * 8, 40), weights)
    expected = beyond.calibration(shown, history, weights)
    ours = [divergence(history[0], np.asarray(weights[row].todense()).sum(axis=0)[None])[0] for row in shown]
    np.testing.assert_allclose(ours, expected)


def test_scale_does_not_matter():
    wishes = Reranking(diversity=0.4, calibration=0.2, discount_popularity=0.3)
    assert lists(wishes, history=[1, 2]) == lists(wishes, history=[1, 2], scores=SCORES * 1e-3 - 70)
    np.testing.assert_allclose(scaled(SCORES), [1, 2 / 3, 1 / 3, 0])
    np.testing.assert_array_equal(scaled(np.array([2.0, 2.0])), [0, 0])
    assert len(scaled(np.zeros(0))) == 0


def test_facts_of_a_catalogue():
    catalog = Catalog.from_items(
        [
            Item("a", "Alien", categories=("film", "horror")),
            Item("b", "Aliens", categories=("film", "action")),
            Item("c", "Annie Hall", categories=("film",)),
        ]
    )
    some = ItemFacts.of(catalog, np.eye(3, dtype=np.float32), np.array([2.0, 1.0, 0.0]))
    # "film" is on every item and would make a limit of one film a list of one.
    np.testing.assert_array_equal(some.categories, [[False, True], [True, False], [False, False]])
    np.testing.assert_array_equal(some.popularity, [1, 0.5, 0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"diversity": 1.5}, r"diversity is 1\.5, expected a number from 0 to 1"),
        ({"calibration": -0.1}, r"calibration is -0\.1, expected a number from 0 to 1"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"diversity": 0.6, "calibration": 0.6}, "together more than 1"),
        ({"max_per_category": 0}, "max_per_category is 0, expected at least 1"),
        ({"discount_popularity": -1}, "discount_popularity is -1, expected a number from 0"),
        ({"discount_popularity": float("inf")}, "discount_popularity is inf"),
    ],
)
def test_impossible_wishes_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Reranking(**wrong)


@st.composite
def cases(draw):
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    items = draw(st.integers(1, 30))
    some = facts(
        generator.standard_normal((items, 3)) * (generator.random((items, 1)) < 0.9),
        generator.random((items, draw(st.integers(0, 5)))) < 0.4,
        generator.random(items),
    )
    rows = generator.permutation(items)[: draw(st.integers(0, items))]
    scores = np.sort(generator.choice([0.0, 1.0, 2.5, -3.0], len(rows)))[::-1]
    diversity = draw(st.floats(0, 1))
    wishes = Reranking(
        diversity=diversity,
        max_per_category=draw(st.none() | st.integers(1, 4)),
        discount_popularity=draw(st.floats(0, 5)),
        calibration=draw(st.floats(0, 1)) * (1 - diversity),
    )
    return some, rows, scores, wishes, draw(st.integers(1, 12)), generator.integers(items, size=draw(st.integers(0, 6)))


@given(cases())
@settings(max_examples=200, deadline=None)
def test_k_distinct_candidates_come_back_whenever_there_are_k(case):
    some, rows, scores, wishes, k, history = case
    places = rerank(rows, scores, k, wishes, some, history.tolist())
    assert len(places) == min(k, len(rows))
    assert len(set(places.tolist())) == len(places)
    assert all(0 <= place < len(rows) for place in places)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_longer_list_begins_with_the_shorter_one(case):
    some, rows, scores, wishes, k, history = case
    longer = rerank(rows, scores, k + 3, wishes, some, history.tolist())
    assert longer[:k].tolist() == rerank(rows, scores, k, wishes, some, history.tolist()).tolist()


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_limit_is_broken_only_where_no_other_candidate_would_keep_it(case):
    some, rows, scores, _, k, history = case
    limit = 2
    places = rerank(rows, scores, k, Reranking(max_per_category=limit), some, history.tolist())
    held = some.categories[rows]
    for end in range(len(places)):
        counts = held[places[:end]].sum(axis=0)
        others = [place for place in range(len(rows)) if place not in places[:end]]
        keeps = [place for place in others if not (held[place] & (counts >= limit)).any()]
        assert places[end] in keeps or not keeps
