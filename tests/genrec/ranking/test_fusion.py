"""The fusion: levels and reciprocal ranks by hand, and what it is made of, to a file and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genrec.ranking.fusion import Fusion, fuse_reciprocal_ranks, log_levels, mean_positive
from genrec.ranking.proof import Compared, Proof, errors_for, paired

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


def test_a_fusion_with_all_it_can_have_survives_json():
    compared = (Compared("the sum", 0.1, 0.01, 0.004, 70),)
    proof = Proof("the sum and a forest", 0.11, 20, 70, compared, {"all together": 0.5}, ("It is so.",))
    whole = replace(FUSION, others_weight=0.0, together=100, each=20, k=20, exclude_seen=False, proof=proof)
    assert Fusion.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole.to_words() == ["It is so."]


def test_a_model_that_ranks_alone():
    alone = replace(FUSION, model=1.0, others_weight=0.0)
    likelihoods = np.array([-1.0, -2.0], np.float32)
    values = np.array([[0, 1], [5, 0]], np.float32)
    assert alone.with_model(alone.linear(values), values, values, 3, likelihoods).tolist() == [-1.0, -2.0]


def test_paired_differences_by_hand():
    found = paired(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0]))
    assert found.gain == 0.5
    assert found.error == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
    assert found.proves
    assert not paired(np.array([1.0]), np.array([0.0])).proves  # one case proves nothing
    assert not paired(np.zeros(4), np.zeros(4)).proves
    assert found.size == pytest.approx(found.gain / found.error)
    assert paired(np.zeros(4), np.zeros(4)).size == 0
    assert paired(np.zeros(4), np.ones(4)).size == -np.inf  # every case is worse by the same: there is no doubt


def test_the_more_are_compared_the_more_errors_it_takes():
    assert errors_for(1) == pytest.approx(1)
    assert errors_for(9) == pytest.approx(2.11, abs=0.01)
    chance = np.random.default_rng(0).standard_normal((20_000, 9)).max(axis=1)
    assert (chance > errors_for(9)).mean() == pytest.approx(1 - 0.8413, abs=0.02)  # as often as one exceeds one error


def test_a_fusion_says_its_weights():
    assert FUSION.describe() == "lm 0.12, similarity 1.00, popularity -0.50, forest 0.00"
