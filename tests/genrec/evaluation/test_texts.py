"""The figures of texts against their definitions, computed pair by pair, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from genrec.evaluation.texts import (
    coverage_ratio,
    distinct,
    feature_diversity,
    features_in,
    matching_ratio,
    unique_ratio,
)

FEATURES = ["room", "pool", "staff", "view", "price"]


def drawn(seed: int) -> list[set[str]]:
    draw = np.random.default_rng(seed)
    return [set(draw.choice(FEATURES, draw.integers(0, 4), replace=False).tolist()) for _ in range(40)]


@pytest.mark.parametrize("seed", range(5))
def test_div_is_the_mean_over_pairs(seed: int) -> None:
    """The definition of Li et al.: 2 / (N (N - 1)) times the sum over pairs of texts of the features in common."""
    held = drawn(seed)
    total = sum(len(one & other) for one, other in itertools.combinations(held, 2))
    assert feature_diversity(held) == pytest.approx(2 * total / (len(held) * (len(held) - 1)))


@pytest.mark.parametrize("seed", range(5))
def test_the_others_are_what_an_indicator_matrix_says(seed: int) -> None:
    held = drawn(seed)
    matrix = np.array([[feature in own for feature in FEATURES] for own in held])
    wanted = [FEATURES[place % 5] for place in range(len(held))]
    columns = [FEATURES.index(feature) for feature in wanted]
    assert matching_ratio(held, wanted) == pytest.approx(matrix[np.arange(len(held)), columns].mean())
    assert coverage_ratio(held, FEATURES) == pytest.approx(matrix.any(axis=0).mean())
    texts = [" ".join(sorted(own)) for own in held]
    assert unique_ratio(texts) == pytest.approx(len(np.unique(texts)) / len(texts))


def test_nothing_and_one() -> None:
    assert feature_diversity([]) == feature_diversity([{"a"}]) == 0
    assert unique_ratio([]) == 0
    assert math.isnan(matching_ratio([set()], [""]))
    assert math.isnan(coverage_ratio([set()], []))
    assert matching_ratio([{"a"}, set()], ["a", ""]) == 1


def test_features_are_found_as_whole_words_and_not_in_names() -> None:
    vocabulary = {"sci fi": "Sci-Fi", "war": "War", "爱 情": "爱情"}
    assert features_in("“War” is Sci-Fi, as warned.", vocabulary) == {"Sci-Fi"}
    assert features_in("它属于爱情。", vocabulary) == {"爱情"}


def test_distinct_by_hand() -> None:
    assert distinct(["a b a", "a b"], 1) == 2 / 5
    assert distinct(["a b a", "a b"], 2) == 2 / 3
    assert distinct(["“很好”。"], 2) == 1
    assert distinct(["a"], 2) == 0
