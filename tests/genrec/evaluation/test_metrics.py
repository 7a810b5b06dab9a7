"""Accuracy metrics: hand-computed values, the traps of the field, and agreement with ranx."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.rows import NO_ITEM, tie_order, top_rows
from genrec.evaluation import metrics
from genrec.evaluation.metrics import MISS, RANK_METRICS

PLAIN = {
    "hr": metrics.hit_rate,
    "recall": metrics.recall,
    "precision": metrics.precision,
    "ndcg": metrics.ndcg,
    "mrr": metrics.reciprocal_rank,
    "map": metrics.average_precision,
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Targets b and d stand at ranks 2 and 4 of a b c d e; a third target, z, is not listed. K = 4.
        ("hr", 1.0),
        ("recall", 2 / 3),
        ("precision", 2 / 4),
        ("ndcg", (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)),
        ("mrr", 1 / 2),
        ("map", (1 / 2 + 2 / 4) / 3),
    ],
)
def test_several_targets_by_hand(name, expected):
    assert PLAIN[name](["a", "b", "c", "d", "e"], {"b", "d", "z"}, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("hr", 1.0), ("recall", 1.0), ("precision", 1 / 5), ("ndcg", 1 / 2), ("mrr", 1 / 3), ("map", 1 / 3)],
)
def test_one_target_at_rank_three_by_hand(name, expected):
    assert PLAIN[name](["x", "y", "target", "z"], "target", 5) == pytest.approx(expected)


@pytest.mark.parametrize("name", PLAIN)
def test_what_earns_nothing(name):
    metric = PLAIN[name]
    assert metric([], "a", 5) == 0
    assert metric(["x", "y"], "a", 5) == 0
    assert metric(["x", "a"], "a", 1) == 0, "beyond K"
    assert metric(["a"], (), 5) == 0, "no target"
    assert metric(["t", "a", "r"], "tar", 3) == 0, "a target's id is not a collection of letters"


@pytest.mark.parametrize("name", PLAIN)
def test_k_must_be_a_number_of_places(name):
    with pytest.raises(ValueError, match="at least 1; given 0"):
        PLAIN[name](["a"], "a", 0)


@pytest.mark.parametrize("name", PLAIN)
def test_a_repeated_item_counts_once_and_its_repeats_keep_their_places(name):
    # Summing over all five would give an NDCG of 2.9, above any hit rate: identical beams once looked this good.
    assert PLAIN[name](["a"] * 5, "a", 5) == PLAIN[name](["a", "w", "x", "y", "z"], "a", 5)
    assert PLAIN[name](["b", "b", "a"], "a", 5) == PLAIN[name](["b", "c", "a"], "a", 5)


ranked_lists = st.lists(st.sampled_from("abcdefgh"), max_size=8)


@given(ranked_lists, st.sets(st.sampled_from("abcdefgh"), min_size=1), st.integers(1, 10))
def test_every_metric_is_between_0_and_1_and_no_metric_exceeds_the_hit_rate(ranked, targets, k):
    hit = metrics.hit_rate(ranked, targets, k)
    for metric in PLAIN.values():
        assert 0 <= metric(ranked, targets, k) <= hit


@given(st.lists(ranked_lists, min_size=1, max_size=6), st.data())
def test_the_array_forms_agree_with_the_plain_ones(lists, data):
    targets = [data.draw(st.sampled_from("abcdefgh")) for _ in lists]
    k = data.draw(st.integers(1, 10))
    rows = np.full((len(lists), 8), NO_ITEM)
    for row, ranked in zip(rows, lists, strict=True):
        row[: len(ranked)] = ["abcdefgh".index(item) for item in ranked]
    ranks = metrics.ranks_in_lists(
        metrics.without_repeats(rows), np.array(["abcdefgh".index(target) for target in targets])
    )
    for name, metric in PLAIN.items():
        plain = [metric(ranked, target, k) for ranked, target in zip(lists, targets, strict=True)]
        np.testing.assert_allclose(RANK_METRICS[name](ranks, k), plain, err_msg=name)


def test_a_target_outside_the_catalogue_is_a_miss_even_beside_unknown_items():
    lists = np.array([[NO_ITEM, 3], [1, NO_ITEM]])
    np.testing.assert_array_equal(metrics.ranks_in_lists(lists, np.array([NO_ITEM, 1])), [MISS, 1])


def test_lists_without_places_are_misses():
    np.testing.assert_array_equal(metrics.ranks_in_lists(np.empty((2, 0), dtype=int), np.array([0, 1])), [MISS, MISS])


def test_only_the_first_of_equal_items_stays():
    lists = np.array([[4, 4, 2, 4], [1, 2, 1, NO_ITEM]])
    np.testing.assert_array_equal(metrics.without_repeats(lists), [[4, NO_ITEM, 2, NO_ITEM], [1, 2, NO_ITEM, NO_ITEM]])


def test_rank_counts_items_above_and_ties_ordered_before():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.5])
    order = np.array([2, 0, 4, 1, 3])  # among the ties: item 0, then 4, then 2
    assert metrics.rank_of_target(scores, 1, order) == 1
    assert [metrics.rank_of_target(scores, item, order) for item in (0, 4, 2)] == [2, 3, 4]
    assert metrics.rank_of_target(scores, 3, order) == 5


def test_excluded_and_undefined_scores_never_help_the_target():
    order = np.arange(4)
    scores = np.array([-np.inf, np.nan, 0.2, 0.7])
    assert metrics.rank_of_target(scores, 0, order) == MISS
    assert metrics.rank_of_target(scores, 1, order) == MISS
    assert metrics.rank_of_target(scores, 2, order) == 2


def test_a_scorer_that_ties_everything_gets_chance_level():
    items, k, cases = 200, 10, 20_000
    # All targets among the first tenth of the catalogue: catalogue order as the tie rule would score 1.0 or 0.5.
    targets = np.random.default_rng(1).integers(0, 20, size=cases)
    hits = [metrics.RANK_METRICS["hr"](tie_order(items, seed)[targets] + 1.0, k).mean() for seed in range(400)]
    assert np.mean(hits) == pytest.approx(k / items, abs=0.006)
    order = tie_order(items, seed=3)
    ranks = metrics.ranks_of_targets(np.zeros((50, items)), targets[:50], order)
    np.testing.assert_array_equal(ranks, order[targets[:50]] + 1, err_msg="the rank of a tie is its place in the order")


def test_the_tie_order_depends_on_the_seed_and_on_nothing_else():
    np.testing.assert_array_equal(tie_order(30, 5), tie_order(30, 5))
    assert (tie_order(30, 5) != tie_order(30, 6)).any()
    assert sorted(tie_order(30, 5)) == list(range(30))


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_lists_and_ranks_made_from_the_same_scores_agree(seed, k):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, size=(5, 10)).astype(float)  # few values, so many ties
    scores[generator.random(scores.shape) < 0.2] = -np.inf
    scores[generator.random(scores.shape) < 0.1] = np.nan
    order = tie_order(10, seed)
    lists = top_rows(scores, k, order)
    for target in range(10):
        targets = np.full(5, target)
        ranks = metrics.ranks_of_targets(scores, targets, order)
        np.testing.assert_array_equal(metrics.ranks_in_lists(lists, targets), np.where(ranks <= k, ranks, MISS))


def test_fewer_items_than_places_leaves_places_empty():
    scores = np.array([[0.1, -np.inf, 0.3]])
    np.testing.assert_array_equal(top_rows(scores, 4, np.arange(3)), [[2, 0, NO_ITEM, NO_ITEM]])


RANX = """
import json, sys
from ranx import Qrels, Run, evaluate
questions = json.load(sys.stdin)
qrels = Qrels({str(n): {item: 1 for item in q["targets"]} for n, q in enumerate(questions)})
run = Run({str(n): {item: 100.0 - r for r, item in enumerate(q["ranked"])} for n, q in enumerate(questions)})
names = [f"{name}@{k}" for name in ("hit_rate", "recall", "precision", "ndcg", "mrr", "map") for k in (1, 5, 10, 20)]
evaluate(qrels, run, names, return_mean=False)
print(json.dumps({name: [run.scores[name][str(n)] for n in range(len(questions))] for name in names}))
"""


def test_agreement_with_ranx_over_random_lists():
    generator = np.random.default_rng(0)
    questions = []
    for _ in range(150):
        items = [f"item-{number}" for number in generator.permutation(40)]
        targets = generator.choice(items, size=generator.integers(1, 8), replace=False)
        questions.append({"ranked": items[: generator.integers(1, 30)], "targets": targets.tolist()})
    # In a process of its own, not compiled: compiling ranx's functions takes half a minute, these lists a second.
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RANX],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )
    theirs = json.loads(answer.stdout)
    assert len(theirs) == 24
    for name, values in theirs.items():
        metric, k = name.split("@")
        ours = PLAIN[{"hit_rate": "hr"}.get(metric, metric)]
        mine = [ours(question["ranked"], question["targets"], int(k)) for question in questions]
        np.testing.assert_allclose(mine, values, err_msg=name)
