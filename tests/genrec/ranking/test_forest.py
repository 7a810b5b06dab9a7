"""The forest beside the weighted sum: shares, features and trees by hand, and a file that brings them back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genrec.errors import ArtefactError
from genrec.ranking.cases import Table
from genrec.ranking.forest import ENOUGH_CASES, forest_features, forest_scores, shares_of
from genrec.ranking.fusion import Fusion
from genrec.ranking.without_model import fit_signals_fusion
from tests.genrec.ranking.test_fitting import gains_of, two_signals


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    return fit_signals_fusion(("one", "other"), Table(two_signals(ENOUGH_CASES)), 10, seed=0).fusion


def test_shares_by_hand():
    values = np.array([[[3, 0, -1], [1, 0, 2]]], np.float32)
    assert shares_of(values).tolist() == [[[0.75, 0, 0], [0.25, 0, 1]]]


def test_features_are_the_shares_and_the_length():
    assert forest_features(np.array([[0.5, 0.25]], np.float32), 7).tolist() == [[0.5, 0.25, 7.0]]


def test_what_depends_on_the_history_is_learnt(fusion: Fusion) -> None:
    cases = two_signals(300, seed=1)
    alone = gains_of(cases, [fusion.linear(case.values) for case in cases])
    together = gains_of(cases, [fusion.evidence(case.values, case.shares, case.length) for case in cases])
    assert fusion.forest_weight > 0
    assert together.mean() > alone.mean() + 0.1


def test_a_forest_survives_json_and_says_its_weight(fusion: Fusion) -> None:
    again = Fusion.from_json(json.loads(json.dumps(fusion.to_json())))
    assert again == fusion
    (case,) = two_signals(1, seed=2)
    parts = case.values, case.shares, case.length
    assert again.evidence(*parts).tolist() == fusion.evidence(*parts).tolist()
    assert f"forest {fusion.forest_weight:.2f}" in fusion.describe()


def test_a_fusion_from_before_there_were_forests_loads(fusion: Fusion) -> None:
    old = {name: fusion.to_json()[name] for name in ("scales", "weights", "lm", "cases", "lm_cases")}
    assert Fusion.from_json(old) == replace(fusion, forest="", forest_weight=0.0)


def test_the_same_forest_every_time(fusion: Fusion) -> None:
    again = fit_signals_fusion(("one", "other"), Table(two_signals(ENOUGH_CASES)), 10, seed=0)
    assert again.fusion == fusion


def test_one_row_scores_as_among_many(fusion: Fusion) -> None:
    rows = np.random.default_rng(3).random((500, 3)).astype(np.float32)
    together = forest_scores(fusion.forest, rows)
    assert together.dtype == np.float32
    assert [float(forest_scores(fusion.forest, row[None])[0]) for row in rows[:20]] == together[:20].tolist()
    assert forest_scores(fusion.forest, rows[:0]).shape == (0,)


def test_a_damaged_forest_is_said(fusion: Fusion) -> None:
    with pytest.raises(ArtefactError, match="make the run again"):
        forest_scores("tree\nnot a forest", np.zeros((1, 3), np.float32))
    with pytest.raises(ArtefactError, match="reads 3 features, and there are 4"):
        forest_scores(fusion.forest, np.zeros((1, 4), np.float32))
