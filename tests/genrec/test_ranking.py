"""The fusion: levels and reciprocal ranks by hand, and weights that are found again."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from genrec.errors import DataError
from genrec.ranking import Fusion, fit_model_weight, fit_weights, fuse_reciprocal_ranks, log_levels, mean_positive

FUSION = Fusion(("similarity", "popularity"), (1.5, 2.0), (1.0, -0.5), 0.125, 70, 7)


def test_log_levels_by_hand():
    values = np.array([[3, 0.5], [1, 0], [0, -1]], np.float32)
    found = log_levels(values, (2.0, 0.5))
    assert found.dtype == np.float32
    assert found[:, 0] == pytest.approx(np.log([3.5, 2.5, 2.0]), abs=1e-6)
    assert found[:, 1] == pytest.approx(np.log([3.0, 2.0, 2.0]), abs=1e-6)  # below 0 counts as nothing


def test_without_scales_each_history_has_its_own():
    values = np.random.default_rng(0).random((3, 8, 2)).astype(np.float32)
    assert np.array_equal(log_levels(values, None)[1], log_levels(values[1], None))
    assert log_levels(np.array([[3.0], [1.0], [0.0]], np.float32), None)[:, 0] == pytest.approx(np.log([3.5, 2.5, 2]))


def test_more_evidence_tells_more():
    much, little = (np.ptp(log_levels(np.array([[x], [0.0]], np.float32), (1.0,))) for x in (10.0, 0.1))
    assert much > 10 * little


def test_a_silent_signal_says_the_same_of_all():
    found = log_levels(np.zeros((2, 5, 1), np.float32), None)
    assert np.ptp(found) == 0
    assert np.isfinite(found).all()


def test_means_above_zero_by_hand():
    values = np.array([[4, 0], [2, -1], [0, 0]], np.float32)
    assert mean_positive(values, axis=0).tolist() == [[3.0, 1.0]]


def planted_cases(weights, cases, seed=0):
    """Candidates of random features, and targets drawn with probability proportional to exp(w.x)."""
    draw = np.random.default_rng(seed)
    features, targets = [], []
    for _ in range(cases):
        rows = draw.normal(size=(int(draw.integers(5, 30)), len(weights)))
        odds = np.exp(rows @ weights)
        features.append(rows.astype(np.float32))
        targets.append(int(draw.choice(len(rows), p=odds / odds.sum())))
    return features, targets


def test_planted_weights_are_found_again():
    planted = np.array([1.2, -0.7, 0.0])
    found = fit_weights(*planted_cases(planted, 3000))
    assert found == pytest.approx(planted, abs=0.08)


def test_the_fit_by_hand():
    # One signal, two candidates, taken three times in four: exp(w) / (exp(w) + 1) = 3/4 but for the ridge, which pulls
    # down: the derivative is p - 3/4 + 0.002 w = 0.
    (weight,) = fit_weights([np.array([[1.0], [0.0]])] * 4, [0, 0, 0, 1])
    assert weight < math.log(3)
    assert math.exp(weight) / (math.exp(weight) + 1) - 0.75 + 0.002 * weight == pytest.approx(0, abs=1e-5)


def test_what_is_the_same_for_all_of_a_cases_candidates_changes_nothing():
    features, targets = planted_cases(np.array([1.0, 0.5]), 300)
    moved = [rows + number for number, rows in enumerate(features)]
    assert fit_weights(moved, targets) == pytest.approx(fit_weights(features, targets), abs=1e-3)


def test_the_models_weight_is_what_puts_targets_on_top():
    """The middle of what is best: wanted where the others are silent, kept small where it is wrong."""
    sums = [np.array([1.0, 1.0, 0.0])] * 2
    assert fit_model_weight(sums, [np.array([-3.0, -1.0, -2.0])] * 2, [1, 1]) > 0
    assert fit_model_weight(sums, [np.array([-3.0, -9.0, -1.0])] * 2, [0, 0]) == 0.15  # right from 0.025 to 0.4
    assert fit_model_weight([np.array([1.0, 0.0])], [np.array([-9.0, 0.0])], [0]) == 0.05  # right up to 0.1


def test_no_case_is_said():
    with pytest.raises(DataError, match="no validation case"):
        fit_weights([], [])


def test_reciprocal_ranks_by_hand():
    fused = fuse_reciprocal_ranks([[7, 3, 5], [3, 9]])
    assert [row for row, _ in fused] == [3, 7, 9, 5]
    assert dict(fused) == pytest.approx({3: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62, 5: 1 / 63})


def test_equal_sums_keep_the_first_lists_order():
    assert [row for row, _ in fuse_reciprocal_ranks([[1, 2], [2, 1]])] == [1, 2]
    assert fuse_reciprocal_ranks([]) == []


def test_a_fusion_survives_json():
    assert Fusion.from_json(json.loads(json.dumps(FUSION.to_json()))) == FUSION
    assert FUSION.to_json()["weights"] == {"similarity": 1.0, "popularity": -0.5}


def test_a_fusion_says_its_weights():
    assert FUSION.describe() == "lm 0.12, similarity 1.00, popularity -0.50, forest 0.00"
