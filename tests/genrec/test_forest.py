"""The forest beside the weighted sum: it learns what a sum cannot say and not what is chance, and survives a file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genrec.errors import ArtefactError
from genrec.forest import (
    ENOUGH_CASES,
    FOLDS,
    HeldOut,
    choose_forest_weight,
    forest_features,
    forest_scores,
    gain_of,
    shares_of,
)
from genrec.ranking import Fusion, ModelCase, fit_model, fit_signals_weights

CANDIDATES = 20


def world(cases, seed=0, told=True):
    """Two signals; who has a short history takes what the first puts first, who has a long one what the second does."""
    draw = np.random.default_rng(seed)
    values, shares, lengths, targets = [], [], [], []
    for _ in range(cases):
        rows = draw.random((CANDIDATES, 2)).astype(np.float32)
        length = int(draw.integers(1, 21))
        target = int(rows[:, int(length > 10)].argmax()) if told else int(draw.integers(CANDIDATES))
        values.append(rows)
        shares.append(shares_of(rows))
        lengths.append(length)
        targets.append(target)
    return values, shares, lengths, targets


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    return fit_signals_weights(("one", "other"), *world(ENOUGH_CASES), seed=0)[0]


def test_shares_by_hand():
    values = np.array([[[3, 0, -1], [1, 0, 2]]], np.float32)
    assert shares_of(values).tolist() == [[[0.75, 0, 0], [0.25, 0, 1]]]


def test_features_are_the_shares_and_the_length():
    assert forest_features(np.array([[0.5, 0.25]], np.float32), 7).tolist() == [[0.5, 0.25, 7.0]]


def test_the_gain_by_hand():
    scores = np.array([3.0, 2.0, 1.0, 2.0])
    assert gain_of(scores, 0, 10) == 1
    assert gain_of(scores, 1, 3) == pytest.approx(1 / 2)  # the equal one stands before it: rank 3, 1 / log2(4)
    assert gain_of(np.arange(11.0), 0, 10) == 0
    assert gain_of(np.arange(11.0), 0, 11) == pytest.approx(1 / np.log2(12))


def test_what_depends_on_the_history_is_learnt(fusion: Fusion) -> None:
    values, shares, lengths, targets = world(300, seed=1)
    alone = [gain_of(fusion.linear(rows), target, 10) for rows, target in zip(values, targets, strict=True)]
    cases = zip(values, shares, lengths, targets, strict=True)
    together = [gain_of(fusion.evidence(*parts), place, 10) for *parts, place in cases]
    assert fusion.forest_weight > 0
    assert np.mean(together) > np.mean(alone) + 0.1


def test_chance_is_not_learnt():
    values, shares, lengths, targets = world(ENOUGH_CASES, told=False)
    draw = np.random.default_rng(4)
    sums = [draw.random(CANDIDATES).astype(np.float32) for _ in values]
    for scores, target in zip(sums[::2], targets[::2], strict=True):
        scores[target] = 1.01  # right by itself every second time; trees know the other times by heart only
    features = [forest_features(rows, length) for rows, length in zip(shares, lengths, strict=True)]
    held_out = HeldOut.fit(features, targets, seed=0)
    unseen = [held_out.scores(case, rows) for case, rows in enumerate(features)]
    assert choose_forest_weight(sums, unseen, targets) == 0
    # The same forest asked about cases that it knows would have been believed.
    known = [
        forest_scores(held_out.forests[(held_out.fold[case] + 1) % FOLDS], rows) for case, rows in enumerate(features)
    ]
    assert choose_forest_weight(sums, known, targets) > 0


def test_few_cases_give_no_forest():
    few, held_out = fit_signals_weights(("one", "other"), *world(ENOUGH_CASES - 1), seed=0)
    assert held_out is None
    assert few.forest_weight == 0
    assert few.forest == ""


def test_a_forest_survives_json_and_says_its_weight(fusion: Fusion) -> None:
    again = Fusion.from_json(json.loads(json.dumps(fusion.to_json())))
    assert again == fusion
    values, shares, lengths, _ = (part[0] for part in world(1, seed=2))
    assert again.evidence(values, shares, lengths).tolist() == fusion.evidence(values, shares, lengths).tolist()
    assert f"forest {fusion.forest_weight:.2f}" in fusion.describe()


def test_a_fusion_from_before_there_were_forests_loads(fusion: Fusion) -> None:
    old = {name: value for name, value in fusion.to_json().items() if "forest" not in name}
    assert Fusion.from_json(old) == replace(fusion, forest="", forest_weight=0.0)


def test_the_same_forest_every_time(fusion: Fusion) -> None:
    assert fit_signals_weights(("one", "other"), *world(ENOUGH_CASES), seed=0)[0] == fusion


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


def with_model(cases: int, seed: int, says: str) -> list[ModelCase]:
    """The same world, and a model: right where the history is long, always right, or knowing nothing."""
    draw = np.random.default_rng(seed + 100)
    fusion, made = Fusion(("one", "other"), (0.5, 0.5), (1.0, 1.0), 0.0, 0, 0), []
    for values, shares, length, target in zip(*world(cases, seed), strict=True):
        likelihoods = draw.normal(-5, 1, CANDIDATES).astype(np.float32)
        if says == "right" or (says == "right for long histories" and length > 10):
            likelihoods[target] = -0.5
        made.append(ModelCase(values, shares, length, fusion.linear(values), likelihoods, target))
    return made


def test_a_model_right_for_some_users_only_is_read_by_trees() -> None:
    fusion = Fusion(("one", "other"), (0.5, 0.5), (1.0, 1.0), 0.0, 0, 0)
    fitted = fit_model(fusion, with_model(ENOUGH_CASES, 0, "right for long histories"), seed=0)
    assert fitted.model == 0
    assert fitted.model_forest_weight > 0
    assert "forest with lm" in fitted.describe()
    assert Fusion.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    gains = {"trees": 0.0, "weight": 0.0}
    weighed = replace(fitted, model_forest_weight=0.0, model=1.0)
    for case in with_model(200, 1, "right for long histories"):
        for name, one in (("trees", fitted), ("weight", weighed)):
            scores = one.with_model(case.evidence, case.values, case.shares, case.length, case.likelihoods)
            gains[name] += gain_of(scores, case.target, 10) / 200
    assert gains["trees"] > gains["weight"] + 0.05


def test_few_cases_give_the_model_a_weight_and_chance_gives_it_none() -> None:
    fusion = Fusion(("one", "other"), (0.5, 0.5), (1.0, 1.0), 0.0, 0, 0)
    few = fit_model(fusion, with_model(ENOUGH_CASES - 1, 0, "right"), seed=0)
    assert few.model > 0
    assert few.model_forest_weight == 0
    assert fit_model(fusion, with_model(ENOUGH_CASES - 1, 0, "nothing"), seed=0).model <= 0.05
